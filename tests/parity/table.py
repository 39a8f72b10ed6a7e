"""``python -m tests.parity.table``: run ``test_families`` and write what it measured to ``docs/parity.md``.

Nothing is written if a test fails, or is skipped.
"""

import platform
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import pytest

TARGET = Path(__file__).parents[2] / "docs" / "parity.md"
COLUMNS = (
    *("logits", "loss", "gradients", "cached", "left padding", "right padding"),
    *("packed", "beyond", "round trip"),
)
TEXT = """# Parity with `transformers`

Written by `python -m tests.parity.table` from what `tests/parity/test_families.py` measured; do not edit.

Every architecture that `groundup` reads from and writes to folders of Hugging Face, as small models with loud random
weights in float32, against `transformers` (eager attention). A model is made there, saved with `save_pretrained`, and
opened here. Each number is the largest max|ours − theirs| / max|theirs| of all tensors and shapes; the tests fail above
1e-5. Rounding alone gives about 1e-7 to 1e-6.

| family | shapes | {columns} |
|---|---|{rules}|
{rows}

- **gradients**: of every parameter, of the mean cross-entropy.
- **cached**: a prompt, single tokens and several tokens at once with a KV cache, against theirs with one.
- **left padding**, **right padding**: a batch of which one row is 13 tokens shorter, against their attention mask.
- **packed**: three sequences in one row of ours, against theirs one by one.
- **beyond**: positions beyond the trained length with linear, Llama 3.1's or YaRN scaling; — where the family has none.
- **round trip**: what we write, opened by `from_pretrained`, gives the same logits; 0 is equal to the last bit.

Python {python}, torch {torch}, transformers {transformers}, {machine}.
"""


class Measured:
    """A pytest plugin that keeps the largest difference of each family and property."""

    def __init__(self) -> None:
        self.largest: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.shapes: dict[str, set[str]] = defaultdict(set)
        self.complete = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.complete = self.complete and report.passed
        for _, measured in report.user_properties if report.when == "call" else ():
            assert isinstance(measured, tuple)
            family, shape, name, value = measured
            self.shapes[family].add(shape)
            self.largest[family][name] = max(self.largest[family][name], value)


def row(measured: Measured, family: str) -> str:
    found = measured.largest[family]
    cells = ("—" if name not in found else f"{found[name]:.0e}" if found[name] else "0" for name in COLUMNS)
    return f"| {family} | {len(measured.shapes[family])} | {' | '.join(cells)} |"


def main() -> int:
    measured = Measured()
    code = pytest.main([str(Path(__file__).with_name("test_families.py")), "-q", "-p", "no:xdist"], plugins=[measured])
    if code or not measured.complete:
        print("not every test passed; nothing is written", file=sys.stderr)
        return 1
    text = TEXT.format(
        columns=" | ".join(COLUMNS),
        rules="|".join("---:" for _ in COLUMNS),
        rows="\n".join(row(measured, family) for family in measured.largest),
        python=platform.python_version(),
        torch=version("torch").partition("+")[0],
        transformers=version("transformers"),
        machine=platform.machine(),
    )
    TARGET.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
