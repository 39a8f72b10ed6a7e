"""Is the loss that was logged the next-token loss of this model on this data?

Enters: the checkpoint, the shard, the logged losses. Leaves: findings. The model itself is asked: a later token is
changed, and earlier logits must stay; its loss is measured again on what it was trained on. Where that is far above
what was logged, the run has minimised something else, and the weights tell what: they copy the token that they read,
or they work only when they see the tokens to come.
"""

from collections.abc import Iterator

import numpy as np
import torch

from groundup.core.seeding import torch_rng
from groundup.diagnosis.finding import Finding
from groundup.diagnosis.probes import Unmasked, affordable_windows, look_ahead, losses, windows
from groundup.diagnosis.records import Stage

#: A measured loss is not the logged one if it is higher by these nats, this share, and so many deviations.
NATS, SHARE, DEVIATIONS = 0.3, 0.15, 4.0
#: Steps before the checkpoint whose logged losses count.
RECENT = 10
#: An explanation must account for so much of the difference.
EXPLAINED = 0.7


def check_mask(stage: Stage) -> Iterator[Finding]:
    """Change a later token: earlier logits must not move."""
    if stage.model is None:
        return
    time = stage.model.config.context
    tokens = stage.tokens("train")
    if tokens is None:
        ids = torch.randint(stage.model.vocab_size, (4, time), generator=torch_rng(0, "mask"))
    else:
        ids = windows(tokens, time, 4)[:, :-1]
    leak = look_ahead(stage.model, ids)
    if not leak.found:
        return
    evidence = (
        f"changing token {leak.changed} moves the logits of {leak.positions} of {leak.changed} earlier positions, "
        f"by up to {leak.largest:.2g} (their standard deviation is {leak.scale:.2g})"
    )
    remedy = "repair the attention mask (groundup/model/attention.py): position t may see only 0 to t; then train anew"
    what = "the attention mask is not causal: tokens see what they have to predict"
    where = f"{stage.name}, the model as it is computed now"
    yield Finding("mask-not-causal", "failure", what, evidence, remedy, where, {"largest": leak.largest})


def check_logged_loss(stage: Stage) -> Iterator[Finding]:
    """Measure the loss again on the train shard, and explain it where it is not the one that was logged."""
    model, tokens = stage.model, stage.tokens("train")
    steps, logged_losses = stage.series("loss")
    at = stage.state.get("step", 0)
    recent = logged_losses[(steps <= at) & (steps > at - RECENT)]
    if model is None or tokens is None or len(recent) < 3:
        return
    count = affordable_windows(model, passes=3)
    if not count:
        return
    ids = windows(tokens, model.config.context, count)
    logged, each = float(np.median(recent)), losses(model, ids, mark=stage.mark)
    actual = float(np.median(each))
    gap = actual - logged
    if not gap > max(NATS, SHARE * logged, DEVIATIONS * float(recent.std())):
        return
    evidence = f"logged training loss {logged:.2f}, but {actual:.2f} on {len(ids)} windows of its own train split"
    numbers = {"logged": logged, "measured": actual}
    where = stage.steps(steps[0], at)
    near = logged + (1 - EXPLAINED) * gap
    copied = float(np.median(losses(model, ids, ahead=0, mark=stage.mark)))
    unmasked = stage.opened(Unmasked)
    seeing = actual if unmasked is None else float(np.median(losses(unmasked, ids)))
    known = float((each < near).mean())
    if copied < near and copied <= seeing:
        evidence += f"; {copied:.2f} at repeating the token that it reads"
        remedy = (
            "shift the targets by one: targets = ids[:, 1:], inputs = ids[:, :-1] (the source of batches); train anew"
        )
        what = "the labels were not shifted: the model has learnt to copy its input"
        yield Finding("labels-not-shifted", "failure", what, evidence, remedy, where, {**numbers, "copying": copied})
    elif seeing < near:
        evidence += f"; {seeing:.2f} when it may see the tokens to come"
        remedy = "train anew with a causal mask: the attention of the training saw the whole row"
        what = "the attention mask was not causal: the model was trained on what it had to predict"
        yield Finding("mask-not-causal", "failure", what, evidence, remedy, where, {**numbers, "unmasked": seeing})
    elif known > 0:
        evidence += f"; {known:.1%} of these windows are known as well as logged, the others are as if never seen"
        remedy = "look at the source of batches: it repeats a few rows instead of visiting all windows of the shard"
        what = "batches repeat: only a part of the train split was learnt"
        yield Finding("batches-repeat", "failure", what, evidence, remedy, where, {**numbers, "known": known})
    else:
        remedy = "look at the objective and the source of batches: they do not compute the next-token loss of the shard"
        what = "the logged loss is not the next-token loss of the train split"
        yield Finding("loss-of-other-data", "failure", what, evidence, remedy, where, numbers)
