"""``python -m tests.distributed.table [GROUP …]``: run the cells of the matrix and write ``docs/equality.md``.

Groups that are not named keep the rows that they have, and so do slow cells, unless ``GROUNDUP_SLOW=1`` has them run,
which takes hours. Nothing is written of a group if a difference is too large.
"""

import os
import re
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path

from groundup.core.files import write_text
from tests.distributed.conftest import run_together
from tests.distributed.matrix import cells_of
from tests.distributed.test_matrix import GROUPS, PROCESSES, beyond

TARGET = Path(__file__).parents[2] / "docs" / "equality.md"
#: What stands before the tables.
HEADER = """\
# Several processes equal one

Written by `python -m tests.distributed.table` from what the cells of `tests/distributed/cells_*.py` measured; do not
edit.

Each row is a small model trained for five steps of plain gradient descent, or of the optimizer that it names, by
several processes on a CPU (Gloo), and by one. Each number is the largest max|several - one| / max|one| of all tensors.
Rounding alone gives about 1e-7 to 1e-6 in float32, and 1e-2 in bfloat16.

- **loss**: losses and gradient norms of the five steps.
- **gradients**: of every parameter, in the first step.
- **weights**: after the five steps.

"compiled" is, with two processes, with the code that Inductor generates, but for "tensor, dense" and "context 2, ring,
dense"; these, and all of four processes, are with all of `torch.compile` but the generated code.
"""
#: What a cell measures.
COLUMNS = ("measures", "gradients", "weights")
HEAD = ("| plan | loss | gradients | weights |", "|---|---:|---:|---:|")


def main(*wanted: str) -> None:
    before = TARGET.read_text(encoding="utf-8") if TARGET.exists() else ""
    tables = dict(re.findall(r"^## (.*?)\n\n(.*?)\n(?=\n## |\Z)", before, re.DOTALL | re.MULTILINE))
    names = [f"{group}, {processes} processes" for group in GROUPS for processes in PROCESSES]
    for group, processes in product(wanted or GROUPS, PROCESSES):
        title = f"{group}, {processes} processes"
        rows = {line.split(" | ")[0].removeprefix("| "): line for line in tables.get(title, "").splitlines()[2:]}
        for slow in ((), ("--slow",)) if "GROUNDUP_SLOW" in os.environ else ((),):
            found = run_together(processes, "tests.distributed.matrix", group, *slow)[group]
            rows |= lines_of(found)
        cells = [cell.name for slow in (False, True) for cell in cells_of(group, processes, slow)]
        tables[title] = "\n".join([*HEAD, *(rows[name] for name in cells if name in rows)])
        parts = [f"## {name}\n\n{tables[name]}\n" for name in names if name in tables]
        write_text(TARGET, "\n".join([HEADER, *parts]))


def lines_of(found: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """The rows of cells, by name."""
    assert not (wrong := beyond(found)), wrong
    return {name: f"| {name} | {' | '.join(shown(row[key]) for key in COLUMNS)} |" for name, row in found.items()}


def shown(value: float) -> str:
    return f"{value:.0e}" if value else "0"


if __name__ == "__main__":
    main(*sys.argv[1:])
