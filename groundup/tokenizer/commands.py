"""The tools of ``groundup tokenizer``: words of a command line enter; results leave on stdout, remarks on stderr."""

import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from rich.console import Console, RenderableType

from groundup.core.config import keys_of, parse
from groundup.core.errors import DataError, UsageError
from groundup.core.files import storage_errors
from groundup.core.progress import Progress, say
from groundup.tokenizer.autosize import Body, propose
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.byte_level import room_in
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.formats.huggingface import FILE_NAME
from groundup.tokenizer.formats.prepared import PreparedTokenizer
from groundup.tokenizer.opening import open_tokenizer
from groundup.tokenizer.pretokenize import Pattern, Whitespace
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.streaming import blocks, npy_file, read_ids
from groundup.tokenizer.texts import GZIP_SUFFIX, cut_place, find_texts, read_texts
from groundup.tokenizer.trainer import learn
from groundup.tokenizer.unigram import UnigramTokenizer
from groundup.tokenizer.words import WordTokenizer

Options = TypeVar("Options")

#: Where the tokenizer is looked for when none is named.
DEFAULT_RUN = "runs/quickstart"
#: Most bytes that ``show`` and ``trace`` read from standard input.
MOST_SHOWN = 1 << 16
#: Most characters of one file or folder that ``compare`` reads.
MOST_COMPARED = 1 << 24


#: Of what ``train`` reads, one part in so many is held out to measure on, up to so many characters; and what belongs
#: to it is gathered until there are so many.
HELD_OUT, MOST_HELD_OUT, LEAST_HELD_OUT = 50, 1 << 20, 1000
#: ``--vocab-size auto`` proposes at most so many ids.
MOST_AUTOMATIC = 1 << 18
#: A terminal is taken to be at least this wide, whatever it says.
NARROWEST = 20
#: Tokens that ``train`` shows.
SHOWN = 12

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}


@dataclass(frozen=True)
class TrainOptions:
    """Learn a tokenizer from text of any size, in bounded memory; the same command again goes on where it was."""

    input: tuple[Path, ...] = ()
    """Files and folders: text, or .jsonl with a "text" on each line; both may be compressed (.gz)."""
    vocab_size: str = "32768"
    """Number of token ids, special tokens included; auto (BPE): what the text can train and the model can afford."""
    model_parameters: int | None = None
    """For auto: the weights of the model that the tokenizer is for, without embedding and output head."""
    model_width: int = 768
    """For auto: the size of that model's residual stream."""
    out: Path | None = None
    """The new folder of the tokenizer."""
    pattern: str = "groundup"
    """How text is cut into pieces: groundup, gpt2, r50k, cl100k, llama3, qwen2, o200k, or a regular expression."""
    digits: int | None = None
    """At most so many digits in a piece, 0 for any number; without it, as the pattern says."""
    whitespace: Whitespace = "runs"
    """Whether a run of white space may be one token, or each sign of it is one."""
    algorithm: Literal["bpe", "unigram", "characters", "words"] = "bpe"
    """What is learnt."""
    threads: int | None = None
    """Threads that count; without it, one for each processor."""
    memory: str = "1GB"
    """How much memory counting may take; beyond it the rarest pieces are dropped, and reported."""


@dataclass(frozen=True)
class Named:
    """Which tokenizer."""

    tokenizer: str = DEFAULT_RUN
    """A run, a folder or file with a tokenizer of groundup or another tool, or the name of a fetched one (gpt2)."""
    pattern: str | None = None
    """How text is cut, for a file of ranks that does not say it: groundup, gpt2, cl100k … or a regular expression."""


@dataclass(frozen=True)
class EncodeOptions(Named):
    """Text or any other bytes (FILE, or standard input) → token ids."""

    out: Path | None = None
    """Write the ids to this .npy file; without it, to standard output as text, with a line for each line."""


@dataclass(frozen=True)
class DecodeOptions(Named):
    """Token ids (FILE, or standard input; as text or .npy) → exactly the bytes that they stand for."""


@dataclass(frozen=True)
class ShowOptions(Named):
    """The tokens of a TEXT (or of standard input): pieces, ids and bytes."""

    bytes: bool = True
    """Show the bytes of each token below its id."""
    json: bool = False
    """Print id, text and bytes of each token for programs."""


@dataclass(frozen=True)
class TraceOptions(Named):
    """How byte-pair encoding merges a TEXT (or standard input), step by step."""


