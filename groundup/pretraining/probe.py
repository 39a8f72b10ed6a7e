"""How fast this machine trains a model, from half a minute of real steps.

Enters: a shape, how it is to be trained, a number of seconds. Leaves: the seconds of each step, of a validation and of
the samples. Tokens are random: what they say costs no time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles

import numpy as np

from groundup.core.progress import Progress
from groundup.core.seeding import numpy_rng, torch_rng
from groundup.dataloader import TokenSource
from groundup.inference import Engine, Sampling
from groundup.model import ModelConfig, Transformer
from groundup.pretraining.build import PretrainConfig
from groundup.pretraining.trial import Trial
from groundup.pretraining.validation import document_bits
from groundup.tokenizer import BytePairTokenizer

#: What the rates are multiplied by, so that random tokens spoil no number.
SLOWLY = 0.01
#: Share of the seconds for steps; validation and samples have the rest.
STEPPING = 0.8
#: Of validation and samples, so many windows and tokens are measured; the others take as long.
WINDOWS, TOKENS = 8, 16
#: Of the steps, so many are left out as a warm-up: memory is allocated, kernels are chosen.
WARM_UP = 0.1


@dataclass(frozen=True)
class Probe:
    """What was measured, in seconds."""

    steps: tuple[float, ...]
    """Each step after the warm-up."""
    validation: float
    """Measuring bits per byte once."""
    sampling: float
    """Writing samples once."""

    def quartiles(self) -> tuple[float, float, float]:
        """A quarter of the steps took no longer than the first, half no longer than the second, a quarter longer than
        the third."""
        first, median, third = quantiles(self.steps, method="inclusive") if len(self.steps) > 1 else self.steps * 3
        return first, median, third


def probe(model_config: ModelConfig, config: PretrainConfig, vocab_size: int, seconds: float) -> Probe:
    """Train a model of this shape for about so many seconds, two steps at least.

    Raises:
        UsageError: the device cannot compute as the configuration says.
    """
    model = Transformer(model_config, vocab_size).initialise(torch_rng(0, "weights"))
    context, rng = model_config.context, numpy_rng(0, "probe")
    # Long enough that no token is still in a fast memory from the step before.
    tokens = rng.integers(0, vocab_size, 64 * config.rows * config.accumulation * context + 1).astype(np.uint32)
    trial = Trial(model, TokenSource(tokens, config.rows, context, seed=0), config, seed=0)
    steps = _timed_steps(trial, STEPPING * seconds)
    model.eval()
    windows = min(WINDOWS, config.validation_windows)
    document = rng.integers(0, 256, windows * context + 1)
    bytes_alone = BytePairTokenizer.from_merges([])  # the first ids of every vocabulary are bytes
    validation = _seconds(trial, lambda: document_bits(model, [document], bytes_alone, stride=context, limit=windows))
    prompts = [rng.integers(0, 256, min(12, context // 2)).tolist()] * config.samples
    drawn = min(TOKENS, config.sample_tokens)
    sampling = Sampling(max_tokens=drawn)
    sampled = _seconds(trial, lambda: Engine(model, frozenset()).generate(prompts, sampling)) if prompts else 0.0
    return Probe(
        tuple(steps[max(1, int(WARM_UP * len(steps))) :]),
        validation * config.validation_windows / windows,
        sampled * config.sample_tokens / drawn,
    )


def _timed_steps(trial: Trial, seconds: float) -> list[float]:
    """Seconds of each step; the first, in which a compiler may work, is not counted against the time."""
    steps = [_seconds(trial, lambda: trial.step(SLOWLY))]
    with Progress("probe", unit="step") as progress:
        while len(steps) < 2 or sum(steps[1:]) < seconds:
            steps.append(_seconds(trial, lambda: trial.step(SLOWLY)))
            progress.advance()
    return steps


def _seconds(trial: Trial, work: Callable[[], object]) -> float:
    trial.wait()
    begun = time.perf_counter()
    work()
    trial.wait()
    return time.perf_counter() - begun
