"""The tokenizer stage: a corpus folder → ``tokenizer.json``, ``facts.json`` and ``comparison.json``.

Only ``train.jsonl`` is learnt from; ``validation.jsonl`` is read afterwards, to measure.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import regex

from groundup.core import files
from groundup.core.errors import ArtifactError, DataError, GroundupError, UsageError
from groundup.core.progress import Progress, say
from groundup.core.seeding import python_rng
from groundup.tokenizer.autosize import Body, propose
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.byte_level import room_in
from groundup.tokenizer.pretokenize import Pattern, Whitespace, well_formed
from groundup.tokenizer.protocol import SPECIAL_TOKENS, Tokenizer
from groundup.tokenizer.trainer import learn
from groundup.tokenizer.vocabulary import Pair

FACTS_NAME = "facts.json"
#: How many merges and longest tokens ``facts.json`` shows.
SHOWN = 20
COMPARISON_NAME = "comparison.json"
#: What the new tokenizer is called in the comparison, and the vocabularies beside it, where they were fetched.
OURS, OTHERS = "ours", ("gpt2", "llama2", "cl100k", "qwen", "llama3", "o200k")


@dataclass(frozen=True)
class TokenizerConfig:
    """The vocabulary, and how much text it is learnt from."""

    vocab_size: int | Literal["auto"] = 2048
    """Number of token ids: 256 bytes, the merges, and 6 special tokens. auto: what the corpus can train and the model
    can afford; the reasons are printed."""

    pattern: str = "groundup"
    """How text is cut before merging: groundup, gpt2, r50k, cl100k, llama3, qwen2, o200k, or a regular expression."""

    digits: int | None = None
    """At most so many digits in one token, instead of the pattern's own; 0: any number."""

    whitespace: Whitespace = "runs"
    """single: every white space that leads no word is a token of its own."""

    sample_bytes: int = 32_000_000
    """Learn from at most this many bytes of the train split, drawn by document."""

    start: Path | None = None
    """Take this tokenizer instead of learning one: a run, or a folder or a file that holds a run's tokenizer."""

    def __post_init__(self) -> None:
        if self.vocab_size != "auto":
            room_in(self.vocab_size)
        assert self.splitting
        if self.sample_bytes < 1:
            raise UsageError(f"sample_bytes must be at least 1, not {self.sample_bytes}")

    @property
    def splitting(self) -> Pattern:
        """The pattern with its options."""
        return Pattern.named(self.pattern, self.digits, self.whitespace)


@dataclass(frozen=True)
class Compression:
    """How short a text becomes."""

    bytes: int
    """UTF-8 bytes of the text."""

    words: int
    """Words, separated by white space."""

    tokens: int
    """Tokens the text encodes to."""

    bytes_per_token: float
    """More is shorter."""

    tokens_per_word: float
    """The tokens of the text, white space and signs included, over its words ("fertility")."""

    single_byte_share: float
    """Share of the tokens that are one bare byte: what no merge covered."""


def build(
    config: TokenizerConfig, corpus_folder: Path, out: Path, seed: int, body: Body | None = None
) -> dict[str, float]:
    """Train on ``corpus_folder/train.jsonl``, save into ``out``, and measure on both splits.

    Args:
        config: what to train.
        corpus_folder: of the corpus stage.
        out: folder for the artifacts.
        seed: draws the sample.
        body: the model, for ``vocab_size = "auto"``.

    Returns:
        The key figures: vocab_size, bytes_per_token and tokens_per_word on validation, seconds of training.

    Raises:
        ArtifactError: a split is missing or damaged.
        DataError: a split holds no text.
        UsageError: ``start`` is no tokenizer that a run can go on with.
    """
    train, validation = corpus_folder / "train.jsonl", corpus_folder / "validation.jsonl"
    portions = _draw(train, config.sample_bytes, seed)
    if not any(portions.values()):
        raise DataError(f"{train} holds no text; give the corpus stage more documents")
    start = time.perf_counter()
    if config.start is None:
        merges, why = _learn(config, _portions(train, portions), train, body)
        tokenizer = BytePairTokenizer.from_merges(merges, config.splitting)
    else:
        tokenizer, why = _given(config.start), [f"taken from {config.start}"]
    seconds = time.perf_counter() - start
    for reason in why:
        say(f"  tokenizer: {reason}")
    if config.start is None and config.vocab_size != "auto" and tokenizer.vocab_size < config.vocab_size:
        say(
            f"  tokenizer: the text has pairs for {tokenizer.vocab_size} token ids only, "
            f"not for the {config.vocab_size} asked for"
        )
    on_train = measure(tokenizer, _portions(train, portions), train)
    on_validation = measure(tokenizer, _documents(validation), validation)
    tokenizer.save(out)
    facts = {
        "vocab_size": tokenizer.vocab_size,
        "vocab_size_asked_for": config.vocab_size,
        "vocab_size_reasons": why,
        "pattern": config.pattern,
        "merges": len(tokenizer.merges),
        "special_tokens": dict(tokenizer.special_tokens),
        "fingerprint": tokenizer.fingerprint,
        "seconds": round(seconds, 3),
        "train": asdict(on_train),
        "validation": asdict(on_validation),
        **_shown(tokenizer),
        "example": _example(tokenizer, _documents(validation)),
    }
    files.write_json(out / FACTS_NAME, facts)
    files.write_json(out / COMPARISON_NAME, compared(tokenizer))
    return {
        "vocab_size": tokenizer.vocab_size,
        "bytes_per_token": on_validation.bytes_per_token,
        "tokens_per_word": on_validation.tokens_per_word,
        "seconds": seconds,
    }


