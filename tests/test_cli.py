"""The command line: results on stdout, the rest on stderr, and the right exit code."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import groundup
from groundup import cli
from groundup.pipeline import STAGES, TRAINED

Command = Callable[..., Any]
NAMES = [stage.name for stage in STAGES]


def test_stage_names_are_those_of_the_pipeline() -> None:
    assert list(cli.STAGE_NAMES) == NAMES


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_lists_every_command(words: list[str], command: Command) -> None:
    outcome = command(*words)
    assert (outcome.code, outcome.err) == (0, "")
    for verb in ("run", "recipes", "status", "chat", "generate", "serve", "fetch", *NAMES):
        assert verb in outcome.out


def test_no_command_is_wrong_use(command: Command) -> None:
    outcome = command()
    assert (outcome.code, outcome.out) == (2, "")
    assert "groundup run" in outcome.err


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version(flag: str, command: Command) -> None:
    assert command(flag).out == groundup.__version__ + "\n"


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("run", "--pretrain.steps"),
        *((name, "--pretrain.steps") for name in NAMES),
        ("chat", "--temperature"),
        ("generate", "--max-tokens"),
        ("serve", "--port"),
        ("status", "--json"),
        ("recipes", "recipes"),
        ("fetch", "source"),
    ],
)
def test_every_command_explains_itself(verb: str, words: str, command: Command) -> None:
    outcome = command(verb, "--help")
    assert outcome.code == 0
    assert words in outcome.out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("runn", "unknown command 'runn'; did you mean `groundup run`?"),
        ("recipe", "did you mean `groundup recipes`?"),
        ("xyzzy", "`groundup --help` lists what there is"),
        ("run quikstart", "unknown recipe 'quikstart'; did you mean 'quickstart'?"),
        ("run smoke --pretrain.step 3", "unknown key pretrain.step; did you mean pretrain.steps?"),
        ("sft smoke --sft.row=3", "unknown key sft.row; did you mean sft.rows?"),
        ("run smoke --out", "--out needs a value"),
        ("run smoke --out --seed 3", "--out needs a value"),
        ("run smoke more", "unexpected more"),
        ("run --seed 3 smoke", "unexpected smoke"),
        ("run smoke --model.width 63", "model.width 63 cannot be split into 2 heads"),
        ("run smoke --model.heads 4 --model.kv-heads 3", "model.kv-heads 3 does not divide model.heads 4"),
        ("run smoke --model.layers -1", "model.layers is -1; it must be at least 0"),
        ("run smoke --corpus.source nobody", "corpus source 'nobody' is unknown"),
        ("run smoke --tokenizer.vocab-size 100", "100"),
        ("generate", "`groundup generate` needs a MODEL"),
        ("chat", "`groundup chat` needs a MODEL"),
        ("serve", "`groundup serve` needs a MODEL"),
        ("generate run prompt --temperatur 1", "unknown key temperatur; did you mean temperature?"),
        ("generate run prompt --temperature -1", "temperature is -1.0; use 0 (greedy) or a positive number"),
        ("chat run --top-p 2", "top-p is 2.0"),
        ("serve run --port abc", "port"),
        ("status here there", "unexpected 'there'"),
    ],
)
def test_wrong_use_is_one_line_and_code_2(
    words: str, complaint: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = command(*words.split())
    assert complaint in outcome.complaint
    assert outcome.code == 2
    assert outcome.out == ""
    assert list(tmp_path.iterdir()) == []


def test_the_last_out_counts_and_may_stand_anywhere(
    command: Command, tmp_path: Path, tiny_options: tuple[str, ...]
) -> None:
    first, last = tmp_path / "first", tmp_path / "last"
    outcome = command("corpus", "--out", first, *tiny_options, f"--out={last}")
    assert outcome.code == 0
    assert (last / "corpus" / "manifest.json").exists()
    assert not first.exists()


def test_the_run_directory_is_named_after_the_recipe(
    command: Command, tmp_path: Path, tiny_options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("corpus", *tiny_options).code == 0
    assert (tmp_path / "runs" / "smoke" / "corpus" / "train.jsonl").exists()


def test_a_finished_run_prints_the_path_of_its_report(
    tiny_run: Path, tiny_options: tuple[str, ...], command: Command
) -> None:
    outcome = command("run", *tiny_options, "--out", tiny_run)
    assert outcome.code == 0
    assert outcome.out == f"{tiny_run / 'report' / 'report.pdf'}\n"
    assert (tiny_run / "report" / "report.pdf").read_bytes().startswith(b"%PDF")
    for name in NAMES:
        assert f"✓ {name}: up to date" in outcome.err
    assert f"groundup chat {tiny_run}" in outcome.err


def test_status_shows_stages_and_scores(tiny_run: Path, command: Command) -> None:
    outcome = command("status", tiny_run)
    assert (outcome.code, outcome.out) == (0, "")
    for words in (*NAMES, "parameters", "bits per byte", "stops by itself", "chance"):
        assert words in outcome.err
    assert "…" not in outcome.err


def test_status_for_programs(tiny_run: Path, command: Command) -> None:
    outcome = command("status", tiny_run, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    told = json.loads(outcome.out)
    assert list(told) == NAMES
    assert all(told[name]["stage"] == name for name in NAMES)
    assert told["pretrain"]["metrics"]["steps"] == 6


def test_status_of_an_unfinished_run(tiny_options: tuple[str, ...], tmp_path: Path, command: Command) -> None:
    out = tmp_path / "run"
    assert command("corpus", *tiny_options, "--out", out).code == 0
    (out / "tokenizer").mkdir()
    (out / "tokenizer" / "started.json").write_text("{}", encoding="utf-8")
    lines = {line.split()[0]: line for line in command("status", out).err.splitlines() if line.split()}
    assert "documents read 8" in lines["corpus"]
    assert lines["tokenizer"].endswith("interrupted")
    assert lines["pretrain"].endswith("not yet")
    told = json.loads(command("status", out, "--json").out)
    assert told["corpus"]["metrics"]["documents_read"] == 8
    assert told["tokenizer"] is None


def test_generate_is_a_function_of_the_seed(tiny_run: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUNDUP_PROGRESS", "quiet")  # which a slow machine would show
    words = ("generate", tiny_run, "The", "--max-tokens", "12")
    first, again, other = (command(*words, "--seed", seed) for seed in (1, 1, 2))
    assert {first.code, again.code, other.code} == {0}
    assert first.out == again.out != other.out
    assert first.out.startswith("The")
    assert first.err == ""


def test_generate_at_temperature_zero_ignores_the_seed(tiny_run: Path, command: Command) -> None:
    words = ("generate", tiny_run, "The", "--max-tokens", "12", "--temperature", "0")
    assert command(*words, "--seed", 1).out == command(*words, "--seed", 2).out


@pytest.mark.parametrize("stage", TRAINED)
def test_generate_takes_a_run_a_stage_or_a_checkpoint(stage: str, tiny_run: Path, command: Command) -> None:
    *_, checkpoint = sorted((tiny_run / stage / "checkpoints").iterdir())
    options = ("The", "--max-tokens", "8", "--seed", "3")
    by_checkpoint = command("generate", checkpoint, *options)
    assert by_checkpoint.code == 0
    assert command("generate", tiny_run / stage, *options).out == by_checkpoint.out
    if stage == TRAINED[-1]:
        assert command("generate", tiny_run, *options).out == by_checkpoint.out


def standard_input(data: bytes, encoding: str = "utf-8") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding=encoding)


def test_generate_reads_its_prompt_from_standard_input(
    tiny_run: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--max-tokens", "8", "--seed", "3")
    expected = command("generate", tiny_run, "To be\nor — nöt", *options)
    monkeypatch.setattr(sys, "stdin", standard_input("To be\nor — nöt".encode()))
    outcome = command("generate", tiny_run, *options)
    assert outcome.code == 0
    assert outcome.out == expected.out


def test_standard_input_that_is_no_text_is_refused(
    tiny_run: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", standard_input(b"abc\xff"))
    outcome = command("generate", tiny_run, "--max-tokens", "8")
    assert "standard input is not utf-8 text (byte 3)" in outcome.complaint
    assert outcome.code == 1


def test_generate_from_nothing_and_special_looking_text(tiny_run: Path, command: Command) -> None:
    assert command("generate", tiny_run, "", "--max-tokens", "4").code == 0
    assert command("generate", tiny_run, "<|document|><|end|>", "--max-tokens", "4").out.startswith(
        "<|document|><|end|>"
    )


def test_chat_through_pipes(tiny_run: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = []
    for _ in range(2):
        monkeypatch.setattr(sys, "stdin", standard_input(b"Hello!\nHow are you?\n/exit\nnever read\n"))
        replies.append(command("chat", tiny_run, "--max-tokens", "6", "--seed", "4"))
    assert replies[0].code == 0
    assert replies[0].out == replies[1].out
    assert replies[0].out.count("\n") >= 2


def test_a_terminal_that_lacks_a_character_shows_another(tiny_run: Path, finish: Command) -> None:
    import os

    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    outcome = finish("generate", tiny_run, "nöt", "--max-tokens", "1", env=environment)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("n?t")


posix = pytest.mark.skipif(sys.platform == "win32", reason="the shell's redirections are POSIX's")


@posix
def test_a_reader_that_leaves_early_is_no_failure(start: Command) -> None:
    process = start("recipes")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


@posix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_output_to_a_full_disk_is_a_failure(finish: Command) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        outcome = finish("recipes", stdout=full)
    assert outcome.code == 1
    assert outcome.complaint.startswith("no space left on the disk for the output")


@posix
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_failure(closed: str) -> None:
    line = f'"{sys.executable}" -m groundup.cli recipes {closed}'
    finished = subprocess.run(line, shell=True, capture_output=True, encoding="utf-8", check=False)
    assert finished.returncode == 0
    assert finished.stderr == ""
    assert ("smoke" in finished.stdout) == (">&-" not in closed.replace("2>&-", ""))


@posix
def test_nobody_reading_the_progress_does_not_stop_the_run(
    start: Command, tiny_options: tuple[str, ...], tmp_path: Path
) -> None:
    process = start("corpus", *tiny_options, "--out", tmp_path / "run")
    process.stderr.close()
    assert process.stdout.read() == ""
    assert process.wait() == 0
    assert (tmp_path / "run" / "corpus" / "manifest.json").exists()


def test_out_of_memory_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ):

        def fail(words: list[str], error: Exception = error) -> int:
            raise error

        monkeypatch.setattr(cli, "_recipes", fail)
        outcome = command("recipes")
        assert outcome.complaint.startswith("out of memory; set --pretrain.memory.fit")
        assert outcome.code == 1


def test_our_own_mistakes_are_not_hidden(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(words: list[str]) -> int:
        raise RuntimeError("a defect")

    monkeypatch.setattr(cli, "_recipes", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        command("recipes")


def test_the_command_line_starts_without_loading_torch() -> None:
    line = "import sys; from groundup.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], stdout=subprocess.DEVNULL, check=False).returncode == 0