@dataclass(frozen=True)
class CompareOptions:
    """Several tokenizers on the same texts."""

    tokenizers: tuple[str, ...] = ()
    """Two or more: folders, files or names of fetched ones; NAME=WHERE gives one another name."""
    input: tuple[Path, ...] = ()
    """Files or folders of text to compare on; without any, samples of 15 languages, code, numbers and signs."""
    details: bool = False
    """Show every figure for every text."""
    json: bool = False
    """Print everything for programs."""
    out: Path | None = None
    """Save comparison.json and a chart, comparison.svg and comparison.png, in this folder."""


class Tool(NamedTuple):
    """One word after ``groundup tokenizer``."""

    run: Callable[[list[str]], int]
    words: str
    what: str


def usage() -> str:
    """The tools, and what ``groundup tokenizer`` is without one, for ``--help``."""
    tools = [f"  groundup tokenizer {name} {tool.words}\n      {tool.what}\n" for name, tool in TOOLS.items()]
    return (
        f"Tokenizers by themselves:\n\n{''.join(tools)}\n"
        "  WHERE is a run, a folder or a file with a tokenizer, or a name that `groundup fetch` knows.\n"
        "  Each explains its options with --help.\n\n"
        "The tokenizer of a run, as a stage:\n\n"
        "  groundup tokenizer [RECIPE] [--out DIR] [--key value …]\n"
    )


def train(words: list[str]) -> int:
    """Texts → a tokenizer."""
    options, _ = _parsed(TrainOptions, words, "train", "")
    out = options.out
    if not options.input:
        raise UsageError("name what to learn from: --input FILE or FOLDER …")
    if out is None:
        raise UsageError("name a new folder for the tokenizer: --out FOLDER")
    if (out / FILE_NAME).exists():
        raise UsageError(f"{out} has a tokenizer already; choose another --out, or delete it")
    automatic = options.vocab_size == "auto" and options.algorithm == "bpe"
    body = None if options.model_parameters is None else Body(options.model_parameters, options.model_width)
    if not automatic and not options.vocab_size.isdecimal():
        raise UsageError(f"--vocab-size is {options.vocab_size!r}; use a number, or for BPE auto")
    size = MOST_AUTOMATIC if automatic else int(options.vocab_size)
    pattern = Pattern.named(options.pattern, options.digits, options.whitespace)
    with storage_errors(out):  # rather now than after the work
        out.mkdir(parents=True, exist_ok=True)
    texts = (text for text, _ in _held_out(read_texts(options.input)) if text)
    tokenizer: Tokenizer
    if options.algorithm == "bpe":
        state = out / "state"
        learnt = learn(texts, room_in(size), pattern, threads=options.threads, memory=_bytes(options.memory),
                       state=state, total_bytes=_total_bytes(options.input))  # fmt: skip
        learnt_from = f"{_count(learnt.bytes, 'byte')} in {_count(learnt.documents, 'text')}"
        say(f"  {learnt_from}; {_count(learnt.pieces, 'different piece')}")
        if learnt.dropped:
            say(f"  {learnt.dropped:,} occurrences of rare pieces did not fit into --memory {options.memory}")
        merges = learnt.merges
        if automatic:
            proposal = propose(learnt.bytes, body, learnt)
            for reason in proposal.why:
                say(f"  {reason}")
            size = proposal.vocab_size
            merges = merges[: room_in(size)]  # the first of many are those of a smaller vocabulary
        tokenizer = BytePairTokenizer.from_merges(merges, pattern)
        tokenizer.save(out)
        shutil.rmtree(state, ignore_errors=True)
    else:
        if options.algorithm == "characters":
            tokenizer = CharacterTokenizer.train(texts, size)
        else:
            kind = UnigramTokenizer if options.algorithm == "unigram" else WordTokenizer
            tokenizer = kind.train(texts, size, pattern)
        tokenizer.save(out)
    _tell(tokenizer, size, options.input)
    print(out)
    return 0


def _tell(tokenizer: Tokenizer, size: int, paths: Sequence[Path]) -> None:
    """What was learnt and how good it is."""
    from groundup.tokenizer.compare import compare, figures_of
    from groundup.tokenizer.show import visible

    fewer = f"; the text has no more for the {size:,} asked for" if tokenizer.vocab_size < size else ""
    say(f"  {tokenizer.vocab_size:,} token ids, {len(tokenizer.special_tokens)} of them special{fewer}")
    spelled = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
    learnt = [token for token in spelled if len(token) > 1]
    words = [token for token in learnt if token.decode("utf-8", "ignore").strip().isalpha()]
    console = Console(stderr=True)
    for what, tokens in (("first", learnt), ("longest words", sorted(words, key=len, reverse=True))):
        say(f"  {what}: " + "  ".join(visible(token, console.encoding) for token in tokens[:SHOWN]))
    parts = list(_held_out(read_texts(paths), only=True))
    held = "".join(text for _, text in parts)
    where = f"{len(held.encode()):,} bytes that were not learnt from"
    if not held:
        held, where = next(iter(read_texts(paths))), "the text it was learnt from, which is too short to hold any out"
    figures = figures_of(compare({"": tokenizer}, {"": {"": held}}).measurements)
    per_word = figures["tokens_per_word"]
    say(f"  on {where}: {figures['bytes_per_token']:.2f} bytes per token"
        + (f", {per_word:.2f} tokens per word" if per_word else ""))  # fmt: skip


