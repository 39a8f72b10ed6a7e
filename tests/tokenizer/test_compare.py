import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from groundup.core.errors import DataError
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.compare import FIGURES, Comparison, chart, compare, figures_of, finding, premium, save, tables
from groundup.tokenizer.samples import PARALLEL, SAMPLES


class Counting:
    """Says how it cuts a text; an id is a place in a list of everything ever seen."""

    special_tokens: ClassVar[dict[str, int]] = {}
    unknown_id = 0

    def __init__(self, cut: Callable[[str], list[str]], unknown: str = "") -> None:
        self.cut, self.unknown = cut, unknown
        self.tokens = [b"", *(bytes([byte]) for byte in range(256)), b"token"]
        self.fingerprint = cut.__name__

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def token_bytes(self, token_id: int) -> bytes:
        return self.tokens[token_id]

    def encode(self, text: str) -> list[int]:
        pieces = self.cut(text)
        return [0 if piece == self.unknown else ord(piece) + 1 if len(piece.encode()) == 1 else 257 for piece in pieces]


def words(text: str) -> list[str]:
    return text.split()


def characters(text: str) -> list[str]:
    return list(text)


TEXTS = {
    "prose": {"English": "two more words here", "Other": "zwei weitere Wörter hier bitte"},
    "code": {"signs": "a = b"},
}


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    subjects = {"words": Counting(words), "characters": Counting(characters)}
    return compare(subjects, TEXTS, parallel=("prose",))  # type: ignore[arg-type]


def test_the_figures_of_a_text(comparison: Comparison) -> None:
    [measured] = comparison.of("words", "prose", "Other")
    assert (measured.bytes, measured.content_bytes, measured.words, measured.tokens) == (31, 19, 5, 5)
    assert measured.single_byte == measured.unknown == 0
    assert measured.seconds > 0
    figures = figures_of([measured])
    assert list(figures) == list(FIGURES)
    assert figures["bytes_per_token"] == 31 / 5
    assert figures["tokens_per_100_bytes"] == 100 * 5 / 19
    assert figures["tokens_per_word"] == 1
    [signs] = comparison.of("characters", "code")
    assert (signs.tokens, signs.single_byte, signs.content_bytes) == (5, 5, 5)


def test_several_texts_are_one_long_text(comparison: Comparison) -> None:
    figures = figures_of(comparison.of("words"))
    assert figures["bytes_per_token"] == (19 + 31 + 5) / (4 + 5 + 3)
    assert figures["single_byte_share"] == 3 / 12
    assert figures_of(comparison.of("words", "prose"))["tokens_per_word"] == 1


def test_scripts_without_spaces_have_no_words() -> None:
    compared = compare({"it": Counting(characters)}, {"prose": {"Thai": "ก" * 50, "English": "a b"}})  # type: ignore[dict-item]
    assert [measured.words for measured in compared.measurements] == [None, 2]
    assert figures_of(compared.of("it", name="Thai"))["tokens_per_word"] is None
    assert figures_of(compared.of("it"))["tokens_per_word"] == 3 / 2


def test_what_the_vocabulary_does_not_know_is_counted() -> None:
    compared = compare({"it": Counting(words, unknown="here")}, TEXTS)  # type: ignore[dict-item]
    assert [measured.unknown for measured in compared.measurements] == [1, 0, 0]
    assert figures_of(compared.of("it"))["unknown_share"] == 1 / 12


def test_the_premium_of_a_translation(comparison: Comparison) -> None:
    assert comparison.original == ("prose", "English")
    assert premium(comparison, "words") == (5 / 4, "Other")
    assert premium(comparison, "characters") == (30 / 19, "Other")
    assert finding(comparison) == (
        "A page of Other costs 1.6 pages of English with characters; with words none costs more than 1.2"
    )


def test_the_finding_without_translations() -> None:
    subjects = {"long": Counting(characters), "short": Counting(words)}
    compared = compare(subjects, {"code": TEXTS["code"]})  # type: ignore[arg-type]
    assert compared.original is None
    assert finding(compared) == "1.67 bytes per token with short, 1.00 with long"
    assert finding(compare({"long": subjects["long"]}, {"code": TEXTS["code"]})) == "1.00 bytes per token with long"  # type: ignore[dict-item]


