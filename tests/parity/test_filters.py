"""Our filters decide as datatrove's, given the same words and the same notion of a symbol.

datatrove's own splitting into words (spaCy) and its list of punctuation are replaced by ours; all else is its own
code. What we decide differently on purpose is listed in ``groundup.corpus.quality``, and the texts here keep clear of
it, or show it (``test_where_we_differ``).
"""

import pydoc
import random
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.corpus.document import Document, Dropped
from groundup.corpus.quality import C4, C4Config, FineWeb, GopherQuality, GopherQualityConfig, GopherRepetition
from groundup.corpus.quality.analysis import SENTENCES, analyse_anew, is_plain, words

pytest.importorskip("datatrove")

FILTERS = "datatrove.pipeline.filters"
NAMES = {
    "repetition": (f"{FILTERS}.gopher_repetition_filter", "GopherRepetitionFilter", GopherRepetition()),
    "quality": (
        f"{FILTERS}.gopher_quality_filter",
        "GopherQualityFilter",
        GopherQuality(GopherQualityConfig(count_symbols=True)),
    ),
    "c4": (f"{FILTERS}.c4_filters", "C4QualityFilter", C4()),
    "fineweb": (f"{FILTERS}.fineweb_quality_filter", "FineWebQualityFilter", FineWeb()),
}
#: What they call the rules; where they have one name for two sides or we do, the ending goes.
RULES = {
    "empty": "empty",
    "dup_para_frac": "duplicate paragraphs",
    "dup_para_char_frac": "duplicate paragraph characters",
    "dup_line_frac": "duplicate lines",
    "dup_line_char_frac": "duplicate line characters",
    **{f"top_{n}_gram": f"top {n}-gram" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"duplicate {n}-grams" for n in range(5, 11)},
    "gopher_short_doc": "too few words",
    "gopher_long_doc": "too many words",
    "gopher_below_avg_threshold": "mean word length",
    "gopher_above_avg_threshold": "mean word length",
    "gopher_too_many_hashes": "hash signs",
    "gopher_too_many_ellipsis": "ellipses",
    "gopher_too_many_bullets": "bullet lines",
    "gopher_too_many_end_ellipsis": "ellipsis lines",
    "gopher_below_alpha_threshold": "alphabetic words",
    "gopher_enough_stop_words": "stop words",
    "line_punct_ratio": "line punctuation",
    "short_line_ratio": "short lines",
    "char_dup_ratio": "duplicate characters",
    "list_ratio": "line ends",
    "lorem_ipsum": "lorem ipsum",
    "curly_bracket": "curly bracket",
    "too_few_sentences": "too few sentences",
}

Judge = Callable[[str, str], tuple[str, str]]


class OurSymbols:
    """What ``in`` asks of datatrove's set of punctuation."""

    def __contains__(self, character: str) -> bool:
        return not is_plain(character)


def our_sentences(line: str, language: str) -> list[str]:
    """As many as we count: datatrove asks for their number alone."""
    return [line] * int(analyse_anew(line).lines[:, SENTENCES].sum())


@pytest.fixture(scope="module")
def theirs() -> Iterator[Judge]:
    """``theirs(filter, text)``: the rule that drops the text in our words, or "", and the text that is left."""
    with pytest.MonkeyPatch.context() as patch:
        filters = {}
        for name, (module_name, class_name, _) in NAMES.items():
            module = import_module(module_name)
            if name == "c4":
                patch.setattr(module, "split_into_sentences", our_sentences)
            else:
                patch.setattr(module, "split_into_words", lambda text, language: words(text))
            if name == "quality":
                patch.setattr(module, "PUNCTUATION_SET", OurSymbols())
            filters[name] = getattr(module, class_name)()
        data = import_module("datatrove.data")

        def judge(name: str, text: str) -> tuple[str, str]:
            document = data.Document(text=text, id="id")
            result: Any = filters[name].filter(document)
            return ("", document.text) if result is True else (RULES[result[1]], "")

        yield judge


def ours(name: str, text: str) -> tuple[str, str]:
    result = NAMES[name][2](Document("id", "", "", text))
    return (result.reason, "") if isinstance(result, Dropped) else ("", result.text)


WORDS = [
    f"{a}{b}" for a in ["The", "And", "Have", "With", "Rain", "Spain", "Stay", "Main"] for b in ("", "s", "ing", "ed")
]
STOPS = ["the", "of", "and", "to", "have"]
SIGNS = [".", "!", "?", "...", "…", "#", "- ", "• ", "12", ",", "。", '"', "javascript", "privacy policy", "{"]
LINE = st.lists(st.sampled_from(WORDS + STOPS + SIGNS), min_size=1, max_size=12).map(" ".join)
#: Every way in which lines follow one another; texts neither begin nor end with one.
TEXT = st.lists(st.tuples(LINE, st.sampled_from(["\n", "\n", "\n\n", "\n \n", "\n\n\n"])), max_size=40).map(
    lambda parts: "".join(map("".join, parts)).strip()
)


