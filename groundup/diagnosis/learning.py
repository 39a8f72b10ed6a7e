"""How the loss, the gradients and the validation went, and whether the learning rate is why.

Enters: a stage's records, and its checkpoint and shard for probes. Leaves: findings.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from groundup.diagnosis.finding import Finding, worse
from groundup.diagnosis.probes import PROBE_STEPS, RateProbe, gradients_by_block, windows
from groundup.diagnosis.records import VALIDATIONS, Ids, Numbers, Stage

#: Steps without a usable number are a failure if they are this share of all, or the last one; else a warning.
SHARE = 0.05
#: Share of GRPO's steps that may be empty.
GRPO_EMPTY = 0.5
#: Fewer logged steps than these say nothing about a trend.
LEAST_STEPS = 24
#: A learning rate is wrong if another one ends the probe at least so many nats lower. A few steps like a rate ten times
#: as large as a whole run does: the recipe's is right if the best of the probe is 1 or 10 times it.
GAIN, EAGER = 0.25, 10.0
#: A loss has jumped if it was so many nats above its start; it has risen if it ends this share of what it had gained
#: above its lowest.
JUMP, RISE = 0.5, 0.3
#: The gradient has exploded or vanished if it changed by such a factor, over time and over depth.
OVER_TIME, OVER_DEPTH = 30.0, 1000.0
#: Validation is rising if it ends this share above its lowest; a failure from the second on.
OVERFIT, OVERFIT_FAILURE = 0.03, 0.1


def running_median(values: Numbers, width: int) -> Numbers:
    """Median of each value and those before it, ``width`` in all: [len(values)]."""
    return np.array([np.median(values[max(0, place - width + 1) : place + 1]) for place in range(len(values))])


def check_numbers(stage: Stage) -> Iterator[Finding]:
    """Steps that were skipped: not a finite number, or nothing to learn."""
    skipped = [row["step"] for row in stage.rows if row.get("skipped")]
    if not skipped:
        return
    why = {event["step"]: str(event.get("why", "")) for event in stage.events if event.get("event") == "skipped"}
    # GRPO's answers that are all right or all wrong teach nothing, which is usual; earlier versions did not say why.
    unsaid, usual = ("no target", GRPO_EMPTY) if stage.name == "grpo" else ("", 0.0)
    overflow = {step for step, said in why.items() if "overflow" in said}
    empty = {step for step in skipped if "no target" in why.get(step, unsaid)}
    broken = [step for step in skipped if step not in overflow | empty]
    steps = sum(row["step"] > 0 for row in stage.rows)
    if broken:
        yield _not_finite(stage, broken, steps, why)
    if len(empty) > usual * steps:
        evidence = f"{len(empty)} of {steps} steps had no target to learn"
        remedy = "look at the conversations or documents of these steps: everything in them is masked"
        if usual:
            remedy = "all answers to a problem were right, or all wrong: raise --grpo.temperature or --grpo.group"
        where = stage.steps(min(empty), max(empty))
        severity = worse(len(empty) > SHARE * steps)
        yield Finding(
            "empty-steps", severity, "steps had nothing to learn", evidence, remedy, where, {"steps": len(empty)}
        )


def _not_finite(stage: Stage, broken: list[int], steps: int, why: dict[int, str]) -> Finding:
    at_end = broken[-1] == stage.last_step
    severity = worse(at_end or len(broken) > SHARE * steps)
    said = f"; the first was skipped because {why[broken[0]]}" if broken[0] in why else ""
    evidence = f"{len(broken)} of {steps} steps were skipped" + (", the last one among them" if at_end else "") + said
    _, norms = stage.series("gradient_norm")
    if len(norms):
        evidence += f"; gradient norm before: {norms[-1]:.3g}"
    rate = stage.setting("optimizer", "matrix_rate", default=0.0) or stage.setting("optimizer", "rate", default=0.0)
    lower = f"lower {stage.name}.optimizer.matrix-rate and .rate" + (f" (now {rate:g})" if rate else "")
    remedy = f"{lower}, or set --{stage.name}.precision float32; if it is at once, look at the objective and the data"
    what = "the loss or its gradient stopped being a number (NaN or infinite)"
    numbers = {"skipped": len(broken), "steps": steps}
    return Finding("not-finite", severity, what, evidence, remedy, stage.steps(broken[0], broken[-1]), numbers)


def check_loss(stage: Stage) -> Iterator[Finding]:
    """A loss that does not fall, or rises again, and which learning rate would do better."""
    steps, loss = stage.series("loss")
    if stage.name in ("dpo", "grpo") or len(loss) < LEAST_STEPS:
        return
    smooth = running_median(loss, max(5, len(loss) // 20))
    first, last, lowest = float(loss[:3].mean()), float(smooth[-1]), float(smooth.min())
    at_lowest = int(steps[smooth.argmin()])
    rises = last > lowest + RISE * max(first - lowest, 0.1) and last > lowest + 0.1
    tokens, head = stage.tokens("train"), stage.head("train")
    frequencies = None if head is None else unigram_entropy(head)
    stuck = last > (0.95 * first if frequencies is None else 0.95 * min(first, frequencies))
    jumped = float(smooth.max()) > first + JUMP
    if not (rises or stuck or jumped):
        return
    numbers = {"first": first, "last": last, "lowest": lowest}
    evidence = f"loss {first:.2f} at the start, {lowest:.2f} at its lowest (step {at_lowest}), {last:.2f} at the end"
    if frequencies is not None:
        numbers["frequencies"] = frequencies
        evidence += f"; knowing only how frequent each token is gives {frequencies:.2f}"
    where = stage.steps(at_lowest if rises else steps[0], steps[-1])
    tell = partial(_rate_finding, stage, evidence, where, numbers)
    probe = None if tokens is None or stage.model is None else RateProbe(stage, stage.model, tokens)
    if probe is None or not probe.affordable or stage.setting("start", default=None):  # it begins with new weights
        if rises:
            yield tell("loss-rising", "the loss rose again", _lower(stage))
        return
    yield from _judged(stage, probe.results, loss, rises, tell)


def _judged(stage: Stage, probe: dict[float, float], loss: Numbers, rises: bool, tell: Any) -> Iterator[Finding]:
    """What the probe of learning rates says about a loss that does not fall."""
    own, best = probe[1.0], min(probe, key=lambda multiplier: probe[multiplier])
    tried = ", ".join(f"×{multiplier:g} {value:.2f}" for multiplier, value in probe.items())
    said = (
        f"; from new weights {PROBE_STEPS} steps at multiples of its learning rate end at {tried}{_update_ratio(stage)}"
    )
    numbers = {f"probe_{multiplier:g}": value for multiplier, value in probe.items()}
    better, remedy = own - probe[best] > GAIN, _times(stage, best / EAGER)
    if better and best > EAGER:
        yield tell("learning-rate-too-low", "the learning rate is too low", remedy, said, numbers)
    elif better and best < 1:
        yield tell("learning-rate-too-high", "the learning rate is too high", remedy, said, numbers)
    elif rises:
        yield tell("loss-rising", "the loss rose again", _lower(stage), said, numbers)
    elif len(loss) > 2 * PROBE_STEPS and np.median(loss[PROBE_STEPS : 2 * PROBE_STEPS]) > own + GAIN:
        remedy = (
            "look at the objective and the source of batches: what the targets are, and whether the inputs are theirs"
        )
        what = "the run does not learn what its own shard teaches"
        yield tell("targets-unlearnable", what, remedy, said, numbers)


def _rate_finding(
    stage: Stage, evidence: str, where: str, numbers: dict[str, float],
    name: str, what: str, remedy: str, said: str = "", more: dict[str, float] | None = None,
) -> Finding:  # fmt: skip
    finite = {key: value for key, value in {**numbers, **(more or {})}.items() if np.isfinite(value)}
    return Finding(name, "failure", what, evidence + said, remedy, where, finite)


def _rates(stage: Stage) -> dict[str, float]:
    """The rates that the recipe sets, by the key of the command line."""
    names = {"matrix-rate": "matrix_rate", "rate": "rate"}
    found = {name: float(stage.setting("optimizer", key, default=0.0)) for name, key in names.items()}
    return {f"--{stage.name}.optimizer.{name}": value for name, value in found.items() if value}


def _times(stage: Stage, factor: float) -> str:
    if rates := _rates(stage):
        return "try " + " ".join(f"{key} {value * factor:.2g}" for key, value in rates.items())
    return f"multiply {stage.name}.optimizer.matrix-rate and .rate by {factor:g}"


def _lower(stage: Stage) -> str:
    return _times(stage, 0.3) + f", or warm up for longer ({stage.name}.schedule.warmup)"


def _update_ratio(stage: Stage) -> str:
    """The largest measured size of an update relative to its weights, in words."""
    names = {key for row in stage.rows for key in row if key.startswith("update_ratio/")}
    peaks = {name.partition("/")[2]: float(stage.series(name)[1].max(initial=0.0)) for name in sorted(names)}
    if not peaks:
        return ""
    return "; an update changed the weights by at most " + ", ".join(
        f"{peak:.1e} ({name})" for name, peak in peaks.items()
    )


def unigram_entropy(ids: Ids) -> float:
    """Nats that a token costs who knows only how frequent each token is."""
    counts = np.bincount(ids)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def check_gradients(stage: Stage) -> Iterator[Finding]:
    """Gradients that grew or shrank by orders of magnitude, over time or over depth."""
    yield from _over_time(stage)
    tokens = stage.tokens("train")
    if stage.model is None or tokens is None or stage.model.config.layers < 2:
        return
    norms = gradients_by_block(stage.model, windows(tokens, stage.model.config.context, 2))
    first, last = float(norms[0]), float(norms[-1])
    evidence = f"gradient norm {first:.1e} in the first block, {last:.1e} in the last of {len(norms)}"
    numbers = {"first_block": first, "last_block": last}
    where = f"{stage.name}, checkpoint of step {stage.state.get('step', '?')}"
    remedy = "keep the residual path open: --model.norm-place pre, --model.init zero or depth-scaled; or fewer layers"
    if not np.isfinite(norms).all():
        remedy = "go on from an earlier checkpoint, with a lower learning rate"
        what = "the checkpoint's gradient is not a number"
        yield Finding("not-finite", "failure", what, evidence, remedy, where)
    elif first * OVER_DEPTH < last:
        what = "gradients vanish on their way to the first layers"
        yield Finding("gradient-vanishing", "failure", what, evidence, remedy, where, numbers)
    elif first > OVER_DEPTH * last:
        what = "gradients explode on their way to the first layers"
        yield Finding("gradient-exploding", "failure", what, evidence, remedy, where, numbers)


def _over_time(stage: Stage) -> Iterator[Finding]:
    steps, norms = stage.series("gradient_norm")
    _, loss = stage.series("loss")
    if len(norms) < LEAST_STEPS:
        return
    smooth = running_median(norms, 5)[4:]
    place = int(smooth.argmin())
    lowest, last, highest = float(smooth[place]), float(np.median(norms[-5:])), float(smooth.max())
    clip = float(stage.setting("clip", default=1.0))
    numbers = {"lowest": lowest, "last": last, "highest": highest, "clip": clip}
    if last > OVER_TIME * lowest and last > 10 * clip:
        evidence = f"gradient norm {lowest:.3g} at step {steps[place + 4]}, {last:.3g} at the end; clipped to {clip:g}"
        what, where = "gradients explode", stage.steps(steps[place + 4], steps[-1])
        yield Finding("gradient-exploding", "failure", what, evidence, _lower(stage), where, numbers)
    elif last * OVER_DEPTH < highest and loss[-5:].mean() > 0.5 * loss[:3].mean():
        evidence = f"gradient norm {highest:.3g} at its highest, {last:.3g} at the end, with a loss of {loss[-1]:.2f}"
        what, where = "gradients vanish", stage.steps(steps[int(smooth.argmax()) + 4], steps[-1])
        remedy = "look for what saturates: a soft cap, a scale, or weights that grew without decay"
        yield Finding("gradient-vanishing", "failure", what, evidence, remedy, where, numbers)


def check_overfitting(stage: Stage) -> Iterator[Finding]:
    """Validation that rises while the training loss falls."""
    for key in VALIDATIONS:
        steps, values = stage.series(key)
        if len(values) >= 4:
            break
    else:
        return
    best = int(values.argmin())
    since = values[best + 1 :]
    lowest, last = float(values[best]), float(values[-1])
    train_steps, loss = stage.series("loss")
    if len(since) < 2 or last < lowest * (1 + OVERFIT) or not len(loss):
        return
    then = float(np.median(loss[np.abs(train_steps - steps[best]).argsort()[:5]]))
    now = float(np.median(loss[-5:]))
    _, exact = stage.series("exact_match")
    if now > then or (len(exact) == len(values) and exact[-1] >= exact[best]):
        return  # both rise: that is no overfitting; or the answers still become better
    evidence = (
        f"{key.replace('_', ' ')} {lowest:.3f} at step {steps[best]}, {last:.3f} at step {steps[-1]} "
        f"(+{last / lowest - 1:.0%}), while the training loss went from {then:.2f} to {now:.2f}{_epochs(stage)}"
    )
    remedy = (
        f"stop at step {steps[best]} (--{stage.name}.stop-after 2), give more text, or a smaller model (--model.width)"
    )
    severity = worse(last > lowest * (1 + OVERFIT_FAILURE))
    numbers = {"lowest": lowest, "last": last, "train_then": then, "train_now": now}
    where = stage.steps(steps[best], steps[-1])
    yield Finding("overfitting", severity, "the model overfits", evidence, remedy, where, numbers)


def _epochs(stage: Stage) -> str:
    """How often the train split was read, in words."""
    split, (_, tokens) = stage.tokens("train"), stage.series("tokens")
    return "" if split is None or not len(tokens) else f"; the train split was read {tokens[-1] / len(split):.1f} times"
