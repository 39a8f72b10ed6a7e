"""``python -m tests.planning.memory_table``: measure by 1, 2 and 4 processes and write ``docs/memory.md``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup.core.files import write_text
from tests.distributed.conftest import run_together
from tests.planning.memory import DENSE, EXPERTS, ROWS, VOCABULARY

TARGET = Path(__file__).parents[2] / "docs" / "memory.md"
HEADER = f"""\
# Memory: predicted and measured

Written by `python -m tests.planning.memory_table`, which starts 1, 2 and 4 processes on a CPU; do not edit.

Each row is the second step of a model of {DENSE.layers} layers and width {DENSE.width} ("experts": \
{EXPERTS.experts.count} experts in each layer) on {ROWS} rows of {DENSE.context} tokens, a vocabulary of {VOCABULARY:,},
in float32 with AdamW if nothing else is said. Measured are the bytes of tensors that PyTorch's allocator had given out
at once, in the process with the most; predicted is what `groundup plan --devices` computes, for operations as a CPU
runs them. The error is (predicted - measured) / measured.

What PyTorch's threads for messages let go of, its profiler does not always see: the measured numbers of plans with a
tensor dimension differ from run to run, up to a seventh, and now and then one is far too small. The others stay.

| processes | plan | measured in MB | predicted | error |
|---:|---|---:|---:|---:|
"""


def table(results: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> str:
    """The page, of what ``tests.planning.memory`` printed in each number of processes."""
    rows = [
        f"| {processes} | {name} | {row['measured'] / 1e6:.1f} | {row['predicted'] / 1e6:.1f} "
        f"| {row['predicted'] / row['measured'] - 1:+.0%} |"
        for processes, found in results.items()
        for name, row in found.items()
    ]
    return HEADER + "\n".join(rows) + "\n"


if __name__ == "__main__":
    write_text(TARGET, table({count: run_together(count, "tests.planning.memory") for count in (1, 2, 4)}))