def _learn(
    config: TokenizerConfig, texts: Iterable[str], train: Path, body: Body | None
) -> tuple[list[Pair], list[str]]:
    """The merges, and the reasons for their number where the size is ``auto``."""
    if config.vocab_size != "auto":
        return learn(texts, room_in(config.vocab_size), config.splitting).merges, []
    corpus_bytes = sum(len(text.encode()) for text in _documents(train))
    # The first merges of a larger vocabulary are those of a smaller one.
    sample = learn(texts, room_in(2 * propose(corpus_bytes, body).vocab_size), config.splitting)
    proposal = propose(corpus_bytes, body, sample)
    return sample.merges[: room_in(proposal.vocab_size)], proposal.why


def _given(where: Path) -> BytePairTokenizer:
    """The tokenizer at ``where``.

    Raises:
        UsageError: there is none, or it lacks what the stages after pretraining need.
    """
    from groundup.tokenizer.opening import open_tokenizer  # every command imports this module for its configuration

    tokenizer = open_tokenizer(where)
    if not isinstance(tokenizer, BytePairTokenizer) or not set(SPECIAL_TOKENS) <= tokenizer.special_tokens.keys():
        raise UsageError(
            f"tokenizer.start {where} lacks the special tokens {', '.join(SPECIAL_TOKENS)}; a run can only go on with "
            "the tokenizer of another run, or of its export"
        )
    return tokenizer


def measure(tokenizer: BytePairTokenizer, texts: Iterable[str], name: Path) -> Compression:
    """How short ``texts``, read from the file ``name``, become.

    Raises:
        DataError: there is no text.
    """
    size = words = tokens = bare = 0
    with Progress(f"tokenizer: measure on {name.name}", unit="byte") as progress:
        for text in texts:
            ids = tokenizer.encode(text)
            length = len(text.encode())
            size += length
            words += len(text.split())
            tokens += len(ids)
            bare += sum(token < 256 for token in ids)
            progress.advance(length)
    if tokens == 0:
        raise DataError(f"{name} holds no text; give the corpus stage more documents")
    return Compression(size, words, tokens, size / tokens, tokens / max(words, 1), bare / tokens)


def compared(tokenizer: BytePairTokenizer) -> dict[str, Any]:
    """``tokenizer`` and the vocabularies in the cache on the built-in samples, without speeds; nothing is fetched."""
    # Every command imports this module for its configuration, and needs none of these.
    from groundup.corpus.sources import archive_path
    from groundup.tokenizer.compare import compare
    from groundup.tokenizer.opening import open_known
    from groundup.tokenizer.samples import PARALLEL, SAMPLES
    from groundup.tokenizer.vocabularies import VOCABULARIES

    subjects: dict[str, Tokenizer] = {OURS: tokenizer}
    for name in OTHERS:
        try:
            if archive_path(VOCABULARIES[name]).is_file():
                subjects[name] = open_known(VOCABULARIES[name])
        except (GroundupError, OSError) as error:
            say(f"  tokenizer: not compared with {name}: {error}")
    return compare(subjects, SAMPLES, PARALLEL, timed=False).to_json()


def _documents(path: Path) -> Iterator[str]:
    """The text of each line of a split, as characters that UTF-8 can write."""
    for number, row in enumerate(files.read_jsonl(path), start=1):
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise ArtifactError(f"{path} has no text at line {number}; delete it and run the corpus stage again")
        yield well_formed(row["text"])


def _draw(path: Path, limit: int, seed: int) -> dict[int, int]:
    """Line → bytes to read of its document: all of them, or documents at random up to ``limit`` bytes."""
    sizes = [len(text.encode()) for text in _documents(path)]
    order = list(range(len(sizes)))
    if sum(sizes) > limit:
        python_rng(seed, "tokenizer", "sample").shuffle(order)
    portions: dict[int, int] = {}
    for line in order:
        portions[line] = min(sizes[line], limit)
        limit -= portions[line]
    return portions


def _portions(path: Path, portions: dict[int, int]) -> Iterator[str]:
    """The drawn part of each document, cut at a character."""
    for line, text in enumerate(_documents(path)):
        yield text.encode()[: portions[line]].decode("utf-8", "ignore")


def _shown(tokenizer: BytePairTokenizer) -> dict[str, Any]:
    """The first merges, and the longest tokens (of equally long ones the earlier learnt)."""
    learnt = range(256, 256 + len(tokenizer.merges))
    longest = sorted(learnt, key=lambda token: (-len(tokenizer.token_bytes(token)), token))
    first = [
        {"left": tokenizer.decode([left]), "right": tokenizer.decode([right]), "id": token}
        for token, (left, right) in zip(learnt, tokenizer.merges[:SHOWN], strict=False)
    ]
    return {"first_merges": first, "longest_tokens": _spelled(tokenizer, longest[:SHOWN])}


def _example(tokenizer: BytePairTokenizer, texts: Iterable[str]) -> dict[str, Any]:
    """The first sentence-like line of 40 to 90 characters, or else the beginning, and its tokens."""
    sentence = regex.compile(r"^\p{Lu}[^\n]{38,88}[.!?]$", regex.MULTILINE)
    beginning = ""
    for text in texts:
        beginning = beginning or text.strip()[:80]
        if found := sentence.search(text):
            beginning = found.group()
            break
    return {"text": beginning, "pieces": _spelled(tokenizer, tokenizer.encode(beginning))}


def _spelled(tokenizer: BytePairTokenizer, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Each id with its text."""
    return [{"id": token, "text": tokenizer.decode([token])} for token in ids]
