import io
import json
import random
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup import cli
from groundup.cli import main
from groundup.tokenizer import commands, counting
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.opening import open_tokenizer
from groundup.tokenizer.pretokenize import NAMED
from groundup.tokenizer.samples import SAMPLES
from groundup.tokenizer.texts import read_texts

Command = Callable[..., Any]
posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes are closed in another way there")


@pytest.fixture(scope="session")
def saved(tokenizer: BytePairTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tokenizer of 900 ids."""
    folder = tmp_path_factory.mktemp("saved") / "mine"
    tokenizer.save(folder)
    return folder


@pytest.fixture
def run(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[bytes, bytes]]:
    """``run("encode", …, stdin=b"…")``: standard output and standard error of a tool that ends well."""

    def tool(*words: object, stdin: bytes = b"") -> tuple[bytes, bytes]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsysbinary.readouterr()
        assert main(["tokenizer", *map(str, words)]) == 0
        return capsysbinary.readouterr()

    return tool


# ---------------------------------------------------------------------------------------------- the words themselves


def test_the_tools_are_those_that_the_command_line_names() -> None:
    assert list(cli.TOOL_NAMES) == list(commands.TOOLS)


def test_help_explains_the_tools_and_the_stage(command: Command) -> None:
    outcome = command("tokenizer", "--help")
    assert outcome.code == 0
    for name in commands.TOOLS:
        assert f"groundup tokenizer {name}" in outcome.out
    assert "--tokenizer.vocab-size" in outcome.out


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("train", "--vocab-size"),
        ("encode", "--out"),
        ("decode", "--tokenizer"),
        ("show", "--bytes"),
        ("trace", "--tokenizer"),
        ("compare", "--tokenizers"),
    ],
)
def test_every_tool_explains_itself(tool: str, words: str, command: Command) -> None:
    outcome = command("tokenizer", tool, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert words in outcome.out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("trian", "'trian' is neither a tool nor a recipe; did you mean `groundup tokenizer train`?"),
        ("quikstart", "unknown recipe 'quikstart'"),
        ("encode", "no tokenizer is named, and there is none at runs/quickstart; give --tokenizer"),
        ("show hello", "no tokenizer is named"),
        ("encode --tokenizer nowhere", "there is no tokenizer 'nowhere'"),
        ("encode --tokenizr x", "unknown key tokenizr; did you mean tokenizer?"),
        ("encode --tokenizer", "tokenizer"),
        ("encode --tokenizer {saved} missing.txt", "missing.txt does not exist"),
        ("encode --tokenizer {saved} {saved}", "is a folder; name a file in it"),
        ("decode --tokenizer {saved} {saved}", "is a folder; name a file in it"),
        ("encode --tokenizer {saved} a b", "unexpected 'b'"),
        ("encode --tokenizer {saved} --out ids.txt", "--out ids.txt must end in .npy"),
        ("show --tokenizer {saved} --json=maybe", "json is 'maybe'; it must be true or false"),
        ("compare", "name what to compare"),
        ("compare --tokenizers {saved} {saved}", "two tokenizers are called mine"),
        ("compare --tokenizers {saved} extra --input x -- more", "unexpected 'more'"),
        ("train", "name what to learn from: --input"),
        ("train --input x", "name a new folder for the tokenizer: --out"),
        ("train --input x --out {saved}", "has a tokenizer already; choose another --out"),
        ("train --input x --out new --vocab-size many", "--vocab-size is 'many'"),
        ("train --input x --out new --vocab-size auto --algorithm words", "use a number, or for BPE auto"),
        ("train --input x --out new --vocab-size 200", "vocab_size 200 is too small"),
        ("train --input x --out new --pattern (", "is no regular expression"),
        ("train --input x --out new --digits 12", "digits is 12"),
        ("train --input x --out new --whitespace some", "whitespace"),
        ("train --input x --out new --algorithm best", "algorithm"),
        ("train --input x --out new --memory much", "--memory is 'much'; use a size such as 500MB"),
        ("train --input x --out new --threads 0", "threads is 0"),
    ],
)
def test_wrong_use_is_one_line_and_code_2(
    words: str, complaint: str, command: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_text("some words, some words", encoding="utf-8")
    outcome = command("tokenizer", *(word.format(saved=saved) for word in words.split()))
    assert complaint in outcome.complaint
    assert (outcome.code, outcome.out) == (2, "")
    assert [path.name for path in tmp_path.iterdir()] in (["x"], ["new", "x"], ["x", "new"])
    assert not (tmp_path / "new" / "tokenizer.json").exists()


def test_the_stage_is_still_the_stage(command: Command, tmp_path: Path, tiny_options: tuple[str, ...]) -> None:
    assert command("corpus", "--out", tmp_path, *tiny_options).code == 0
    recipe, *options = tiny_options
    assert command("tokenizer", recipe, "--out", tmp_path, *options).code == 0
    assert (tmp_path / "tokenizer" / "tokenizer.json").is_file()


def test_tools_start_without_torch_and_matplotlib() -> None:
    line = "import groundup.tokenizer.commands, sys; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0


# -------------------------------------------------------------------------------------------------- encode and decode


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"no line end",
        b"two\nlines\n",
        "naïve 字 🙂\u200d\r\n".encode(),
        b"\xff\xfe\x00 \x80",
        bytes(range(256)) * 5,
        random.Random(3).randbytes(5000),
        b"<|document|><|end|>",
    ],
)
def test_any_bytes_come_back(data: bytes, run: Command, saved: Path, tmp_path: Path) -> None:
    file, array = tmp_path / "data", tmp_path / "ids.npy"
    file.write_bytes(data)
    piped, _ = run("encode", "--tokenizer", saved, stdin=data)
    named, _ = run("encode", file, "--tokenizer", saved)
    dashed, _ = run("encode", "-", f"--tokenizer={saved}", stdin=data)
    assert piped == named == dashed
    assert run("decode", "--tokenizer", saved, stdin=piped)[0] == data
    out, told = run("encode", "--tokenizer", saved, file, "--out", array)
    assert out.decode().strip() == str(array)
    assert b" for " in told
    assert np.load(array).tolist() == [int(word) for word in piped.split()]
    assert run("decode", array, "--tokenizer", saved)[0] == data
    assert run("decode", "--tokenizer", saved, stdin=array.read_bytes())[0] == data


def test_ids_are_those_of_the_tokenizer_whatever_the_blocks(
    run: Command, saved: Path, tokenizer: BytePairTokenizer, stdlib_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = stdlib_text[:20_000]
    expected = " ".join(map(str, tokenizer.encode(text))).split()
    whole, _ = run("encode", "--tokenizer", saved, stdin=text.encode())
    assert whole.decode().split() == expected
    monkeypatch.setattr(commands, "blocks", lambda stream, pattern: original(stream, pattern, 1000))
    parts, _ = run("encode", "--tokenizer", saved, stdin=text.encode())
    assert parts == whole


original = commands.blocks


def test_ids_stand_in_the_line_of_their_text(run: Command, saved: Path, tokenizer: BytePairTokenizer) -> None:
    out, _ = run("encode", "--tokenizer", saved, stdin=b"one\ntwo\nthree")
    lines = out.decode().splitlines()
    assert [tokenizer.decode([int(word) for word in line.split()]) for line in lines] == ["one\n", "two\n", "three"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("12 x3", "standard input: 'x3' at position 2 is no token id"),
        ("12 -3", "'-3' at position 2 is no token id"),
        ("12 900", "id 900 at position 2 is outside the vocabulary of 900"),
    ],
)
def test_ids_that_are_none_are_refused(
    text: str, complaint: str, command: Command, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    outcome = command("tokenizer", "decode", "--tokenizer", saved)
    assert complaint in outcome.complaint
    assert (outcome.code, outcome.out) == (1, "")


def test_an_interrupted_array_is_not_there(
    command: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(stream: object, pattern: object) -> Iterator[bytes]:
        yield b"some"
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "blocks", interrupted)
    (tmp_path / "text").write_text("some text", encoding="utf-8")
    outcome = command("tokenizer", "encode", tmp_path / "text", "--tokenizer", saved, "--out", tmp_path / "ids.npy")
    assert (outcome.code, outcome.complaint) == (130, "interrupted")
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@posix
def test_a_reader_that_leaves_early_is_no_failure(
    start: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDUP_PROGRESS", "quiet")  # which a slow machine would show
    (tmp_path / "text").write_text("word after word\n" * 50_000, encoding="utf-8")
    process = start("tokenizer", "encode", tmp_path / "text", "--tokenizer", saved)
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 0


@posix
def test_a_pipe_of_two_tools_gives_the_file_back(
    start: Command, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROUNDUP_PROGRESS", "quiet")  # which a slow machine would show
    data = random.Random(5).randbytes(20_000) + b"plain words " * 2000
    (tmp_path / "data").write_bytes(data)
    encoding = start("tokenizer", "encode", tmp_path / "data", "--tokenizer", saved, encoding=None)
    decoding = start("tokenizer", "decode", "--tokenizer", saved, stdin=encoding.stdout, encoding=None)
    assert decoding.communicate() == (data, b"")


# ------------------------------------------------------------------------------------------------------ show and trace


def test_show_draws_the_tokens(run: Command, saved: Path, tokenizer: BytePairTokenizer) -> None:
    out, told = run("show", "def é(self):", "--tokenizer", saved, "--no-bytes")
    pieces, ids = out.decode().splitlines()
    assert [int(word) for word in ids.replace("|", " ").split()] == tokenizer.encode("def é(self):")
    assert "‹C3›" in pieces and "·" not in pieces[:4]
    assert b"12 characters in 13 bytes" in told
    assert run("show", "--tokenizer", saved, "--no-bytes", stdin="def é(self):".encode())[0] == out


def test_show_for_programs(run: Command, saved: Path, tokenizer: BytePairTokenizer) -> None:
    out, told = run("show", "--json", "--tokenizer", saved, "a🙂")
    rows = json.loads(out)
    assert told == b""
    assert [row["id"] for row in rows] == tokenizer.encode("a🙂")
    assert bytes.fromhex("".join(row["bytes"] for row in rows)).decode() == "a🙂"
    assert (rows[0]["text"], rows[1]["text"]) == ("a", None)


@pytest.mark.parametrize(
    ("settings", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"FORCE_COLOR": ""}, False)],
)
@pytest.mark.parametrize("tool", ["show", "trace"])
def test_colours_on_a_terminal_only(
    tool: str, settings: dict[str, str], coloured: bool, run: Command, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor", **settings}.items():
        monkeypatch.setenv(name, value)
    out, _ = run(tool, "self.parser", "--tokenizer", saved)
    assert (b"\x1b[" in out) == coloured
    assert (b"|" in out or b"[" in out.replace(b"\x1b[", b"")) != coloured


@pytest.mark.parametrize("tool", ["show", "trace"])
def test_a_narrow_terminal(tool: str, run: Command, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    out, _ = run(tool, "argument_parser.internationalization", "--tokenizer", saved)
    assert max(map(len, out.decode().splitlines())) <= 30


@pytest.mark.parametrize("tool", ["show", "trace"])
@pytest.mark.parametrize("text", ["", "\x1b[2J", "a\udcffb", "-5 degrees"])
def test_texts_of_every_kind(tool: str, text: str, run: Command, saved: Path) -> None:
    out, told = run(tool, "--tokenizer", saved, "--", text)
    assert b"\x1b" not in out
    assert b"token" in told


def test_text_behind_two_dashes_is_no_option(run: Command, saved: Path) -> None:
    out, _ = run("show", "--tokenizer", saved, "--json", "--", "--help")
    assert "".join(row["text"] for row in json.loads(out)) == "--help"


def test_show_reads_only_the_beginning_of_a_stream(run: Command, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MOST_SHOWN", 4096)
    out, told = run("show", "--json", "--tokenizer", saved, stdin=b"word " * 2000)
    assert b"only the first 4 kB are shown" in told
    assert sum(len(row["bytes"]) // 2 for row in json.loads(out)) == 4096


def test_trace_tells_each_merge(run: Command, saved: Path, tokenizer: BytePairTokenizer) -> None:
    out, told = run("trace", "return self", "--tokenizer", saved)
    drawn = out.decode()
    assert " ".join(map(str, tokenizer.encode(" self"))) in drawn
    assert "s + e → se" in drawn
    assert b"2 pieces" in told


def test_what_merges_nothing_cannot_be_traced(command: Command, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("some words, some words", encoding="utf-8")
    trained = tmp_path / "words"
    assert (
        command("tokenizer", "train", "--algorithm", "words", "--input", tmp_path / "text", "--out", trained).code == 0
    )
    assert "only their merges are traced" in command("tokenizer", "trace", "some", "--tokenizer", trained).complaint


# ---------------------------------------------------------------------------------------------------------------- train


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of texts: 300 kB in three files, one of JSON lines."""
    folder = tmp_path_factory.mktemp("library")
    modules = Path(sysconfig.get_path("stdlib"))
    for name in ("argparse.py", "textwrap.py"):
        (folder / name).with_suffix(".txt").write_text((modules / name).read_text(encoding="utf-8"), encoding="utf-8")
    lines = (modules / "typing.py").read_text(encoding="utf-8").splitlines()
    rows = "".join(json.dumps({"text": line}) + "\n" for line in lines)
    (folder / "typing.jsonl").write_text(rows, encoding="utf-8")
    return folder


def test_training_ends_in_a_tokenizer(run: Command, library: Path, tmp_path: Path) -> None:
    out, told = run("train", "--input", library, "--vocab-size", 700, "--out", tmp_path / "new", "--threads", 1)
    assert out.decode().strip() == str(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tokenizer.json"]
    trained = open_tokenizer(tmp_path / "new")
    assert trained.vocab_size == 700
    text = "def naïve(): return 字"
    assert trained.decode(trained.encode(text)) == text
    for words in (
        b"700 token ids, 6 of them special",
        b"first: ",
        b"longest words: ",
        b"not learnt from",
        b"bytes per token",
    ):
        assert words in told


def test_a_size_that_the_text_has_examples_for(run: Command, library: Path, tmp_path: Path) -> None:
    words = ("train", "--input", library, "--threads", 1)
    _, told = run(*words, "--vocab-size", "auto", "--out", tmp_path / "auto")
    chosen = open_tokenizer(tmp_path / "auto")
    assert b"asked for" not in told
    assert b"by the counts of" in told
    assert b"no model was named" in told
    assert 320 < chosen.vocab_size < 2000
    run(*words, "--vocab-size", chosen.vocab_size, "--out", tmp_path / "given")
    assert open_tokenizer(tmp_path / "given").fingerprint == chosen.fingerprint
    _, told = run(
        *words, "--vocab-size", "auto", "--model-parameters", 10000, "--model-width", 64, "--out", tmp_path / "small"
    )
    assert b"by the model" in told
    assert open_tokenizer(tmp_path / "small").vocab_size == 320


def test_what_is_held_out_is_not_learnt_from(library: Path) -> None:
    texts = list(read_texts([library]))
    parts = list(commands._held_out(texts))
    assert [learnt + held for learnt, held in parts] == texts
    share = sum(len(held) for _, held in parts) / sum(map(len, texts))
    assert 0.01 < share < 0.03
    assert any(held and learnt for learnt, held in parts) and any(held and not learnt for learnt, held in parts)


def test_little_is_held_out_of_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MOST_HELD_OUT", 5000)
    texts = ["word " * 1000] * 200
    parts = list(commands._held_out(texts))
    held = [part for part in parts if part[1]]
    assert 5000 <= sum(len(part) for _, part in held) <= 10_000
    assert len(parts) == 200
    assert [part for part in commands._held_out(texts, only=True) if part[1]] == held


def test_a_text_too_short_to_hold_any_out(run: Command, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("low lower lowest " * 5, encoding="utf-8")
    _, told = run("train", "--input", tmp_path / "short.txt", "--out", tmp_path / "new", "--threads", 1)
    assert b"the text has no more for the 32,768 asked for" in told
    assert b"too short to hold any out" in told


@pytest.mark.parametrize("algorithm", ["unigram", "characters", "words"])
def test_the_other_algorithms(algorithm: str, run: Command, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("\n".join(SAMPLES["prose"].values()), encoding="utf-8")
    words = ("--input", tmp_path / "text", "--vocab-size", 400, "--out", tmp_path / "new")
    run("train", "--algorithm", algorithm, *words)
    text = SAMPLES["prose"]["English"].encode()
    ids, _ = run("encode", "--tokenizer", tmp_path / "new", stdin=text)
    back, _ = run("decode", "--tokenizer", tmp_path / "new", stdin=ids)
    assert len(back) > 0.9 * len(text)
    assert (back == text) == (algorithm != "words")


@pytest.mark.parametrize("name", ["llama3", r"\w+|\W+"])
def test_a_pattern_of_choice_is_saved(name: str, run: Command, library: Path, tmp_path: Path) -> None:
    words = ("--input", library / "textwrap.txt", "--vocab-size", 300, "--out", tmp_path / "new", "--threads", 1)
    run("train", *words, "--pattern", name)
    trained = open_tokenizer(tmp_path / "new")
    assert isinstance(trained, BytePairTokenizer)
    assert trained.vocabulary.pattern.splits == (NAMED.get(name, name),)


def test_interrupted_training_goes_on_where_it_was(
    command: Command, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("tokenizer", "train", "--input", library, "--vocab-size", 600, "--threads", 1, "--out")
    assert command(*words, tmp_path / "straight").code == 0
    monkeypatch.setattr(counting, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(counting, "BLOCK_CHARACTERS", 10_000)
    broken: list[int] = []

    def interrupted(paths: object) -> Iterator[str]:
        for number, text in enumerate(read_texts([library])):
            if number == 2000:
                broken.append(number)
                raise KeyboardInterrupt
            yield text

    with monkeypatch.context() as patch:
        patch.setattr(commands, "read_texts", interrupted)
        outcome = command(*words, tmp_path / "broken")
    assert broken
    assert (outcome.code, outcome.complaint) == (130, "interrupted; the same command continues where it was")
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["state"]
    resumed = command(*words, tmp_path / "broken")
    assert "texts were counted before" in resumed.err
    files = [tmp_path / name / "tokenizer.json" for name in ("straight", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not (tmp_path / "broken" / "state").exists()


@pytest.mark.parametrize(
    ("amount", "size"), [("1GB", 10**9), ("1.5 gb", 1_500_000_000), ("500m", 5 * 10**8), ("64kB", 64_000), ("7", 7)]
)
def test_sizes(amount: str, size: int) -> None:
    assert commands._bytes(amount) == size


# -------------------------------------------------------------------------------------------------------------- compare


def test_compare_prints_tables_and_saves_a_chart(run: Command, saved: Path, tmp_path: Path) -> None:
    out, told = run("compare", "--tokenizers", saved, f"other={saved / 'tokenizer.json'}", "--out", tmp_path / "new")
    for words in ("mine", "other", "bytes per token", "Thai", "code"):
        assert words in out.decode()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "comparison.json", "comparison.png", "comparison.svg",
    ]  # fmt: skip
    assert b"comparison.svg" in told


def test_compare_for_programs_on_texts_of_ones_own(run: Command, saved: Path, library: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some words", encoding="utf-8")
    out, _ = run("compare", "--json", "--tokenizers", saved, "--input", tmp_path / "text.txt", library)
    told = json.loads(out)
    assert [one["name"] for one in told["texts"]] == [str(tmp_path / "text.txt"), str(library)]
    assert told["texts"][0]["bytes"] == 10


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("gpt2", "gpt2"),
        ("runs/mine", "mine"),
        ("runs/mine/tokenizer", "mine"),
        ("runs/mine/tokenizer/tokenizer.json", "mine"),
        ("vocab/cl100k_base.tiktoken", "cl100k_base.tiktoken"),
        ("GPT-2=gpt2", "GPT-2"),
    ],
)
def test_how_tokenizers_are_called(where: str, name: str) -> None:
    assert commands._named(where)[0] == name


def test_only_the_beginning_of_long_texts_is_compared(
    run: Command, saved: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MOST_COMPARED", 1000)
    out, told = run("compare", "--json", "--tokenizers", saved, "--input", library / "argparse.txt")
    assert json.loads(out)["texts"][0]["bytes"] == 1000
    assert b"only the first 1,000 characters" in told
