"""From a run directory to a PDF: complete, repeatable, and safe against what stands in the run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typst

from groundup.core.errors import ArtifactError, UsageError
from groundup.core.files import read_json, sha256_of, write_json, write_jsonl, write_text
from groundup.report import Facts, ReportConfig, charts, front, learning, making
from groundup.report.appendix import sources_of_numbers
from groundup.report.build import ENTRY, build, compose, place
from groundup.report.readings import Draft
from groundup.report.wording import BREAK

HOSTILE = (
    "#let x = 1 #panic() $y^2 \\ * _ ` ``` <label> @ref // /* \"' 😀 漢字 עברית \u202e\u0000\x07 [[ ]] {}\n= Heading\n"
    + "w" * 10_000
)


def render_pages(
    content: dict[str, Any], drawings: dict[str, str], folder: Path, resolution: float = 80
) -> list[bytes]:
    """The pages of a report as PNG, for looking at."""
    place(content, drawings, folder)
    pages = typst.compile(str(folder / ENTRY), root=str(folder), ignore_system_fonts=True, format="png", ppi=resolution)
    return pages if isinstance(pages, list) else [pages]


@pytest.fixture(scope="module")
def built(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    out = tmp_path_factory.mktemp("report")
    return out, build(ReportConfig(), run, out)


def test_a_complete_run_gives_a_complete_report(built: tuple[Path, dict[str, float]]) -> None:
    out, metrics = built
    assert (out / "report.pdf").read_bytes().startswith(b"%PDF-")
    assert 8 <= metrics["pages"] <= 15
    assert {path.stem for path in (out / "charts").iterdir()} == {
        "cover", "funnel", "vocabulary", "attention-heads", "attention-all", "pretrain", "sft", "dpo", "grpo",
        "bits-per-byte", "exact-match",
    }  # fmt: skip
    assert metrics["numbers"] >= 450


def test_every_line_of_the_ledger_is_true(built: tuple[Path, dict[str, float]], run: Path) -> None:
    """Look every number up again by its file and key, without the code that wrote the ledger."""
    rows = read_json(built[0] / "numbers.json")
    looked_up = 0
    for row in rows:
        path = run / row["file"]
        assert row["sha256"] == sha256_of(path)
        if isinstance(row["value"], str) or "*" in row["key"] or row["key"].startswith("computed"):
            continue
        lines = path.read_text(encoding="utf-8")
        value = [json.loads(line) for line in lines.splitlines()] if path.suffix == ".jsonl" else json.loads(lines)
        for part in row["key"].split("."):
            value = value[int(part) if isinstance(value, list) else part]
        assert value == row["value"], row
        looked_up += 1
    assert looked_up > 450


def test_the_appendix_names_every_file_and_key(run: Path) -> None:
    facts = Facts(run)
    facts.number("evaluate/results.json", "dpo.win_rate.value", "win rate")
    facts.number("evaluate/results.json", "absent.key", "gone")
    listed = sources_of_numbers(Draft(facts, 100))
    assert [group["file"] for group in listed["files"]] == ["evaluate/results.json"]
    [[label, key, value]] = listed["files"][0]["rows"]
    assert (label, key.replace(BREAK, ""), value) == ("win rate", "dpo.win_rate.value", "0.563")
    assert listed["missing"] == ["evaluate/results.json: absent.key"]


def test_the_same_run_gives_the_same_bytes_elsewhere(
    built: tuple[Path, dict[str, float]], run: Path, tmp_path: Path
) -> None:
    """Another process, time zone, locale, working directory, style file and place of the run."""
    moved = shutil.copytree(run, tmp_path / "elsewhere" / "run")
    write_text(tmp_path / "matplotlibrc", "font.size: 30\nsvg.fonttype: none\n")
    program = (
        "import sys; from pathlib import Path; from groundup.report.build import ReportConfig, build; "
        "build(ReportConfig(), Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"TZ": "Asia/Tokyo", "LC_ALL": "C", "LANG": "de_DE.UTF-8", "PYTHONPATH": str(root)}
    environment["PYTHONHASHSEED"] = "7"
    subprocess.run(
        [sys.executable, "-c", program, str(moved), str(tmp_path / "out")], check=True, cwd=tmp_path, env=environment
    )
    first = {path.relative_to(built[0]): path.read_bytes() for path in built[0].rglob("*") if path.is_file()}
    second = {path.relative_to(tmp_path / "out"): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert first == {name: data for name, data in second.items() if (tmp_path / "out" / name).is_file()}


def test_the_date_is_the_runs(built: tuple[Path, dict[str, float]]) -> None:
    assert b"D:20260314092200Z" in (built[0] / "report.pdf").read_bytes()


def test_an_empty_run_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    metrics = build(ReportConfig(), tmp_path / "run", tmp_path / "out")
    assert metrics["numbers"] == 0
    assert metrics["pages"] >= 2


def test_a_run_without_dpo_and_grpo_keeps_the_rest(run: Path, tmp_path: Path) -> None:
    partial = shutil.copytree(run, tmp_path / "run")
    (partial / "tokenizer" / "comparison.json").unlink()
    results = read_json(partial / "evaluate" / "results.json")
    for stage in ("dpo", "grpo"):
        shutil.rmtree(partial / stage)
        del results[stage], results["bits_per_byte"]["models"][stage], results["stops"][stage]
        for task in results["tasks"]:
            del task["stages"][stage]
    write_json(partial / "evaluate" / "results.json", results)
    content, drawings = compose(ReportConfig(), Facts(partial))
    assert content["dpo"] == {"missing": "dpo/metrics.jsonl"}
    assert content["evaluation"]["gain"]["missing"]
    assert content["brief"]["open"] == 2
    assert content["conversations"]["final"] == "SFT"
    assert len(render_pages(content, drawings, tmp_path / "pages", resolution=20)) >= 8


def test_tokens_are_shown_as_text(run: Path) -> None:
    tokenizer = making.tokenizer(Draft(Facts(run), 100))
    assert tokenizer["pieces"][:2] == ["The", "␣old"]
    assert tokenizer["merges"][-2:] == [".↵", "␣the"]
    assert tokenizer["longest"][0] == "␣×24"
    assert ["Bytes per token", "3.71", "3.64"] in tokenizer["rows"]
    assert tokenizer["validation"] == "3.64"


def test_the_cost_of_the_vocabulary_is_told_beside_those_of_other_models(run: Path) -> None:
    draft = Draft(Facts(run), 100)
    cost = making.tokenizer(draft)["cost"]
    assert cost["finding"] == (
        "With the vocabulary of this run a page of Thai costs 5.5 pages of English; "
        "with o200k no language costs more than 2.1."
    )
    assert [row[0] for row in cost["rows"]] == ["this run", "gpt2", "o200k"]
    assert cost["rows"][2][1:3] == ["200\u202f019", "38.4\u202fmillion"]
    assert len(draft.charts) == 1


def test_a_vocabulary_that_was_compared_with_none_is_told_alone(run: Path, tmp_path: Path) -> None:
    comparison = read_json(run / "tokenizer" / "comparison.json")
    comparison["tokenizers"] = comparison["tokenizers"][:1]
    comparison["texts"] = [text for text in comparison["texts"] if text["tokenizer"] == "ours"]
    alone = shutil.copytree(run, tmp_path / "run")
    write_json(alone / "tokenizer" / "comparison.json", comparison)
    cost = making.tokenizer(Draft(Facts(alone), 100))["cost"]
    assert cost["finding"] == "With the vocabulary of this run a page of Thai costs 5.5 pages of English."
    assert len(cost["rows"]) == 1


def test_without_a_comparison_its_part_is_left_out(run: Path, tmp_path: Path) -> None:
    older = shutil.copytree(run, tmp_path / "run")
    comparison = read_json(older / "tokenizer" / "comparison.json")
    path = older / "tokenizer" / "comparison.json"
    for texts in (comparison["texts"][:-1], [], None):  # one text was not measured with all; none was; no file
        if texts is None:
            path.unlink()
        else:
            write_json(path, {**comparison, "texts": texts})
        draft = Draft(Facts(older), 100)
        assert making.tokenizer(draft)["cost"] == {"missing": "tokenizer/comparison.json"}
        assert not draft.charts


def test_samples_have_no_blank_lines(run: Path) -> None:
    samples = learning.training(Draft(Facts(run), 600), "pretrain")["samples"]
    texts = [text for moment in samples for _, text in moment["texts"]]
    assert any("LEAR." in text for text in texts)
    assert not any("\n\n" in text for text in texts)


def test_what_was_not_recorded_is_not_drawn(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(charts, "curves", lambda rows, _: drawn.extend(p.title for row in rows for p in row) or "")
    write_jsonl(tmp_path / "dpo" / "metrics.jsonl", [{"step": step, "loss": 0.7, "margin": None} for step in (1, 2)])
    section = learning.training(Draft(Facts(tmp_path), 600), "dpo")
    assert drawn == ["Loss, nats per pair"]
    assert section["accuracy"] == ""
    write_jsonl(tmp_path / "dpo" / "metrics.jsonl", [{"step": 1}])
    assert learning.training(Draft(Facts(tmp_path), 600), "dpo")["chart"] is None


def test_precision_is_what_the_stage_asked_for(run: Path) -> None:
    content = front.brief(Draft(Facts(run), 100))
    assert [row[4] for row in content["costs"]] == ["—", "—", "auto", "auto", "auto", "auto", "—"]


def test_hostile_text_is_set_and_not_obeyed(run: Path, tmp_path: Path) -> None:
    hostile = shutil.copytree(run, tmp_path / "run")
    write_jsonl(hostile / "pretrain" / "samples.jsonl", [{"step": 1, "prompt": HOSTILE, "text": HOSTILE}] * 2)
    write_json(
        hostile / "evaluate" / "conversations.json",
        [{"title": HOSTILE, "messages": [{"role": "user", "content": HOSTILE}, {"role": HOSTILE, "content": ""}]}],
    )
    write_jsonl(
        hostile / "evaluate" / "answers.jsonl",
        [dict.fromkeys(("family", "split", "stage", "prompt", "reference", "answer"), HOSTILE)],
    )
    source = dict.fromkeys(("name", "package", "version", "sha256", "licence"), HOSTILE)
    write_json(hostile / "corpus" / "sources.json", [source])
    write_text(hostile / "recipe.toml", f"description = {json.dumps(HOSTILE, ensure_ascii=False)}\n")
    write_json(hostile / "tokenizer" / "facts.json", {"vocab_size": 9, "longest_tokens": [HOSTILE, "", " ", "\n"]})
    comparison = read_json(hostile / "tokenizer" / "comparison.json")
    comparison["tokenizers"][2]["name"] = HOSTILE
    for text in comparison["texts"][-3:]:
        text["name"] = HOSTILE
    write_json(hostile / "tokenizer" / "comparison.json", comparison)
    attention = {"text": HOSTILE, "tokens": [HOSTILE, "$", "\\"], "layers": [[[[1, 0, 0], [0, 1, 0], [0, 0, 1]]]]}
    write_json(hostile / "evaluate" / "attention.json", attention)
    results = read_json(hostile / "evaluate" / "results.json")
    results["memorisation"]["longest_text"] = HOSTILE
    for task in results["tasks"][:3]:
        task["family"] = HOSTILE
    write_json(hostile / "evaluate" / "results.json", results)
    metrics = build(ReportConfig(title=HOSTILE), hostile, tmp_path / "out")
    assert 8 <= metrics["pages"] <= 40


def test_words_follow_the_numbers(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for drawing in ("curves", "attention_heads", "attention_overview", "exact_match"):
        monkeypatch.setattr(charts, drawing, lambda *_: "")
    worse = shutil.copytree(run, tmp_path / "run")
    results = read_json(worse / "evaluate" / "results.json")
    results["bits_per_byte"]["models"]["pretrain"] |= {"value": 2.4, "low": 2.38, "high": 2.42}
    results["grpo"]["gain"] |= {"value": -0.01, "low": -0.03, "high": 0.01}
    write_json(worse / "evaluate" / "results.json", results)
    content, _ = compose(ReportConfig(), Facts(worse))
    bits = content["evaluation"]["bits"]["sentence"]
    assert "below xz but not below Kneser–Ney 5-gram" in bits
    assert "contains zero" in content["evaluation"]["gain"]["sentence"]
    verdicts = [target["verdict"] for target in content["brief"]["targets"]]
    assert verdicts == ["missed", "met", "met", "met", "missed"]


def test_clean_and_contaminated_parts_stand_apart(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for drawing in ("curves", "attention_heads", "attention_overview", "exact_match"):
        monkeypatch.setattr(charts, drawing, lambda *_: "")
    evaluation = compose(ReportConfig(), Facts(run))[0]["evaluation"]
    assert [[row["name"], row["part"]] for row in evaluation["contamination"]["rows"]] == [
        [f"{name}", part]
        for name in (
            "verse, held-out problems",
            "verse, held-out wordings",
            "bits per byte, validation",
            "bits per byte, test",
        )
        for part in ("nothing shared", "shared")
    ]
    assert "Of the contents of 883 problems, 12 stood in one of 38" in evaluation["contamination"]["sentence"]
    assert "Of 9 validation documents 2 share" in evaluation["contamination"]["sentence"]
    assert "Of gsm8k.v1, 3 items stand in train documents, 4 times" in evaluation["contamination"]["sentence"]
    assert evaluation["bits"]["test"].startswith("On the test text")
    older = shutil.copytree(run, tmp_path / "run")
    results = read_json(older / "evaluate" / "results.json")
    del results["contamination"], results["bits_per_byte"]["test"]
    write_json(older / "evaluate" / "results.json", results)
    evaluation = compose(ReportConfig(), Facts(older))[0]["evaluation"]
    assert evaluation["contamination"] == {} and evaluation["bits"]["test"] == ""


def test_a_damaged_run_and_a_missing_run_are_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        build(ReportConfig(), tmp_path / "nowhere", tmp_path / "out")
    damaged = shutil.copytree(run, tmp_path / "run")
    write_text(damaged / "evaluate" / "results.json", '{"bits_per_byte": {"models"')
    with pytest.raises(ArtifactError, match=r"results\.json is damaged"):
        build(ReportConfig(), damaged, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"title": " "}, {"paper": "a9"}, {"quoted_characters": 3}])
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"report\."):
        ReportConfig(**wrong)
