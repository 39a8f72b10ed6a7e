"""Generating text: our engine beside transformers' ``generate``, the same weights, greedy, in float32.

``python -m benchmarks.decoding``. All prompts at once, and some one by one. Prompts have one length and nothing
stops early, so the peer pads nothing and computes no token in vain. All ids must be equal before anything is timed.
"""

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks._common import OURS, Case, Prepared, Rounds, compare, main, require_positive
from benchmarks._twin import shape_of, twin
from groundup.core.device import choose_device
from groundup.core.errors import UsageError
from groundup.core.seeding import numpy_rng, torch_rng
from groundup.inference import Engine, Sampling
from groundup.model import Transformer
from groundup.recipes import load

Ids = list[list[int]]


@dataclass(frozen=True)
class Decoding(Rounds):
    """What is generated."""

    recipe: str = "quickstart"
    """Gives the model's shape and the vocabulary."""
    prompts: int = 64
    """Prompts answered at once."""
    prompt_tokens: int = 32
    """Length of each prompt."""
    new_tokens: int = 64
    """Tokens generated for each."""
    single: int = 8
    """How many of the prompts are also answered one by one."""
    device: str = "auto"
    """Where to generate."""

    def __post_init__(self) -> None:
        require_positive(self, "rounds", "prompts", "prompt_tokens", "new_tokens", "single")
        if self.single > self.prompts:
            raise UsageError(f"single is {self.single}, prompts {self.prompts}; it cannot be more")


def task(settings: Decoding) -> tuple[Transformer, Ids]:
    """The model and the prompts: random, so that every layer matters, unlike at the start of training."""
    recipe = load(settings.recipe)
    model, generator = (
        Transformer(shape_of(recipe.model), recipe.tokenizer.vocab_size),
        torch_rng(recipe.seed, "benchmark"),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 1.0, 0.2, generator=generator)
    shape = (settings.prompts, settings.prompt_tokens)
    prompts = numpy_rng(recipe.seed, "benchmark").integers(0, model.vocab_size, shape)
    return model.eval().to(choose_device(settings.device)), prompts.tolist()


def prepared(generate: Any, settings: Decoding, prompts: Ids) -> Prepared:
    """The side whose ``generate`` answers prompts of one length together."""

    def together() -> Ids:
        return generate(prompts)

    def one_by_one() -> Ids:
        return [answer for prompt in prompts[: settings.single] for answer in generate([prompt])]

    cases = {
        f"{settings.prompts} at once": Case(settings.prompts * settings.new_tokens, lambda: together),
        "one by one": Case(settings.single * settings.new_tokens, lambda: one_by_one),
    }
    return Prepared([together(), one_by_one()], cases)


def ours(settings: Decoding) -> Prepared:
    """The engine that samples, evaluates and serves; no token stops it."""
    model, prompts = task(settings)
    engine = Engine(model, frozenset(), max_rows=settings.prompts)
    sampling = Sampling(temperature=0, max_tokens=settings.new_tokens)

    def generate(some: Ids) -> Ids:
        return [list(answer.ids) for answer in engine.generate(some, sampling)]

    return prepared(generate, settings, prompts)


def peer(settings: Decoding) -> Prepared:
    """``generate`` with its own key/value cache."""
    model, prompts = task(settings)
    theirs = twin(model).eval()
    del model

    @torch.inference_mode()
    def generate(some: Ids) -> Ids:
        ids = torch.tensor(some, device=theirs.device)
        mask = torch.ones_like(ids)
        answers = theirs.generate(ids, attention_mask=mask, max_new_tokens=settings.new_tokens, do_sample=False)
        return answers[:, ids.shape[1] :].tolist()

    return prepared(generate, settings, prompts)


def run(settings: Decoding) -> dict[str, Any]:
    """Both sides in turn."""
    sides = {OURS: partial(ours, settings), "transformers": partial(peer, settings)}
    return compare(sides, "token", settings.rounds, ("torch", "transformers"))


if __name__ == "__main__":
    sys.exit(main(Decoding, "decoding", run))