def varied(seed: int) -> str:
    """A document of a few hundred words, some lines and phrases of it again."""
    rng = random.Random(seed)
    few = [" ".join(rng.choices(WORDS + STOPS, k=rng.randint(2, 15))) for _ in range(rng.randint(1, 12))]
    lines: list[str] = []
    fresh = rng.random()
    for _ in range(rng.randint(1, 60)):
        line = " ".join(f"{rng.choice(WORDS)}{rng.randrange(900)}x" for _ in range(rng.randint(3, 12)))
        lines.append((line if rng.random() < fresh else rng.choice(few)) + rng.choice([".", ".", "", "!", "...", "…"]))
    return rng.choice(["\n", "\n\n"]).join(lines)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "c4"])
@given(text=TEXT)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equal_on_made_up_lines(name: str, text: str, theirs: Judge) -> None:
    if text:
        assert ours(name, text) == theirs(name, text)


@given(text=TEXT)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_c4_equal_on_made_up_lines(text: str, theirs: Judge) -> None:
    rule, left = theirs("c4", text)
    our_rule, our_left = ours("c4", text)
    # Where a document breaks two rules in different lines, theirs names the one whose line comes first.
    assert (bool(our_rule), our_left) == (bool(rule), left)


#: Of many scripts; no two of them make a third one when nothing is between them.
FOREIGN = [
    *(
        "дождь",
        "Испания",
        "равнина",
        "όμορφος",
        "καιρός",
        "المطر",
        "إسبانيا",
        "שלום",
        "बारिश",
        "मैदान",
        "스페인",
        "평야",
    ),
    *(
        "雨が西班牙の平野に降る",
        "下雨天留客天留我不留",
        "ฝนตกในสเปน",
        "ပြည်",
        "é̂té",
        "ﬁne",
        "१२३",
        "3.14",
        "1,000",
        "don’t",
        "U.S.",
    ),
    *("🙂", "👩‍👩‍👧", "☔", "→", "«", "»", "¿", "¡", "。", "！", "؟", "।", "…", "— ", "“rain”", "x²", "№"),
]
FOREIGN_LINE = st.lists(st.sampled_from(FOREIGN + STOPS), min_size=1, max_size=14).map(" ".join)
FOREIGN_TEXT = st.lists(FOREIGN_LINE, max_size=30).map("\n".join).map(str.strip)


@pytest.mark.parametrize("name", NAMES)
@given(text=FOREIGN_TEXT)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_equal_in_other_scripts(name: str, text: str, theirs: Judge) -> None:
    assert ours(name, text) == theirs(name, text)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "word",
        "the",
        "🙂",
        "🙂 " * 80,
        "雨" * 400,
        "雨。" * 200,
        "a\n" * 60,
        "...\n" * 40,
        "• point\n" * 60,
        "1 2 3 " * 50,
    ],
    ids=["empty", "word", "stop", "emoji", "emojis", "rain", "sentences", "letters", "ellipses", "bullets", "numbers"],
)
def test_equal_at_the_edges(name: str, text: str, theirs: Judge) -> None:
    assert ours(name, text.strip()) == theirs(name, text.strip())


@pytest.mark.parametrize("name", NAMES)
def test_equal_on_varied_documents(name: str, theirs: Judge) -> None:
    texts = [varied(seed) for seed in range(400)]
    decisions = [theirs(name, text) for text in texts]
    assert [ours(name, text) for text in texts] == decisions
    assert len({rule for rule, _ in decisions}) > 1  # some stay and some go


@pytest.mark.parametrize("name", NAMES)
def test_equal_on_pythons_documentation(name: str, theirs: Judge) -> None:
    pages = [
        pydoc.plain(pydoc.render_doc(import_module(module))).strip()
        for module in ("argparse", "json", "random", "statistics", "decimal", "logging", "string", "textwrap")
    ]
    texts = [part.strip() for page in pages for part in re.split(r"\n(?=[A-Z]{4,}\n)", page) if part.strip()]
    texts += [" ".join(part.split()) for part in texts]
    texts = [text for text in texts if "[" not in text or name != "c4"]
    for text in texts:
        assert ours(name, text) == theirs(name, text)


@pytest.mark.parametrize(
    ("name", "text", "rule", "their_rule"),
    [
        # Two empty "lines" at the ends make one in three a repeated one.
        ("repetition", f"\n{' '.join(f'w{n}x{n + 7}' for n in range(60))}\n", "", "duplicate lines"),
        # Their line ends are "\n" alone: a page of "\r\n" has no line that ends in a mark.
        ("fineweb", "\r\n".join(f"The {word} is a line of its own." for word in WORDS), "", "line punctuation"),
        # A citation behind the mark leaves a blank at the end of the line.
        ("c4", "\n".join(f"The {word} is a line. [1]" for word in WORDS), "", "too few sentences"),
    ],
)
def test_where_we_differ(name: str, text: str, rule: str, their_rule: str, theirs: Judge) -> None:
    assert ours(name, text)[0] == rule
    assert theirs(name, text)[0] == their_rule


def test_fineweb_keeps_lines_without_punctuation(theirs: Judge) -> None:
    """FineWeb's own pipeline runs C4's filter without its rule of punctuation."""
    module, data = import_module(f"{FILTERS}.c4_filters"), import_module("datatrove.data")
    filter_, step = module.C4QualityFilter(filter_no_terminal_punct=False), C4(C4Config(terminal_punctuation=False))
    for seed in range(200):
        text = varied(seed)
        document = data.Document(text=text, id="id")
        kept = filter_.filter(document) is True
        result = step(Document("id", "", "", text))
        assert kept == isinstance(result, Document)
        if isinstance(result, Document):
            assert result.text == document.text
