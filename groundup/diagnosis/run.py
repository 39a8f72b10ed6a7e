"""All checks of a run, the causes before what follows from them.

Enters: a run directory, the folder of a stage, or a checkpoint. Leaves: findings, the worst first.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from groundup.core.progress import Progress
from groundup.diagnosis import bands, computation, data, generation, learning, speed
from groundup.diagnosis.finding import SEVERITIES, Finding, guarded
from groundup.diagnosis.records import Stage, open_stages

#: Every check of a stage, in the order of causes: what a finding explains comes after it.
CHECKS: dict[str, Callable[[Stage], Iterator[Finding]]] = {
    "memory": speed.check_memory,
    "finite numbers": learning.check_numbers,
    "tokenizer": data.check_tokenizer,
    "shards": data.check_shards,
    "mask": computation.check_mask,
    "logged loss": computation.check_logged_loss,
    "gradients": learning.check_gradients,
    "ends": data.check_ends,
    "contamination": data.check_contamination,
    "repetition": data.check_repetition,
    "learning rate": learning.check_loss,
    "overfitting": learning.check_overfitting,
    "epochs": data.check_epochs,
    "samples": generation.check_samples,
    "answers": generation.check_stops,
    "reference": bands.check_band,
    "loader": speed.check_loader,
    "contention": speed.check_contention,
    "interruption": speed.check_end,
}


def diagnose(path: Path) -> list[Finding]:
    """What is wrong with the run at ``path``; nothing where it is healthy, but for its reference bands.

    Raises:
        UsageError: there is no run.
    """
    stages = open_stages(path)
    found: list[Finding] = []
    with Progress("doctor: run", len(stages) * len(CHECKS), "check") as progress:
        for stage in stages:
            for name, check in CHECKS.items():
                found += guarded(f"{name} ({stage.name})", partial(check, stage))
                progress.advance(note=name)
    return by_severity(list({(finding.name, finding.evidence): finding for finding in reversed(found)}.values())[::-1])


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first; of one severity in the order in which they were found."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
