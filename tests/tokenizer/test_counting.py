"""Counting a stream: the same counts as ``count_pieces``, on any number of threads, in bounded memory."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core import compiled
from groundup.core.errors import ArtifactError
from groundup.tokenizer import counting
from groundup.tokenizer.counting import CompiledTable, Counted, Pieces, PlainTable, count, count_pieces
from groundup.tokenizer.pretokenize import NAMED, Pattern

needs_kernels = pytest.mark.skipif(not compiled.available(), reason="kernels cannot be compiled here")

ANY_TEXTS = st.lists(
    st.text(st.characters(exclude_categories=())) | st.text(st.sampled_from("ab  \n1é'中")), max_size=5
)


def counts_of(counted: Counted) -> Counter[bytes]:
    return counted.pieces.counter()


@needs_kernels
@given(ANY_TEXTS, st.sampled_from(sorted(NAMED)))
def test_the_kernel_counts_the_same(texts: list[str], name: str) -> None:
    pattern = Pattern.named(name)
    assert pattern.rules
    table = CompiledTable(pattern.rules)
    size = table.count(texts)
    assert table.pieces().counter() == count_pieces(texts, pattern)
    plain = PlainTable(pattern)
    assert plain.count(texts) == size
    assert plain.pieces().counter() == count_pieces(texts, pattern)
    assert plain.cost == table.cost


@needs_kernels
def test_the_kernel_counts_the_same_in_real_text(stdlib_text: str) -> None:
    texts = stdlib_text.split("\n")
    table = CompiledTable(Pattern().rules)  # type: ignore[arg-type]
    table.count(texts)
    table.count([stdlib_text, "東京 " * 1000, "x" * 100_000, "y" * 15 + " " + "y" * 16 + " " + "y" * 17])
    expected = count_pieces(
        [*texts, stdlib_text, "東京 " * 1000, "x" * 100_000, "y" * 15 + " " + "y" * 16 + " " + "y" * 17]
    )
    assert table.pieces().counter() == expected


@needs_kernels
@given(st.dictionaries(st.binary(min_size=1, max_size=40), st.integers(1, 2**60), max_size=50))
def test_pieces_go_into_a_table_and_out_again(counts: dict[bytes, int]) -> None:
    table = CompiledTable(Pattern().rules)  # type: ignore[arg-type]
    table.add(Pieces.of(counts))
    assert table.pieces().counter() == counts
    table.add(table.pieces())
    assert table.pieces().counter() == {piece: 2 * count for piece, count in counts.items()}
    table.clear()
    assert table.pieces().counter() == {}


@needs_kernels
def test_a_table_grows() -> None:
    counts = {f"{number}{'long enough for the keys' * (number % 2)}".encode(): number + 1 for number in range(100_000)}
    table = CompiledTable(Pattern().rules)  # type: ignore[arg-type]
    table.add(Pieces.of(counts))
    assert table.pieces().counter() == counts


@given(st.dictionaries(st.binary(max_size=9), st.integers(1, 9)), st.integers(1, 10))
def test_rare_pieces_are_left_out(counts: dict[bytes, int], minimum: int) -> None:
    pieces = Pieces.of(counts)
    assert pieces.counter() == counts
    assert pieces.at_least(minimum).counter() == {piece: count for piece, count in counts.items() if count >= minimum}


@pytest.fixture(params=["compiled", "plain"])
def small_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Counted]:
    """``count`` with blocks and memory so small that a small corpus overruns them."""
    if request.param == "plain":
        monkeypatch.setattr(compiled, "available", lambda: False)
    elif not compiled.available():
        pytest.skip("kernels cannot be compiled here")
    monkeypatch.setattr(counting, "BLOCK_CHARACTERS", 1000)
    monkeypatch.setattr(counting, "LEAST_MEMORY", 1)
    return count


def test_threads_and_blocks_change_nothing(small_memory: Callable[..., Counted], stdlib_text: str) -> None:
    texts = [*stdlib_text.split("\n\n"), stdlib_text]
    expected = count_pieces(texts)
    for threads in (1, 2, 3):
        counted = small_memory(texts, threads=threads)
        assert counts_of(counted) == expected
        assert counted.occurrences == expected.total()
        assert counted.documents == len(texts)
        assert counted.dropped == counted.error == 0


def test_memory_is_bounded_and_what_is_dropped_is_told(small_memory: Callable[..., Counted], stdlib_text: str) -> None:
    texts = [*stdlib_text.split("\n\n"), stdlib_text]
    expected = count_pieces(texts)
    memory = 200_000
    counted = small_memory(texts, threads=1, memory=memory)
    found = counts_of(counted)
    assert 0 < counted.dropped < expected.total() / 4
    assert sum(counting.PIECE_COST + counting.BYTE_COST * len(piece) for piece in found) < 2 * memory
    assert counted.occurrences == expected.total() == found.total() + counted.dropped
    for piece, occurrences in expected.items():
        assert 0 <= occurrences - found[piece] <= counted.error
    for threads in (2, 3):
        again = small_memory(texts, threads=threads, memory=memory)
        assert counts_of(again) == found
        assert (again.dropped, again.error) == (counted.dropped, counted.error)


@needs_kernels
def test_plain_python_drops_the_same(stdlib_text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "BLOCK_CHARACTERS", 1000)
    monkeypatch.setattr(counting, "LEAST_MEMORY", 1)
    texts = stdlib_text.split("\n\n")
    ours = count(texts, memory=150_000, threads=2)
    monkeypatch.setattr(compiled, "available", lambda: False)
    plain = count(texts, memory=150_000)
    assert ours.dropped > 0
    assert counts_of(ours) == counts_of(plain)
    assert (ours.dropped, ours.error, ours.bytes) == (plain.dropped, plain.error, plain.bytes)


def test_pieces_that_all_occur_once_may_all_be_dropped(small_memory: Callable[..., Counted]) -> None:
    texts = [" ".join(f"w{number:x}x" for number in range(start, start + 100)) for start in range(0, 5000, 100)]
    counted = small_memory(texts, memory=50_000)
    assert counted.dropped + counts_of(counted).total() == counted.occurrences


class Interrupt(Exception):
    """Stops a stream of texts where a kill would."""


def interrupted(texts: list[str], after: int) -> Callable[[], object]:
    def stream() -> object:
        yield from texts[:after]
        raise Interrupt

    return stream  # type: ignore[return-value]


def test_an_interrupted_count_goes_on(
    small_memory: Callable[..., Counted], stdlib_text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "SAVE_SECONDS", 0.0)
    texts = stdlib_text.split("\n\n")
    for memory in (counting.MEMORY, 150_000):
        expected = small_memory(texts, memory=memory)
        folder = tmp_path / str(memory)
        for after in (1, 100, 250, len(texts)):
            with pytest.raises(Interrupt):
                small_memory(interrupted(texts, after)(), memory=memory, state=folder, threads=2)
        counted = small_memory(texts, memory=memory, state=folder)
        for again in (counted, small_memory(texts, memory=memory, state=folder)):  # the second reads it back whole
            assert counts_of(again) == counts_of(expected)
            assert again.documents == expected.documents
            assert again.bytes == expected.bytes
            assert (again.dropped, again.error) == (expected.dropped, expected.error)


def test_progress_is_kept_among_long_texts(
    small_memory: Callable[..., Counted],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Texts that take two blocks and a half each: only at the end of one there is something to keep."""
    monkeypatch.setattr(counting, "SAVE_SECONDS", 0.0)
    texts = [f"{number} words, " * 250 for number in range(9)]
    with pytest.raises(Interrupt):
        small_memory(interrupted(texts, 6)(), state=tmp_path)
    assert counts_of(small_memory(texts, state=tmp_path)) == count_pieces(texts)
    assert "6 texts were counted before" in capsys.readouterr().err


