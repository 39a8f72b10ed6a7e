import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from groundup.inspection import Inspection

Command = Callable[..., Any]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that take no time: one file for each layer."""

    def draw(_inspection: Inspection, folder: Path, layers: Sequence[int]) -> Iterator[Path]:
        for layer in layers:
            (folder / f"attention-layer-{layer + 1}.png").touch()
            yield folder / f"attention-layer-{layer + 1}.png"

    monkeypatch.setattr("groundup.inspection.figures.draw", draw)


def test_a_summary_is_printed_and_everything_is_written(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    done = command("inspect", checkpoint, "be, or not be", "--out", out, "--top", 3)
    assert done.code == 0
    assert "2 layers of 2 heads, 14 tokens" in done.out
    assert "look at the token before" in done.out
    assert done.out.splitlines()[-1] == str(out)
    told = json.loads((out / "inspection.json").read_text(encoding="utf-8"))
    assert {path.name for path in out.iterdir()} == {"inspection.json", *told["files"]}
    assert [entry["layer"] for entry in told["attention"]] == [1, 2]
    assert len(told["prediction"]["top"][0][0]) == 3
    assert len(told["neighbours"][0]["nearest"]) == 3
    assert not list(tmp_path.glob(".incomplete-*"))


def test_json_goes_to_stdout_and_nowhere_else(
    command: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("inspect", checkpoint, "be", "--json", "--layers", 2)
    told = json.loads(done.out)
    assert [entry["layer"] for entry in told["attention"]] == [2]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_an_earlier_inspection_is_replaced_as_a_whole(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    assert command("inspect", checkpoint, "first", "--out", out).code == 0
    assert (out / "attention-layer-1.png").exists()
    assert command("inspect", checkpoint, "second", "--out", out, "--layers", 2).code == 0
    assert not (out / "attention-layer-1.png").exists()
    assert json.loads((out / "inspection.json").read_text(encoding="utf-8"))["text"] == "second"


@pytest.mark.parametrize("name", ["notes.txt", "inspection.json", "attention.png"])
def test_files_of_others_are_left_alone(name: str, command: Command, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}", encoding="utf-8")
    refused = command("inspect", checkpoint, "text", "--out", tmp_path)
    assert refused.code == 2
    assert refused.complaint == f"{tmp_path} holds {name}, which no inspection wrote; choose another --out"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_is_no_folder(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = command("inspect", checkpoint, "text", "--out", tmp_path / "file")
    assert refused.complaint == f"{tmp_path / 'file'} is no folder; choose another --out"


def test_the_text_may_come_from_standard_input(
    command: Command, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    assert json.loads(command("inspect", checkpoint, "--json", "--layers", 1).out)["text"] == "from a pipe"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([""], "the text is empty; give some words"),
        (["text", "--layers", "3"], "--layers has 3; the model has layers 1 to 2"),
        (["text", "--layers", "0"], "--layers has 0"),
        (["text", "--top", "0"], "--top is 0; use 1 to 100"),
        (["text", "--topp", "3"], "unknown key topp; did you mean top?"),
        (["x" * 64], "the text has 65 tokens, and the model's context is 64; give a shorter text"),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str], complaint: str, command: Command, checkpoint: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = command("inspect", checkpoint, *words)
    assert refused.code == 2
    assert complaint in refused.complaint
    assert not list(tmp_path.iterdir())


def test_without_a_model_the_way_is_told(command: Command, tmp_path: Path) -> None:
    assert "needs a MODEL" in command("inspect").complaint
    assert "holds no trained model" in command("inspect", tmp_path, "text", "--json").complaint
    assert "--layers" in command("inspect", "--help").out


@pytest.mark.usefixtures("quick")
def test_long_texts_show_their_last_tokens(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    done = command("inspect", checkpoint, "a" * 30 + "b", "--out", tmp_path / "seen", "--layers", 1)
    assert "the last 24 of 32 tokens" in done.out
