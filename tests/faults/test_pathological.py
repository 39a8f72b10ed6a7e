"""Texts that make encoders quadratic or recursive: a megabyte of each must be encoded, and rightly.

No time is measured: what takes a fraction of a second when it is linear would not end within the life of a test run.
"""

import random
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

from groundup.tokenizer.bpe import BytePairTokenizer, Merger
from groundup.tokenizer.pretokenize import NAMED, Pattern
from groundup.tokenizer.trainer import learn, learn_merges

MEGABYTE, LITTLE = 1_000_000, 30_000


def drawn(characters: Sequence[str], size: int) -> str:
    """Random characters of ``size`` bytes together."""
    return "".join(random.Random(0).choices(characters, k=size // len(characters[0].encode())))


def zalgo(size: int) -> str:
    """Letters under towers of twenty marks."""
    marks = [chr(code) for code in range(0x300, 0x370)]
    return "".join(letter + drawn(marks, 40) for letter in drawn("zalgo", size // 41))


def hard(name: str, size: int) -> str:
    """The text called ``name``, of about ``size`` bytes."""
    repeated = {
        "a": "a",
        "spaces": " ",
        "line ends": "\n",
        "mixed line ends": "\r\n ",
        "emoji": "😀",
        "one CJK character": "中",
        "a b": "a b ",
        "marks": "\u0301",
        "apostrophes": "'",
        "contractions": "'s",
        "null bytes": "\0",
        "capital and small": "aA",
    }
    if name in repeated:
        return repeated[name] * (size // len(repeated[name].encode()))
    if name == "Zalgo":
        return zalgo(size)
    characters = {
        "CJK": [chr(code) for code in range(0x4E00, 0x9FA6)],
        "letters": "abcdefgh",
        "digits": "0123456789",
        "signs": '!"#$%&()*+,-./:;<=>?@[]^_`{|}~',
        "white space": " \t\n\r",
    }
    return drawn(characters[name], size)


NAMES = [
    *("a", "spaces", "line ends", "mixed line ends", "emoji", "one CJK character", "a b", "marks", "apostrophes"),
    *("contractions", "null bytes", "capital and small", "Zalgo", "CJK", "letters", "digits", "signs", "white space"),
]


@pytest.fixture(scope="module")
def vocabulary_text() -> list[str]:
    """Texts from which merges for every hard text are learnt, long runs included."""
    source = (Path(sysconfig.get_path("stdlib")) / "textwrap.py").read_text(encoding="utf-8")
    return [source, *(hard(name, 600) for name in NAMES), *(hard(name, 600) for name in NAMES)]


@pytest.fixture(scope="module", params=["groundup", "gpt2", "o200k"])
def tokenizer(request: pytest.FixtureRequest, vocabulary_text: list[str]) -> BytePairTokenizer:
    """One for every shape of pattern."""
    return BytePairTokenizer.train(vocabulary_text, 1200, Pattern.named(request.param))


@pytest.mark.parametrize("name", NAMES)
def test_a_megabyte_is_encoded(tokenizer: BytePairTokenizer, name: str) -> None:
    text = hard(name, MEGABYTE)
    ids = tokenizer.encode_array(text)
    assert tokenizer.decode(ids.tolist()) == text


@pytest.mark.parametrize("name", NAMES)
def test_the_ids_are_those_of_the_plain_encoder(tokenizer: BytePairTokenizer, name: str) -> None:
    text = hard(name, LITTLE)
    assert tokenizer.encode(text) == Merger(tokenizer.vocabulary).encode(text.encode()).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_they_are_those_of_tiktoken(vocabulary_text: list[str], name: str) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    tokenizer = BytePairTokenizer.train(vocabulary_text, 1200, Pattern.named("llama3"))
    ordinary = range(256 + len(tokenizer.merges))
    encoding = tiktoken.Encoding(
        "ours",
        pat_str=NAMED["llama3"],
        mergeable_ranks={tokenizer.token_bytes(token): token for token in ordinary},
        special_tokens={},
    )
    text = hard(name, LITTLE)
    assert tokenizer.encode(text) == encoding.encode_ordinary(text)


@pytest.mark.parametrize("name", NAMES)
def test_a_vocabulary_is_learnt_from_a_megabyte(name: str) -> None:
    learnt = learn([hard(name, MEGABYTE)], 30, Pattern.named("gpt2"))
    assert learnt.bytes >= MEGABYTE - 100
    assert 1 <= len(learnt.merges) <= 30


def test_one_piece_of_a_megabyte_is_no_problem_for_the_plain_trainer() -> None:
    assert learn_merges({b"a" * MEGABYTE: 1}, 5) == [(97, 97), (256, 256), (257, 257), (258, 258), (259, 259)]