def test_a_finished_count_is_not_read_again(small_memory: Callable[..., Counted], tmp_path: Path) -> None:
    texts = ["one text", "two texts"]
    first = small_memory(texts, state=tmp_path)
    again = small_memory(interrupted(texts, 1)(), state=tmp_path)
    assert counts_of(again) == counts_of(first)


def test_progress_of_other_texts_is_refused(
    small_memory: Callable[..., Counted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "SAVE_SECONDS", 0.0)
    texts = ["a text that is long enough " * 50, "and another one " * 80, "and a third"]
    with pytest.raises(Interrupt):
        small_memory(interrupted(texts, 2)(), state=tmp_path)
    with pytest.raises(ArtifactError, match="other texts"):
        small_memory([texts[0], texts[1].upper(), texts[2]], state=tmp_path)
    small_memory(texts, state=tmp_path)
    with pytest.raises(ArtifactError, match="other texts"):
        small_memory([texts[1]], state=tmp_path)
    with pytest.raises(ArtifactError, match="other settings"):
        small_memory(texts, Pattern.named("gpt2"), state=tmp_path)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 rubbish", b"\x00" * 100])
def test_damaged_progress_is_refused(small_memory: Callable[..., Counted], tmp_path: Path, damage: bytes) -> None:
    small_memory(["one text"], state=tmp_path)
    path = tmp_path / counting.STATE_NAME
    whole = path.read_bytes()
    for content in (damage, whole[: len(whole) // 2], whole[:100] + bytes(8) + whole[108:]):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="damaged"):
            small_memory(["one text"], state=tmp_path)


def test_progress_that_does_not_fit_itself_is_refused(small_memory: Callable[..., Counted], tmp_path: Path) -> None:
    """Kernels would read beyond the end."""
    small_memory(["one text"], state=tmp_path)
    path = tmp_path / counting.STATE_NAME
    with np.load(path) as kept:
        arrays = dict(kept)
    for change in (
        {"bounds": arrays["bounds"] * 1000},
        {"bounds": arrays["bounds"][:-1]},
        {"counts": -arrays["counts"]},
        {"text": arrays["text"][:-1]},
        {"counts": arrays["counts"].astype(np.int32)},
    ):
        np.savez(path, **{**arrays, **change})  # type: ignore[arg-type]
        with pytest.raises(ArtifactError, match="damaged"):
            small_memory(["one text"], state=tmp_path)