def test_a_translation_that_is_not_known_is_no_bargain() -> None:
    compared = compare({"it": Counting(words, unknown="bitte")}, TEXTS, ("prose",))  # type: ignore[dict-item]
    assert premium(compared, "it") is None


@pytest.mark.parametrize(
    ("subjects", "texts"), [({}, TEXTS), ({"it": Counting(words)}, {}), ({"it": Counting(words)}, {"a": {}})]
)
def test_nothing_to_compare(subjects: dict[str, Counting], texts: dict[str, dict[str, str]]) -> None:
    with pytest.raises(DataError, match="nothing to compare"):
        compare(subjects, texts)  # type: ignore[arg-type]


def test_an_empty_text_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="the text nothing is empty"):
        compare({"it": Counting(words)}, {"code": {"nothing": ""}})  # type: ignore[dict-item]


def test_everything_as_json(comparison: Comparison) -> None:
    told = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert [one["name"] for one in told["tokenizers"]] == ["words", "characters"]
    assert told["tokenizers"][0]["kinds"]["code"]["bytes_per_token"] == 5 / 3
    assert len(told["texts"]) == 6
    assert {"kind", "name", "tokenizer", "tokens", "bytes_per_token"} <= set(told["texts"][0])


def test_without_the_clock_no_speed_is_told() -> None:
    untimed = compare({"words": Counting(words)}, TEXTS, timed=False)  # type: ignore[dict-item]
    told = untimed.to_json()
    for one in (
        *told["tokenizers"],
        *told["texts"],
        *(kind for it in told["tokenizers"] for kind in it["kinds"].values()),
    ):
        assert not {"seconds", "megabytes_per_second"} & set(one)
    assert not any(column.header == "MB/s" for column in tables(untimed)[0].columns)


def test_tables_name_every_tokenizer_and_with_details_every_text(comparison: Comparison) -> None:
    def drawn(details: bool) -> str:
        console = Console(width=100)
        with console.capture() as captured:
            console.print(*tables(comparison, details))
        return captured.get()

    for words in ("words", "characters", "bytes per token", "tokens per word", "MB/s", "prose", "code", "Other"):
        assert words in drawn(False)
    assert "unknown" not in drawn(False)
    assert drawn(True).count("Other") > drawn(False).count("Other")


def test_a_chart_is_the_same_bytes_each_time(comparison: Comparison, tmp_path: Path) -> None:
    for suffix, magic in ((".svg", b"<?xml"), (".png", b"\x89PNG")):
        first, again = tmp_path / f"first{suffix}", tmp_path / f"again{suffix}"
        chart(comparison, first)
        chart(comparison, again)
        assert first.read_bytes() == again.read_bytes()
        assert first.read_bytes().startswith(magic)
    assert ET.parse(tmp_path / "first.svg").getroot().tag.endswith("svg")


def test_a_chart_of_what_is_not_all_known(tmp_path: Path) -> None:
    compared = compare({"it": Counting(words, unknown="here"), "blind": Counting(lambda text: ["?"], "?")}, TEXTS)  # type: ignore[dict-item]
    chart(compared, tmp_path / "chart.svg")
    assert (tmp_path / "chart.svg").stat().st_size > 1000


def test_saving(comparison: Comparison, tmp_path: Path) -> None:
    saved = save(comparison, tmp_path / "new" / "folder")
    assert [path.name for path in saved] == ["comparison.json", "comparison.svg", "comparison.png"]
    assert json.loads(saved[0].read_text(encoding="utf-8")) == comparison.to_json()


def test_only_a_chart_needs_matplotlib() -> None:
    line = "import groundup.tokenizer.compare, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0


def test_the_samples_say_the_same_in_many_scripts(tokenizer: BytePairTokenizer) -> None:
    parallel = [text for kind in PARALLEL for text in SAMPLES[kind].values()]
    assert len(parallel) >= 12
    assert next(iter(SAMPLES[PARALLEL[0]])) == "English"
    for text in parallel:
        assert 450 < len(text.encode()) < 1300
        assert "100" in text and "300" in text
    names = [name for group in SAMPLES.values() for name in group]
    assert len(names) == len(set(names))
    compared = compare({"ours": tokenizer}, SAMPLES, PARALLEL)
    dearest, _ = premium(compared, "ours") or (0, "")
    assert dearest > 1