def _held_out(texts: Iterable[str], only: bool = False) -> Iterator[tuple[str, str]]:
    """Each text as the part to learn from and the part held out: of many short texts some, of long ones the ends.

    With ``only``, ends as soon as all that is held out has been seen.
    """
    owed = 0.0
    held = 0
    for text in texts:
        if held >= MOST_HELD_OUT:
            if only:
                return
            yield text, ""
            continue
        owed += len(text) / HELD_OUT
        cut = len(text)
        if owed >= len(text):
            cut = 0
        elif owed >= LEAST_HELD_OUT:
            cut = cut_place(text, len(text) - int(owed)) or cut
        owed -= len(text) - cut
        held += len(text) - cut
        yield text[:cut], text[cut:]


def _bytes(amount: str) -> int:
    """``1.5GB`` → 1,500,000,000."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([kmgt]?)b?", amount.strip().lower())
    if not found:
        raise UsageError(f"--memory is {amount!r}; use a size such as 500MB or 4GB")
    return int(float(found[1]) * _UNITS[found[2]])


def _total_bytes(paths: Sequence[Path]) -> int | None:
    """How long the texts are, where that can be known."""
    found = find_texts(paths)
    compressed = any(path.suffix.lower() == GZIP_SUFFIX for path in found)
    return None if compressed else sum(path.stat().st_size for path in found)


def encode(words: list[str]) -> int:
    """Bytes → ids."""
    options, file = _parsed(EncodeOptions, words, "encode", "[FILE]")
    if options.out is not None and options.out.suffix != ".npy":
        raise UsageError(f"--out {options.out} must end in .npy; for text, redirect standard output")
    tokenizer = _opened(options.tokenizer, options.pattern)
    pattern = _pattern_of(tokenizer)
    size = count = 0
    with (
        _source(file) as (stream, name, total),
        _sink(tokenizer, options.out) as write,
        Progress("tokenizer: encode", total, "B") as progress,
    ):
        for block in blocks(stream, pattern):
            ids = _ids(tokenizer, block, name)
            write(ids)
            size, count = size + len(block), count + len(ids)
            progress.advance(len(block))
    if options.out is not None:
        per_token = f", {size / count:.2f} bytes per token" if count else ""
        say(f"  {_count(count, 'token')} for {_count(size, 'byte')}{per_token}")
        print(options.out)
    return 0


def _ids(tokenizer: Tokenizer, data: bytes, name: str) -> npt.NDArray[np.integer]:
    """Ids of text, or of any bytes if the vocabulary has them."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if not isinstance(tokenizer, BytePairTokenizer | UnigramTokenizer | CharacterTokenizer):
            raise DataError(f"{name} is not UTF-8, and this tokenizer knows only text; convert it first") from error
        return np.array(tokenizer.encode_bytes(data), np.int64)
    if isinstance(tokenizer, BytePairTokenizer):
        return tokenizer.encode_array(text)
    return np.array(tokenizer.encode(text), np.int64)


@contextmanager
def _sink(tokenizer: Tokenizer, out: Path | None) -> Iterator[Callable[[npt.NDArray[np.integer]], object]]:
    """What ids are written with: to the file ``out``, or to standard output."""
    if out is not None:
        with npy_file(out, tokenizer.vocab_size) as append:
            yield append
        return
    # A line ends where the text's does, so that ids are found beside their line; to `decode` all white space is one.
    ids = range(tokenizer.vocab_size)
    spelled = [str(one) + ("\n" if tokenizer.token_bytes(one).endswith(b"\n") else " ") for one in ids]
    last = "\n"

    def write(ids: npt.NDArray[np.integer]) -> None:
        nonlocal last
        words = [spelled[one] for one in ids.tolist()]
        sys.stdout.write("".join(words))
        last = words[-1] if words else last

    yield write
    if not last.endswith("\n"):
        sys.stdout.write("\n")


