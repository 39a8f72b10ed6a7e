"""``python -m tests.real.record [--windows N] [--work FOLDER]``: run what this folder tests; write docs/real-model.md.

The perplexity of the whole of WikiText-2's test split takes half an hour a side on one core. FOLDER keeps what each
window was measured to be, so that an interrupted measurement goes on; it is for one version of the code. Nothing is
written if a test fails, or is skipped.
"""

import argparse
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from groundup.core.progress import Progress
from groundup.inference.opening import OpenModel, open_model
from tests.real.perplexity import WINDOW, Logits, perplexity, surprisal, windows
from tests.real.sides import LENGTH, MODEL, WIKITEXT, model_file, open_in_transformers, wikitext

TARGET = Path(__file__).parents[2] / "docs" / "real-model.md"
TEXT = """# A real model

Written by `python -m tests.real.record` from what `tests/real` measured; do not edit.

SmolLM2-135M-Instruct ({licence}; {layers} layers, {parameters:,} parameters) is a GGUF file in Q4_1 in the package
`{model}` of the package registry. `groundup.open_model` opens it; so do `transformers` and llama.cpp. Here and in
`transformers` its weights become the same float32 numbers, to the last bit, and all is computed in float32 on a CPU.

## What it says

{prompts} prompts (prose in several scripts, code, numbers, lists, blanks, chats), each continued by the {length}
likeliest tokens, one after the other, by each side with its own cache:

| ours | against | same continuations | tokens before the first difference |
|---|---|---:|---:|
{rows}

In the closest of our {tokens:,} choices the likeliest token's logit was {closest:.1e} above the next one's.

An export in F16 or Q8_0 rounds the weights once more, and llama.cpp rounds the activations that meet them; we do not.
Where that turns a close choice, all that follows is another text.

## How well it predicts

Perplexity on the raw test split of WikiText-2 (package `{wikitext}`), {ids:,} tokens in {count} windows of {window:,}
that do not overlap; the first token of each is given. Measured: {measured}.

| | perplexity |
|---|---:|
| ours | {ours:.5f} |
| transformers | {theirs:.5f} |

They differ by {difference:.0e} of their value, and by {largest:.0e} at most in a window.

## What it reads

- These {ids:,} ids are the same in llama.cpp and, from the folder that `groundup export` writes, in `transformers`.
  From the GGUF file, `transformers` reads {misread:,} of the text's {lines:,} lines otherwise, since it does not cut
  around digits as the file says.
- {chats} conversations become the same ids by our reading of the chat template and by `apply_chat_template`.

Python {python}, torch {torch}, transformers {transformers}, llama-cpp-python {llama}, {machine}.
"""


class Measured:
    """A pytest plugin that keeps what the tests recorded."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, list[int]]] = []
        self.closest = 0.0
        self.chats = 0
        self.complete = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.complete = self.complete and report.passed
        if report.when == "call":
            self.chats += "chat_template" in report.nodeid
            for name, value in report.user_properties:
                if name == "closest":
                    assert isinstance(value, float)
                    self.closest = value
                else:
                    assert isinstance(value, tuple)
                    self.rows.append(value)

    @staticmethod
    def row(ours: str, against: str, same: list[int]) -> str:
        whole = sum(length == LENGTH for length in same)
        return f"| {ours} | {against} | {whole} of {len(same)} | {sum(same):,} of {LENGTH * len(same):,} |"


def surprisals(name: str, model: Logits, parts: list[Tensor], work: Path) -> list[float]:
    """Of every window; those that ``work`` has are not measured again."""
    path = work / f"{name}.txt"
    done = [float(line) for line in path.read_text(encoding="utf-8").split()] if path.is_file() else []
    with path.open("a", encoding="utf-8") as stream, Progress(name, len(parts), "window", len(done)) as progress:
        for part in parts[len(done) :]:
            done.append(surprisal(model, part))
            print(repr(done[-1]), file=stream, flush=True)
            progress.advance(1)
    return done[: len(parts)]


def misread_lines(opened: OpenModel, file: Path, lines: list[str]) -> int:
    """How many lines become other ids in transformers, which reads the tokenizer from the GGUF file."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)(lines)["input_ids"]
    return sum(opened.ids(line) != ids for line, ids in zip(lines, theirs, strict=True))


def measure(work: Path, count: int | None) -> dict[str, Any]:
    """What the tests do not measure: perplexity on ``count`` windows, and what transformers misreads."""
    file, text = model_file(work), wikitext()
    opened, reference = open_model(file), open_in_transformers(file)
    ids, lines = opened.ids(text), text.splitlines(keepends=True)
    whole = windows(ids)
    parts = whole[:count]
    ours = surprisals("ours", opened.model, parts, work)
    theirs = surprisals("transformers", lambda window: reference(window).logits, parts, work)
    mine, their = perplexity(ours, parts), perplexity(theirs, parts)
    return {
        "layers": opened.model.config.layers,
        "parameters": sum(parameter.numel() for parameter in opened.model.parameters()),
        "ids": len(ids),
        "count": len(whole),
        "measured": "all of them" if len(parts) == len(whole) else f"the first {len(parts)}",
        "ours": mine,
        "theirs": their,
        "difference": abs(mine / their - 1),
        "largest": max(abs(one / other - 1) for one, other in zip(ours, theirs, strict=True)),
        "misread": misread_lines(opened, file, lines),
        "lines": len(lines),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.real.record")
    parser.add_argument("--work", type=Path, help="folder that keeps the windows measured so far")
    parser.add_argument("--windows", type=int, help="measure perplexity on only so many (default: all)")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    measured = Measured()
    code = pytest.main([str(Path(__file__).parent), "-m", "real", "-p", "no:xdist"], plugins=[measured])
    if code or not measured.complete:
        print("not every test passed; nothing is written", file=sys.stderr)
        return 1
    prompts = len(measured.rows[0][2])
    text = TEXT.format(
        **measure(work, options.windows),
        rows="\n".join(measured.row(*row) for row in measured.rows),
        closest=measured.closest,
        chats=measured.chats,
        prompts=prompts,
        length=LENGTH,
        tokens=prompts * LENGTH,
        window=WINDOW,
        model=f"{MODEL.package}=={MODEL.version}",
        licence=MODEL.licence,
        wikitext=f"{WIKITEXT.package}=={WIKITEXT.version}",
        python=platform.python_version(),
        torch=version("torch").partition("+")[0],
        transformers=version("transformers"),
        llama=version("llama-cpp-python"),
        machine=platform.machine(),
    )
    TARGET.write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
