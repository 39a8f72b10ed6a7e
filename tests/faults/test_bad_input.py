"""Whatever a user gives: one clear line on stderr, the right exit code, and nothing lost."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from groundup.core.files import read_json, read_jsonl
from groundup.training import resolve_model

Command = Callable[..., Any]


@pytest.fixture
def read_corpus(command: Command, tmp_path: Path) -> Callable[..., Any]:
    """``read_corpus(path, …)``: the corpus stage on a user's text, in ``tmp_path / "run"``."""

    def run(path: Path, *options: str) -> Any:
        return command("corpus", "smoke", "--corpus.path", path, "--out", tmp_path / "run", *options)

    return run


def dropped(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Id → reason and detail, of the documents that the corpus stage left out."""
    rows = read_jsonl(tmp_path / "run" / "corpus" / "dropped.jsonl")
    return {row["id"]: (row["reason"], row["detail"]) for row in rows}


def test_an_empty_folder(read_corpus: Command, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    outcome = read_corpus(tmp_path / "texts")
    assert outcome.complaint == f"{tmp_path / 'texts'}: no files there; put some into the folder"
    assert outcome.code == 1


def test_a_path_that_does_not_exist(read_corpus: Command, tmp_path: Path) -> None:
    outcome = read_corpus(tmp_path / "absent")
    assert f"{tmp_path / 'absent'} does not exist" in outcome.complaint
    assert outcome.code == 1


def test_a_file_of_another_kind(read_corpus: Command, tmp_path: Path) -> None:
    (tmp_path / "book.odt").write_bytes(b"PK")
    complaint = read_corpus(tmp_path / "book.odt").complaint
    assert "book.odt is unknown format (no reader for files of this name)" in complaint


UNUSABLE = [
    ("zeros.txt", b"\x7fELF\x00\x01" * 100, "binary", "zero byte at position 4"),
    ("wide.txt", "A text in two bytes a letter.".encode("utf-16"), "too short", "29 characters"),
    ("nothing.txt", b"", "empty", "0 bytes"),
    ("latin.txt", "Ein Text mit Ümlaut. ".encode("latin-1") * 20, "invalid UTF-8", "byte 0xdc at position 13"),
    ("short.txt", b"Too short.", "too short", "10 characters"),
    ("picture.png", b"\x89PNG", "unknown format", "no reader for files of this name"),
    ("blank.txt", b" \n\t\n" * 100, "empty", "after cleaning"),
]


@pytest.mark.parametrize(("name", "content", "reason", "detail"), UNUSABLE)
def test_unusable_text_alone_is_refused_with_its_reason(
    name: str, content: bytes, reason: str, detail: str, read_corpus: Command, tmp_path: Path
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / name).write_bytes(content)
    outcome = read_corpus(tmp_path / "texts")
    assert outcome.complaint.startswith(f"no usable text in {tmp_path / 'texts'}: {name} is {reason} (")
    assert detail in outcome.complaint
    assert outcome.code == 1


def test_unusable_text_among_good_is_left_out_and_counted(
    read_corpus: Command, tiny_corpus: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_corpus, tmp_path / "texts"))
    for name, content, _, _ in UNUSABLE:
        (folder / name).write_bytes(content)
    (folder / "rows.jsonl").write_bytes(b'{"text": 3}\n{"text": "cut o\n\xff\xfe\n[]\n' + b"[" * 50_000 + b"\n")
    outcome = read_corpus(folder)
    assert outcome.code == 0, outcome.err
    left_out = dropped(tmp_path)
    for name, _, reason, detail in UNUSABLE:
        assert left_out[name][0] == reason
        assert detail in left_out[name][1]
    assert {name.split(":")[1]: reason for name, (reason, _) in left_out.items() if name.startswith("rows")} == {
        "1": "no text",
        "2": "broken JSON",
        "3": "invalid UTF-8",
        "4": "no text",
        "5": "broken JSON",
    }
    funnel = read_json(tmp_path / "run" / "corpus" / "funnel.json")
    counted = sum(row["documents"] for step in funnel["steps"] for row in step["removed"])
    assert counted == len(left_out)


def test_a_file_name_that_is_no_unicode(read_corpus: Command, tiny_corpus: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_corpus, tmp_path / "texts"))
    try:
        (folder / os.fsdecode(b"caf\xe9.txt")).write_text((folder / "verse-0.txt").read_text("utf-8")[::-1], "utf-8")
    except (OSError, UnicodeError):
        pytest.skip("this file system has Unicode names only")
    outcome = read_corpus(folder)
    assert outcome.complaint == f"the name of the file '{folder}/caf\\udce9.txt' is not valid Unicode; rename it"
    assert outcome.code == 1


def test_too_little_text_for_a_split(read_corpus: Command, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("One short document of a hundred and some characters, no more. " * 2, "utf-8")
    outcome = read_corpus(tmp_path / "text.txt")
    assert "'text.txt' is too short to be split into train and validation text" in outcome.complaint
    assert "give more text with --corpus.path" in outcome.complaint
    assert outcome.code == 1


def test_one_document_is_cut_into_train_and_validation(read_corpus: Command, tiny_corpus: Path, tmp_path: Path) -> None:
    outcome = read_corpus(tiny_corpus / "verse-0.txt")
    assert outcome.code == 0
    assert "documents give no split" in outcome.err
    train, validation = (
        [row["text"] for row in read_jsonl(tmp_path / "run" / "corpus" / f"{split}.jsonl")]
        for split in ("train", "validation")
    )
    assert len(train) == len(validation) == 1
    assert not set(train[0].splitlines()) & set(validation[0].splitlines()) - {""}


def test_a_document_above_the_limit_is_left_out_unread(read_corpus: Command, tiny_corpus: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_corpus, tmp_path / "texts"))
    (folder / "large.txt").write_bytes(b"A line of text.\n" * 100_000)
    (folder / "rows.jsonl").write_text(json.dumps({"text": "word " * 300_000}) + "\n", encoding="utf-8")
    outcome = read_corpus(folder, "--corpus.reading.max-megabytes", "1")
    assert outcome.code == 0
    left_out = dropped(tmp_path)
    assert left_out["large.txt"] == ("too large", "1600000 bytes, the limit is 1048576")
    assert left_out["rows.jsonl:1"][0] == "too large"


@pytest.mark.long
def test_a_document_of_fifty_megabytes(read_corpus: Command, tiny_corpus: Path, tmp_path: Path) -> None:
    """Lines of one length and no paragraph, so that any step of quadratic cost would never end."""
    folder = Path(shutil.copytree(tiny_corpus, tmp_path / "texts"))
    size = 50_000_000
    with (folder / "large.txt").open("w", encoding="utf-8", newline="\n") as handle:
        for number in range(size // 50):
            handle.write(f"{number:012d} a line of fifty bytes, always another.\n"[:49].rstrip("\n").ljust(49) + "\n")
    outcome = read_corpus(folder)
    assert outcome.code == 0, outcome.err
    manifest = read_json(tmp_path / "run" / "corpus" / "manifest.json")
    assert manifest["metrics"]["bytes_read"] > size
    assert manifest["metrics"]["train_bytes"] > 0.9 * 48 * size / 50 * 0.95
    assert manifest["peak_memory_bytes"] < 4e9


@pytest.mark.parametrize("verb", ["generate", "chat", "serve"])
def test_a_model_that_is_none(verb: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for path, complaint in (
        (tmp_path / "absent", "does not exist; give a run directory, a Hugging Face folder or a GGUF file"),
        (tmp_path, "holds no trained model; give the directory of a run or a checkpoint folder"),
        (tmp_path / "file", "cannot be used as a model"),
    ):
        outcome = command(verb, path)
        assert f"{path} {complaint}" in outcome.complaint
        assert outcome.code == 1


@pytest.mark.parametrize("verb", ["generate", "chat", "serve"])
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "model.json", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "foreign", "gone"])
def test_a_damaged_checkpoint_is_named(
    verb: str, name: str, damage: str, command: Command, tiny_run: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(resolve_model(tiny_run), tmp_path / "checkpoint"))
    content = (folder / name).read_bytes()
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content[: len(content) // 2] if damage == "cut" else b'{"a": 1}')
    outcome = command(verb, folder)
    assert str(folder) in outcome.complaint
    if (name, damage) != ("state.json", "gone"):  # without it the folder is no checkpoint at all
        assert name in outcome.complaint
    assert outcome.code == 1


def test_a_checkpoint_with_another_tokenizer(
    command: Command, tiny_run: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    """Even one that is put there with its hash: its ids mean something else."""
    from groundup.core.files import sha256_of
    from groundup.tokenizer import BytePairTokenizer

    folder = Path(shutil.copytree(resolve_model(tiny_run), tmp_path / "checkpoint"))
    other = BytePairTokenizer.train(["another text, with other pairs " * 20], 512)
    other.save(folder)
    assert "tokenizer.json is truncated or was changed" in command("generate", folder, "x").complaint
    state = read_json(folder / "state.json")
    state["files"]["tokenizer.json"] = sha256_of(folder / "tokenizer.json")
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
    outcome = command("generate", folder, "x")
    assert f"the checkpoint {folder} was trained with another tokenizer" in outcome.complaint
    assert outcome.code == 1


def test_a_run_with_a_foreign_tokenizer_is_refused(
    command: Command, copied_run: Path, tiny_options: tuple[str, ...]
) -> None:
    path = copied_run / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("ation", "noita") + " ", encoding="utf-8")
    outcome = command("run", *tiny_options, "--out", copied_run)
    assert str(path) in outcome.complaint
    assert outcome.code == 1


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_the_status_of_what_is_no_run(content: bytes | None, command: Command, tmp_path: Path) -> None:
    if content is None:
        outcome = command("status", tmp_path)
        assert f"{tmp_path} is not a run directory" in outcome.complaint
        assert outcome.code == 2
        return
    (tmp_path / "corpus").mkdir()
    (tmp_path / "recipe.toml").write_text("", encoding="utf-8")
    (tmp_path / "corpus" / "manifest.json").write_bytes(content)
    outcome = command("status", tmp_path)
    assert str(tmp_path / "corpus" / "manifest.json") in outcome.complaint
    assert outcome.code == 1


def test_status_does_not_show_changed_results(command: Command, copied_run: Path) -> None:
    path = copied_run / "evaluate" / "results.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0", "9", 1), encoding="utf-8")
    assert f"{path} was changed after the run wrote it" in command("status", copied_run).complaint


IMPOSSIBLE: Sequence[tuple[str, str]] = [
    ("--model.width 33", "model.width 33 cannot be split into 2 heads; choose model.width as a multiple of 2"),
    ("--model.heads 2 --model.kv-heads 3", "model.kv-heads 3 does not divide model.heads 2"),
    ("--model.context 0", "model.context is 0; it must be at least 1"),
    ("--pretrain.optimizer.rate nan", "pretrain.optimizer.rate is nan; it must be a finite number"),
    ("--tokenizer.vocab-size 3", "3"),
    ("--corpus.validation-fraction 2", "corpus.validation_fraction is 2.0"),
    ("--grpo.group 1", "grpo.group is 1; a group needs at least 2 answers"),
]


@pytest.mark.parametrize(("options", "words"), IMPOSSIBLE)
def test_what_cannot_be_is_refused_before_anything_is_written(
    options: str, words: str, command: Command, tiny_options: tuple[str, ...], tmp_path: Path
) -> None:
    outcome = command("run", *tiny_options, *options.split(), "--out", tmp_path / "run")
    assert words in outcome.complaint
    assert outcome.code == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("width", [2**33, 2**50])
def test_a_model_that_no_machine_holds(
    width: int, command: Command, copied_run: Path, tiny_options: tuple[str, ...]
) -> None:
    outcome = command("pretrain", *tiny_options, "--model.width", width, "--out", copied_run)
    assert outcome.complaint.startswith("out of memory; set --pretrain.memory.fit")
    assert outcome.code == 1


def test_a_context_too_short_for_the_problems(
    command: Command, copied_run: Path, tiny_options: tuple[str, ...]
) -> None:
    shutil.rmtree(copied_run / "sft")
    for stage in ("pretrain", "sft"):
        outcome = command(stage, *tiny_options, "--model.context", "24", "--out", copied_run)
    assert "raise model.context" in outcome.complaint
    assert outcome.code == 1


def test_an_unknown_device(command: Command, copied_run: Path, tiny_options: tuple[str, ...]) -> None:
    outcome = command("grpo", *tiny_options, "--grpo.device", "quantum", "--out", copied_run)
    assert "device 'quantum' cannot be used here" in outcome.complaint
    assert outcome.code == 2
    # What was there before is kept, and the earlier command finds it gone from its place, so makes it again.
    [kept] = (copied_run / "superseded").iterdir()
    assert (kept / "manifest.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_an_interrupted_run_says_so_and_continues(
    start: Command, command: Command, copied_run: Path, tiny_options: tuple[str, ...]
) -> None:
    shutil.rmtree(copied_run / "pretrain")
    options = ("pretrain", *tiny_options, "--pretrain.steps", "400", "--pretrain.validate-every", "400")
    process = start(*options, "--out", copied_run)
    while process.poll() is None and not list((copied_run / "pretrain" / "checkpoints").glob("step-*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "groundup: interrupted; the same command continues where it was"
    assert "Traceback" not in err
    assert out == ""
    assert not (copied_run / "pretrain" / "manifest.json").exists()
    *_, checkpoint = sorted((copied_run / "pretrain" / "checkpoints").glob("step-*"))
    reached = int(checkpoint.name.removeprefix("step-"))
    logged = [row["step"] for row in read_jsonl(copied_run / "pretrain" / "metrics.jsonl")]
    assert 0 < reached - 1 <= logged[-1] < 400  # it may be killed between a checkpoint and its line in the log

    outcome = command(*options, "--out", copied_run)
    assert outcome.code == 0, outcome.err
    assert "pretrain: continues where it was interrupted" in outcome.err
    logged = [row["step"] for row in read_jsonl(copied_run / "pretrain" / "metrics.jsonl")]
    assert logged == list(range(401))


def test_two_runs_in_one_directory(command: Command, tmp_path: Path, tiny_options: tuple[str, ...]) -> None:
    from groundup.core.run import locked

    with locked(tmp_path / "run"):
        outcome = command("run", *tiny_options, "--out", tmp_path / "run")
    assert f"{tmp_path / 'run'} is in use by process {os.getpid()} on " in outcome.complaint
    assert "wait for it, or choose another --out" in outcome.complaint
    assert outcome.code == 1
    assert not (tmp_path / "run" / "recipe.toml").exists()
    assert command("corpus", *tiny_options, "--out", tmp_path / "run").code == 0