def decode(words: list[str]) -> int:
    """Ids → bytes."""
    options, file = _parsed(DecodeOptions, words, "decode", "[FILE]")
    tokenizer = _opened(options.tokenizer, options.pattern)
    with _source(file) as (stream, name, _), Progress("tokenizer: decode", unit="token") as progress:
        found = read_ids(stream, name, tokenizer.vocab_size)
        if _pattern_of(tokenizer) is None:  # what an id stands for may depend on those before it
            found = iter([np.concatenate([np.empty(0, np.int64), *found])])
        for ids in found:
            sys.stdout.buffer.write(tokenizer.decode_bytes(ids.tolist()))
            progress.advance(len(ids))
    sys.stdout.buffer.flush()
    return 0


def show(words: list[str]) -> int:
    """A text → its tokens, to look at."""
    from groundup.tokenizer.show import as_bytes, draw, tokens_of

    options, text = _parsed(ShowOptions, words, "show", "[TEXT]")
    tokenizer = _opened(options.tokenizer, options.pattern)
    text = _text(text)
    tokens = tokens_of(tokenizer, text)
    if options.json:
        rows = [{"id": token.id, "text": _utf8(token.bytes), "bytes": token.bytes.hex()} for token in tokens]
        print(json.dumps(rows))
        return 0
    console = _console()
    _print(console, draw(tokens, console, options.bytes))
    size = len(as_bytes(text))
    per_token = f", {size / len(tokens):.2f} bytes per token" if tokens else ""
    say(f"{_count(len(tokens), 'token')} for {_count(len(text), 'character')} in {_count(size, 'byte')}{per_token}")
    return 0


def _utf8(data: bytes) -> str | None:
    """Text, or None for a part of a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def trace(words: list[str]) -> int:
    """A text → the merges that make its tokens."""
    from groundup.tokenizer.trace import Tracer, draw

    options, text = _parsed(TraceOptions, words, "trace", "[TEXT]")
    tokenizer = _opened(options.tokenizer, options.pattern)
    text = _text(text)
    if isinstance(tokenizer, PreparedTokenizer):
        form, vocabulary = tokenizer.definition.normalization, tokenizer.definition.vocabulary
        text = unicodedata.normalize(form, text) if form else text
    elif isinstance(tokenizer, BytePairTokenizer):
        vocabulary = tokenizer.vocabulary
    else:
        raise UsageError(
            f"{options.tokenizer} is no byte-level BPE tokenizer, and only their merges are traced; see `show`"
        )
    traces = list(Tracer(vocabulary).pieces(text))
    console = _console()
    _print(console, draw(traces, vocabulary, console))
    tokens = sum(len(one.tokens) for one in traces)
    merges = sum(len(one.steps) for one in traces)
    say(", ".join([_count(len(traces), "piece"), _count(merges, "merge"), _count(tokens, "token")]))
    return 0


def compare(words: list[str]) -> int:
    """Tokenizers → a table and a chart."""
    from groundup.tokenizer import compare as comparing
    from groundup.tokenizer.samples import PARALLEL, SAMPLES

    options, _ = _parsed(CompareOptions, words, "compare", "")
    if not options.tokenizers:
        raise UsageError("name what to compare: --tokenizers runs/quickstart gpt2 o200k")
    texts = {"your text": _texts(options.input)} if options.input else SAMPLES
    named: dict[str, Tokenizer] = {}
    for where in options.tokenizers:
        name, path = _named(where)
        if name in named:
            raise UsageError(f"two tokenizers are called {name}; give one another name: --tokenizers other={path}")
        named[name] = _opened(path)
    comparison = comparing.compare(named, texts, () if options.input else PARALLEL)
    if options.json:
        print(json.dumps(comparison.to_json()))
    else:
        console = _console()
        if not console.is_terminal:
            console.width = max(console.width, 120)
        for table in comparing.tables(comparison, options.details):
            _print(console, [table, ""])
    if options.out is not None:
        for saved in comparing.save(comparison, options.out):
            say(f"  {saved}")
    return 0


def _named(where: str) -> tuple[str, str]:
    """(name, where) of ``NAME=WHERE``; a path is called by what tells it from others."""
    name, equals, path = where.partition("=")
    if equals and not Path(where).exists():
        return name, path
    parts = [part for part in Path(where).parts if Path(part).stem != "tokenizer"]
    return (parts[-1] if parts else where), where


def _texts(paths: Sequence[Path]) -> Mapping[str, str]:
    """The beginning of what each file or folder holds, by its name."""
    texts: dict[str, str] = {}
    for path in paths:
        parts: list[str] = []
        for part in read_texts([path]):
            parts.append(part)
            if sum(map(len, parts)) > MOST_COMPARED:
                say(f"  {path}: only the first {MOST_COMPARED:,} characters are compared")
                break
        texts[str(path)] = "\n".join(parts)[:MOST_COMPARED]
    return texts


def _parsed(kind: type[Options], words: list[str], tool: str, takes: str) -> tuple[Options, str | None]:
    """The options, and the word that is none (or None); whatever stands behind ``--`` is no option."""
    program = f"groundup tokenizer {tool} {takes}".rstrip()
    options, others = _split(kind, words)
    config = parse(kind, kind(), options, program, "command line")
    if len(others) > bool(takes):
        raise UsageError(f"unexpected {others[-1]!r}; `{program} --help` shows how it is used")
    return config, others[0] if others else None


def _split(kind: Any, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options with their values, and the other words."""
    types = dict(keys_of(kind))
    options, others, waiting = list[str](), list[str](), list(words)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            return options, others + waiting
        if not (word.startswith("--") or word == "-h"):
            others.append(word)
            continue
        options.append(word)
        hint = types.get(word.removeprefix("--").replace("_", "-"))
        several = getattr(hint, "__origin__", None) is tuple
        while hint not in (None, bool) and waiting and not waiting[0].startswith("--"):
            options.append(waiting.pop(0))
            if not several:
                break
    return options, others


