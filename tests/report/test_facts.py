"""Every number comes through one door, which keeps a list."""

from pathlib import Path

import pytest

from groundup.core.errors import ArtifactError
from groundup.core.files import sha256_of, write_json, write_jsonl, write_text
from groundup.report.facts import Entry, Facts, fold


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    write_json(tmp_path / "a.json", {"x": {"y": [1.5, {"z": 7}]}, "name": "a\x00b", "flag": True, "nothing": None})
    write_jsonl(tmp_path / "m.jsonl", [{"step": 0, "bits": 3.0}, {"step": 1, "loss": 2.0}, {"step": 2, "loss": 4.0}])
    write_text(tmp_path / "r.toml", 'name = "n"\n')
    return Facts(tmp_path)


def test_a_number_is_noted_with_its_place_and_hash(facts: Facts, tmp_path: Path) -> None:
    assert facts.number("a.json", "x.y.1.z", "seven") == 7
    assert list(facts.entries) == [Entry("seven", "a.json", "x.y.1.z", 7, sha256_of(tmp_path / "a.json"))]


def test_asking_twice_notes_once(facts: Facts) -> None:
    for _ in range(2):
        facts.number("a.json", "x.y.0", "number")
    assert len(facts.entries) == 1


@pytest.mark.parametrize("key", ["absent", "x.y.5", "x.y.z", "nothing", "name.deeper"])
def test_what_is_absent_is_none_and_noted_as_missing(facts: Facts, key: str) -> None:
    assert facts.number("a.json", key, "gone") is None
    assert not facts.entries
    assert list(facts.missing) == [("gone", "a.json", key)]


def test_an_absent_file_is_like_an_absent_key(facts: Facts) -> None:
    assert facts.number("no.json", "x", "gone") is None
    assert facts.text("no.json", "x", "gone") is None
    assert facts.whole("no.toml", "gone") is None
    assert not facts.has("no.json")
    assert len(facts.series("no.jsonl", "loss", "gone")) == 0


def test_a_number_that_is_text_is_an_error_with_file_and_key(facts: Facts) -> None:
    with pytest.raises(ArtifactError, match=r"a\.json: name should be a number"):
        facts.number("a.json", "name", "wrong")
    with pytest.raises(ArtifactError, match=r"flag"):
        facts.number("a.json", "flag", "wrong")


def test_numbers_that_are_not_finite_are_missing(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", '{"x": NaN}')
    assert Facts(tmp_path).number("a.json", "x", "bad") is None


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", '{"x": ')
    write_text(tmp_path / "r.toml", "= =")
    with pytest.raises(ArtifactError, match="damaged"):
        Facts(tmp_path).number("a.json", "x", "bad")
    with pytest.raises(ArtifactError, match="damaged"):
        Facts(tmp_path).text("r.toml", "name", "bad")


def test_a_column_skips_lines_without_it_and_names_the_line_it_used(facts: Facts) -> None:
    series = facts.series("m.jsonl", "loss", "loss")
    assert (series.steps, series.values) == ([1.0, 2.0], [2.0, 4.0])
    assert facts.first("m.jsonl", "loss", "first") == 2.0
    assert facts.last("m.jsonl", "loss", "last") == 4.0
    assert facts.lowest("m.jsonl", "loss", "lowest") == 2.0
    assert [entry.key for entry in facts.entries] == ["*.loss", "1.loss", "2.loss", "1.loss"]


def test_text_is_cleaned(facts: Facts) -> None:
    assert facts.text("a.json", "name", "name") == "a\ufffdb"
    assert facts.text("r.toml", "name", "name") == "n"
    assert facts.text("a.json", "flag", "flag") == "true"


def test_keys_of_one_label_are_folded() -> None:
    entries = [
        Entry("exact", "f", f"tasks.{index}.{part}", 0.5, "h") for index in range(3) for part in ("value", "low")
    ]
    assert list(fold(entries)) == ["tasks.0–2.{value,low}"]
    assert list(fold(entries[:1])) == ["tasks.0.value"]


def test_the_summary_counts_all_values(facts: Facts) -> None:
    facts.series("m.jsonl", "loss", "curve")
    facts.series("m.jsonl", "bits", "curve")
    facts.number("a.json", "x.y.0", "number")
    rows = [row for group in facts.summary() for row in group["rows"]]
    assert rows == [
        {"label": "curve", "key": "*.{loss,bits}", "value": 3, "single": False},
        {"label": "number", "key": "x.y.0", "value": 1.5, "single": True},
    ]
