"""The compiled encoder gives what the plain Python gives, whatever the vocabulary, the text and the threads."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core import compiled
from groundup.core.errors import DataError
from groundup.tokenizer import encoder as encoder_module
from groundup.tokenizer.bpe import BytePairTokenizer, Merger
from groundup.tokenizer.encoder import Encoder
from groundup.tokenizer.pretokenize import NAMED, Pattern
from groundup.tokenizer.vocabulary import Vocabulary

pytestmark = pytest.mark.skipif(not compiled.available(), reason="numba is not installed")

CORPUS = "abcabcabd aaaa aaa  the then 1234 12 don't  can't\n\n\n x'y été été 中文中文 \U0001f600\U0001f600 " * 3
TEXTS = st.text(st.sampled_from("aabcdthe'  \n\t\r12é中😀\u0301") | st.characters(exclude_categories=("Cs",)))


def vocabulary(merges: int = 40, pattern: str = "groundup", whole_pieces: bool = False) -> Vocabulary:
    learnt = BytePairTokenizer.train([CORPUS], 262 + merges, Pattern.named(pattern)).vocabulary
    return Vocabulary.make(
        learnt.tokens[: 256 + len(learnt.merges)],
        learnt.merges[:, :2].tolist(),
        learnt.special_tokens,
        learnt.pattern,
        whole_pieces,
    )


@pytest.mark.parametrize("pattern", NAMED)
def test_it_equals_the_plain_version(pattern: str) -> None:
    learnt = vocabulary(pattern=pattern)
    fast, plain = Encoder(learnt), Merger(learnt)

    @settings(max_examples=200)
    @given(TEXTS)
    def law(text: str) -> None:
        data = text.encode()
        assert fast.encode(data).tolist() == plain.encode(data).tolist()

    law()


def test_any_bytes_equal_the_plain_version() -> None:
    learnt = vocabulary()
    fast, plain = Encoder(learnt), Merger(learnt)

    broken = st.lists(st.sampled_from([b"\xe4\xb8", b"\xad", b"\xed\xa0\x80", b" a", b"\xf5"])).map(b"".join)

    @given(st.binary() | broken)
    def law(data: bytes) -> None:
        assert fast.encode(data).tolist() == plain.encode(data).tolist()

    law()


def test_a_pattern_of_the_users_own_equals_the_plain_version() -> None:
    learnt = vocabulary(pattern=r"\w+|\s")
    assert learnt.pattern.rules is None
    text = (CORPUS + "!!") * 50  # more pieces than the kernel takes at once
    assert Encoder(learnt).encode(text.encode()).tolist() == Merger(learnt).encode(text.encode()).tolist()


@pytest.mark.parametrize("window", [8, 16, 64])
def test_windows_do_not_show(window: int) -> None:
    """A long piece is merged in windows; wherever they are cut, the ids are those of the piece in one."""
    learnt = vocabulary(60)
    windows, plain = Encoder(learnt, window), Merger(learnt)

    @settings(max_examples=50, deadline=None)
    @given(st.text(st.sampled_from("abcd"), min_size=1, max_size=3), st.integers(256, 1500), st.text(max_size=5))
    def law(unit: str, length: int, tail: str) -> None:
        data = ((unit * length)[:length] + tail).encode()
        assert windows.encode(data).tolist() == plain.encode(data).tolist()

    law()


def test_ids_in_any_order_equal_the_plain_version() -> None:
    """Inside, ids follow the ranks; a vocabulary need not."""
    learnt = vocabulary()
    size = 256 + len(learnt.merges)
    order = np.random.default_rng(0).permutation(size)  # old id → new id
    tokens = [b""] * size
    for old in range(size):
        tokens[order[old]] = learnt.tokens[old]
    shuffled = Vocabulary.make(tokens, order[learnt.merges[:, :2]].tolist(), {})
    data = CORPUS.encode()
    assert Encoder(shuffled).encode(data).tolist() == order[Encoder(learnt).encode(data)].tolist()
    assert Merger(shuffled).encode(data).tolist() == order[Merger(learnt).encode(data)].tolist()


def test_a_piece_that_is_a_token_may_pass_over_the_merges() -> None:
    tokens = [*(bytes([byte]) for byte in range(256)), b"ab", b"xyz"]
    for whole, expected in ((True, [257]), (False, [120, 121, 122])):
        learnt = Vocabulary.make(tokens, [(97, 98)], {}, whole_pieces=whole)
        assert Encoder(learnt).encode(b"xyz").tolist() == Merger(learnt).encode(b"xyz").tolist() == expected


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_do_not_show(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(encoder_module, "PORTION", 500)  # many portions, and texts that are cut
    fast = Encoder(vocabulary())
    texts = [b"", b"one", CORPUS.encode() * 20, b"", b"a" * 5000, "中文 ".encode() * 900, b" two"]
    encoded = fast.encode_batch(texts, threads)
    assert len(encoded) == len(texts)
    assert encoded.lists() == [fast.encode(text).tolist() for text in texts]
    assert encoded[1].tolist() == encoded.lists()[1]


def test_texts_side_by_side_do_not_touch() -> None:
    """They lie one behind the other in one buffer, but a piece ends where its text does."""
    fast = Encoder(vocabulary(pattern="cl100k"))
    texts = ["ab", "ca", "a  ", "12", "34", "it'", "s", "!", "\n", " ", "ab", "\u00e9"]
    encoded = fast.encode_batch(map(str.encode, texts))
    assert encoded.lists() == [fast.encode(text.encode()).tolist() for text in texts]


def test_an_empty_batch_is_empty() -> None:
    assert Encoder(vocabulary()).encode_batch([], 2).lists() == []


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "PIECES", 64)
    monkeypatch.setattr(encoder_module, "KEY_BYTES", 512)
    monkeypatch.setattr(encoder_module, "STORED_IDS", 64)
    learnt = vocabulary()
    fast, plain = Encoder(learnt), Merger(learnt)
    words = [f"word{number}x" * (1 + number % 5) for number in range(2000)]
    data = " ".join(words).encode()
    assert fast.encode(data).tolist() == plain.encode(data).tolist()
    assert fast._idle[0]._state[0] <= len(learnt) + 64


def test_a_merge_that_can_never_happen_makes_no_token() -> None:
    tokens = [*(bytes([byte]) for byte in range(256)), b"bbb", b"abbb"]
    learnt = Vocabulary.make(tokens, [(97, 256)], {})
    assert Encoder(learnt).encode(b"abbb").tolist() == Merger(learnt).encode(b"abbb").tolist() == list(b"abbb")


def test_a_whole_piece_that_is_too_long_to_look_up_is_refused() -> None:
    tokens = [*(bytes([byte]) for byte in range(256)), b"x" * 256]
    with pytest.raises(DataError, match="256 bytes and no merges"):
        Vocabulary.make(tokens, [], {}, whole_pieces=True)


def test_threads_read_no_more_than_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "PORTION", 1)
    fast = Encoder(vocabulary())
    made = []

    def texts() -> Iterator[bytes]:
        for number in range(100):
            made.append(number)
            yield b"text"

    results = fast._results(encoder_module._portions(texts(), 1, split=False), 2)
    next(results)
    assert len(made) < 20
    assert len(list(results)) == 99