def _opened(where: str, pattern: str | None = None) -> Tokenizer:
    """The tokenizer of a run, a folder, a file or a name."""
    if where == DEFAULT_RUN and not Path(where).exists():
        raise UsageError(f"no tokenizer is named, and there is none at {where}; give --tokenizer FOLDER, FILE or NAME")
    return open_tokenizer(where, pattern)


def _pattern_of(tokenizer: Tokenizer) -> Pattern | None:
    """The pattern of a tokenizer whose pieces are encoded and decoded one by one."""
    pattern = getattr(getattr(tokenizer, "vocabulary", tokenizer), "pattern", None)
    return pattern if isinstance(pattern, Pattern) else None


def _text(word: str | None) -> str:
    """The text that was given, or the beginning of standard input; what is not UTF-8 as lone surrogates (PEP 383)."""
    if word is not None:
        return os.fsencode(word).decode("utf-8", "surrogateescape")  # as it was typed, whatever the locale
    with _source(None) as (stream, name, _):
        data = stream.read(MOST_SHOWN + 1)
    if len(data) > MOST_SHOWN:
        say(f"  {name}: only the first {MOST_SHOWN >> 10} kB are shown")
    return data[:MOST_SHOWN].decode("utf-8", "surrogateescape")


@contextmanager
def _source(file: str | None) -> Iterator[tuple[BinaryIO, str, int | None]]:
    """A file or standard input: the stream, its name and, where it is known, its size."""
    if file in (None, "-"):
        if sys.stdin.isatty():
            say("Reading from the terminal; end with Ctrl-D (Windows: Ctrl-Z and Return).")
        yield sys.stdin.buffer, "standard input", None
        return
    path = Path(file)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    try:
        handle = path.open("rb")
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; name a file, or - for standard input") from error
    with handle:
        yield handle, str(path), path.stat().st_size


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _console() -> Console:
    console = Console(highlight=False)
    console.width = max(console.width, NARROWEST)
    return console


def _print(console: Console, things: Sequence[RenderableType]) -> None:
    """Print through ``sys.stdout``, whose errors ``cli`` knows, instead of rich's own way out."""
    with console.capture() as drawn:
        for thing in things:
            console.print(thing, soft_wrap=not hasattr(thing, "columns"))
    sys.stdout.write("".join(line.rstrip() + "\n" for line in drawn.get().splitlines()))
    sys.stdout.flush()  # remarks on stderr come after it


TOOLS = {
    "train": Tool(train, "--input PATH … --out DIR [--vocab-size N|auto]", "a tokenizer from text of your own"),
    "encode": Tool(encode, "[FILE] [--tokenizer WHERE] [--out IDS.npy]", "text, or any bytes, to token ids"),
    "decode": Tool(decode, "[FILE] [--tokenizer WHERE]", "token ids to exactly the bytes that they stand for"),
    "show": Tool(show, "[TEXT] [--tokenizer WHERE]", "the tokens of a text: pieces, ids, bytes"),
    "trace": Tool(trace, "[TEXT] [--tokenizer WHERE]", "how byte-pair encoding merges a text, step by step"),
    "compare": Tool(compare, "--tokenizers A B … [--input FILE …] [--out DIR]", "several tokenizers on the same texts"),
}
