"""One text, measured once: the words and lines are those described, and the kernels give what plain Python gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core import compiled
from groundup.corpus.quality.analysis import (
    BRACKET,
    BULLET,
    CLOSED,
    COLUMNS,
    CURLY,
    ELLIPSIS,
    FLAGS,
    SENTENCES,
    SPACED,
    TERMINATED,
    WORDS,
    Analysis,
    analyse,
    analyse_anew,
    analyse_plain,
    hash_of,
    ngrams,
    ngrams_plain,
    words,
)

needs_kernels = pytest.mark.skipif(not compiled.available(), reason="needs numba")

HARD = "aB3.,'’ \n\t\r\x1c\x85\u2028\xa0你ก\u0e35²●-{[…!?\")。」\u0301\ud800\u200d_"
TEXTS = st.one_of(st.text(alphabet=HARD, max_size=60), st.text(max_size=60))


def equal(one: Analysis, other: Analysis) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Analysis.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world!", ["Hello", ",", "world", "!"]),
        ("don't l’été 'tis", ["don't", "l’été", "'", "tis"]),
        ("3.14 1,000. a.b 3.x", ["3.14", "1,000", ".", "a", ".", "b", "3", ".", "x"]),
        ("wait... --- ?!", ["wait", "...", "---", "?", "!"]),
        ("你好 ไทย", ["你", "好", "ไ", "ท", "ย"]),
        ("ที่นี่ ပြည်", ["ที่", "นี่", "ပြ", "ည်"]),
        ("snake_case", ["snake", "_", "case"]),
        ("cafe\u0301 नमस्ते", ["cafe\u0301", "नमस्ते"]),
        (" \n\t", []),
        ("- -", ["-", "-"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected
    assert analyse_anew(text).words.tolist() == [hash_of(word) for word in expected]


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("• a list", BULLET),
        (" - a list", BULLET),
        ("and so on...", ELLIPSIS | TERMINATED),
        ("and so on… ", ELLIPSIS),
        ("The end.", TERMINATED | CLOSED),
        ("The end. ", CLOSED),
        ('"The end."', CLOSED),
        ("终。", TERMINATED),
        ("a {b} [1]", CURLY | BRACKET),
        ("   ", 0),
    ],
)
def test_flags(line: str, flags: int) -> None:
    assert analyse_anew(line).lines[0, FLAGS] == flags
    assert analyse_plain(line).lines[0, FLAGS] == flags


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("One. Two! Three", 3),
        ('"Really?" he said.', 2),
        ("No end", 1),
        ("3.14 is pi", 1),
        ("(So it ends.)", 1),
        ("下雨了。我不走！他说：「走吧。」然后呢", 4),
        ("雨。 雪。", 2),
        ("本当？！はい", 2),
        ("", 0),
    ],
)
def test_sentences(line: str, sentences: int) -> None:
    assert analyse_anew(line + "\n").lines[0, SENTENCES] == sentences


def test_lines_end_where_splitlines_ends_them() -> None:
    analysis = analyse_anew("one\r\ntwo words\n\nthree\u2028")
    assert analysis.lines[:, SPACED].tolist() == analysis.lines[:, WORDS].tolist() == [1, 2, 0, 1]
    assert (analysis.totals.line_ends, analysis.totals.end_characters) == (4, 5)


def test_an_empty_text_has_nothing() -> None:
    analysis = analyse("")
    assert analysis.lines.shape == (0, COLUMNS)
    assert len(analysis.words) == 0
    assert set(analysis.totals) == {0}
    assert set(analysis.repeated_ngrams) == {0}


def test_paragraphs_and_lines_that_occur_again() -> None:
    of = analyse_anew("  one\ntwo\n\nthree\n\n\n\none\ntwo\n\nthree  ").totals
    assert (of.paragraphs, of.repeated_paragraphs) == (4, 2)
    assert of.repeated_paragraph_characters == len("one\ntwo") + len("three")
    assert (of.not_empty, of.repeated_lines, of.repeated_line_characters) == (6, 1, 3)  # "  one" is another line


def test_the_same_string_is_measured_once() -> None:
    text = "".join(["some ", "text"])
    first = analyse(text)
    assert analyse(text) is first
    assert analyse("other") is not first
    assert equal(analyse(text), first)


@needs_kernels
@given(TEXTS)
@settings(deadline=None, max_examples=300)
def test_the_kernel_measures_as_plain_python(text: str) -> None:
    assert equal(analyse_anew(text), analyse_plain(text))


@needs_kernels
@given(st.lists(st.sampled_from(["one", "two", " ", "", "", "x\ny", "\t two "]), max_size=20).map("\n".join))
@settings(deadline=None, max_examples=300)
def test_repeated_lines_and_paragraphs_as_plain_python(text: str) -> None:
    assert equal(analyse_anew(text), analyse_plain(text))


@needs_kernels
@pytest.mark.parametrize("text", ["\n" * 5000, "a " * 5000, "a" * 5000, "." * 5000, "你" * 5000])
def test_texts_of_nothing_but_one_thing(text: str) -> None:
    assert equal(analyse_anew(text), analyse_plain(text))


@needs_kernels
@given(st.lists(st.integers(0, 3), max_size=80), st.integers(1, 4))
@settings(deadline=None, max_examples=200)
def test_ngrams_as_plain_python(ids: list[int], size: int) -> None:
    ends = np.arange(len(ids) + 1) * size
    assert ngrams(np.array(ids, np.uint64), ends) == ngrams_plain(ids, ends.tolist())
