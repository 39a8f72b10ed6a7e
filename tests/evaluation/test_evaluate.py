"""The evaluation of the tiny run: every score has its size, interval, chance and baseline, and they add up."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import UsageError
from groundup.core.files import read_json, read_jsonl, write_jsonl
from groundup.corpus import Document, read_documents
from groundup.evaluation.evaluate import PARTS, SPLITS, STAGES, EvaluateConfig, _problems, _sentence, build, table
from groundup.posttraining.common import read_material, stage_model
from groundup.pretraining.tokens import encode_split
from groundup.recipes import Recipe, load
from groundup.tasks import FAMILIES


@pytest.fixture(scope="module")
def recipe(tiny_run: Path) -> Recipe:
    return load(str(tiny_run / "recipe.toml"))


@pytest.fixture(scope="module")
def results(tiny_run: Path) -> dict[str, Any]:
    return dict(read_json(tiny_run / "evaluate" / "results.json"))


def scores(value: Any) -> list[dict[str, float]]:
    """Every {value, low, high, n} in the results."""
    if isinstance(value, dict):
        found = [value] if {"value", "low", "high", "n"} <= value.keys() else []
        return found + [score for item in value.values() for score in scores(item)]
    return [score for item in value for score in scores(item)] if isinstance(value, list) else []


def test_every_score_lies_in_its_interval(results: dict[str, Any]) -> None:
    found = scores(results)
    assert len(found) > 4 * 2 * len(FAMILIES)
    for score in found:
        assert score["low"] <= score["value"] <= score["high"]
        assert score["n"] >= 1


def test_every_family_split_and_stage_is_there_with_its_chance(results: dict[str, Any], recipe: Recipe) -> None:
    rows = {(row["split"], row["family"]): row for row in results["tasks"]}
    assert set(rows) == {(split, family) for split in SPLITS for family in ("all", *FAMILIES)}
    for (split, family), row in rows.items():
        assert set(row["stages"]) == set(STAGES)
        assert 0 <= row["chance"] < 1
        expected = recipe.evaluate.problems * (len(FAMILIES) if family == "all" else 1)
        assert {score["n"] for score in row["stages"].values()} == {expected}, (split, family)


def test_all_is_the_sum_of_the_families(results: dict[str, Any]) -> None:
    for split in SPLITS:
        rows = {row["family"]: row for row in results["tasks"] if row["split"] == split}
        for stage in STAGES:
            right = {name: row["stages"][stage]["value"] * row["stages"][stage]["n"] for name, row in rows.items()}
            assert right.pop("all") == pytest.approx(sum(right.values()))


def test_bits_per_byte_stand_beside_both_baselines(results: dict[str, Any], tiny_run: Path) -> None:
    bits = results["bits_per_byte"]
    texts = [row["text"] for row in read_jsonl(tiny_run / "corpus" / "validation.jsonl")]
    assert bits["validation_bytes"] == sum(len(text.encode()) for text in texts)
    assert set(bits["models"]) == set(STAGES)
    assert set(bits["baselines"]) == {"xz", "kneser_ney"}
    for score in (*bits["models"].values(), *bits["baselines"].values()):
        assert 0.5 < score["value"] < 8.5


def test_an_untrained_model_is_worse(results: dict[str, Any], tiny_run: Path) -> None:
    """Six steps are enough to beat equal odds for every token."""
    facts = read_json(tiny_run / "tokenizer" / "facts.json")
    uniform = 9 / facts["validation"]["bytes_per_token"]  # log2 of 512 tokens
    assert results["bits_per_byte"]["models"]["pretrain"]["value"] < uniform


def test_wins_ties_and_losses_add_up(results: dict[str, Any], recipe: Recipe) -> None:
    duel = results["dpo"]["win_rate"]
    assert duel["wins"] + duel["ties"] + duel["losses"] == duel["n"] == recipe.evaluate.sampled_problems
    assert duel["value"] == pytest.approx((duel["wins"] + duel["ties"] / 2) / duel["n"])


def test_the_gain_is_the_difference(results: dict[str, Any], recipe: Recipe) -> None:
    grpo = results["grpo"]
    assert grpo["gain"]["value"] == pytest.approx(grpo["after"]["value"] - grpo["before"]["value"])
    assert {grpo[name]["n"] for name in ("before", "after", "gain")} == {recipe.evaluate.sampled_problems}
    assert grpo["before"] == results["dpo"]["after"]


def test_answers_can_be_read_and_agree_with_the_scores(results: dict[str, Any], tiny_run: Path) -> None:
    rows = list(read_jsonl(tiny_run / "evaluate" / "answers.jsonl"))
    assert {(row["stage"], row["split"], row["family"]) for row in rows} == {
        (stage, split, family) for stage in STAGES for split in SPLITS for family in FAMILIES
    }
    for row in rows:
        assert row["prompt"]
        assert row["reference"]
    for entry in results["tasks"]:
        if entry["family"] == "all":
            continue
        for stage, score in entry["stages"].items():  # two problems a family: all of them are among the examples
            place = (stage, entry["split"], entry["family"])
            given = [row["correct"] for row in rows if (row["stage"], row["split"], row["family"]) == place]
            assert sum(given) == pytest.approx(score["value"] * score["n"])


def test_attention_rows_are_distributions_over_the_past(tiny_run: Path) -> None:
    attention = read_json(tiny_run / "evaluate" / "attention.json")
    length = len(attention["tokens"])
    assert attention["tokens"][0] == "<|document|>"
    assert "".join(attention["tokens"][1:]) == attention["text"]
    for layer in attention["layers"]:
        for head in layer:
            assert len(head) == length
            for place, row in enumerate(head):
                assert sum(row) == pytest.approx(1, abs=1e-4 * length)
                assert not any(row[place + 1 :])


def test_conversations_alternate(tiny_run: Path) -> None:
    talks = read_json(tiny_run / "evaluate" / "conversations.json")
    assert len({talk["title"] for talk in talks}) == len(talks) >= 3
    for talk in talks:
        roles = [message["role"] for message in talk["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_memorisation_is_measured_against_held_out_text(results: dict[str, Any], recipe: Recipe) -> None:
    found = results["memorisation"]
    assert 0 < found["samples"] <= recipe.evaluate.memorisation_samples
    assert found["median_characters"] <= found["longest_characters"]
    assert len(found["longest_text"]) == found["longest_characters"]


def test_the_problems_of_the_splits_are_distinct_and_apart(tiny_run: Path, recipe: Recipe) -> None:
    material = read_material(tiny_run)
    for family in FAMILIES:
        asked = {
            split: [str(p.conversation.prompt.to_json()) for p in _problems(material, split, family, 20, recipe.seed)]
            for split in SPLITS
        }
        for split in SPLITS:
            assert len(set(asked[split])) == 20
        assert not set(asked["test"]) & set(asked["test-wordings"])


def test_the_sentence_for_the_attention_maps(tiny_run: Path) -> None:
    tokenizer = stage_model(tiny_run, "pretrain")[1]
    line = next(
        text for text in (" ".join(["word"] * n) + "." for n in range(1, 80)) if 16 <= len(tokenizer.encode(text)) <= 22
    )
    assert _sentence(["Short.\n" * 40 + f"no end\n{line}\n"], tokenizer) == line
    long = "endless words without any stop " * 40
    assert long.startswith(_sentence([long], tokenizer))
    assert len(tokenizer.encode(_sentence([long], tokenizer))) <= 22


def test_measuring_again_gives_the_same(copied_run: Path, recipe: Recipe) -> None:
    before = {path.name: path.read_bytes() for path in (copied_run / "evaluate").glob("*.json*")}
    figures = build(recipe.evaluate, copied_run, recipe.seed)
    after = {path.name: path.read_bytes() for path in (copied_run / "evaluate").glob("*.json*")}
    assert after == before
    assert figures == read_json(copied_run / "evaluate" / "manifest.json")["metrics"]


def test_the_table_names_every_row(results: dict[str, Any]) -> None:
    rows = table(results)
    assert {len(row) for row in rows} == {2 + len(STAGES)}
    assert rows[0][0] == "bits per byte"
    assert rows[-1][0] == "stops by itself"
    assert {row[0] for row in rows[1:-1]} == {
        f"{family}{more}" for family in ("all", *FAMILIES) for more in ("", ", new wordings")
    }


def test_what_stood_in_the_train_documents_is_told_apart(copied_run: Path, recipe: Recipe) -> None:
    """A question, a piece of a validation document, and what the corpus marked, planted in a train document."""
    corpus = copied_run / "corpus"
    question = (
        _problems(read_material(copied_run), "test", "lookup", 2, recipe.seed)[0].conversation.messages[0].content
    )
    train, validation = (list(read_documents(corpus / f"{side}.jsonl")) for side in ("train", "validation"))
    assert len(validation) == 1
    fresh = Document("fresh", "", "test", " ".join(f"{number} quite other words," for number in range(60)))
    piece = " ".join(validation[0].text.split()[40:70])
    text = f"{question}\n{piece}"
    planted = Document("planted", "", "test", text, {"contaminated": "riddles 3, riddles 5"})
    write_jsonl(corpus / "train.jsonl", [document.to_json() for document in (*train, planted)])
    write_jsonl(corpus / "test.jsonl", [document.to_json() for document in (*validation, fresh)])
    encode_split(copied_run, "test", stage_model(copied_run, "pretrain")[1])
    build(recipe.evaluate, copied_run, recipe.seed)
    found = read_json(copied_run / "evaluate" / "results.json")

    assert found["contamination"]["contaminated_problems"] == 1
    assert [example["first"] for example in found["contamination"]["examples"]] == ["planted"]
    assert found["contamination"]["marked"] == [{"benchmark": "riddles", "items": 2, "documents": 2}]
    rows = {(row["split"], row["family"]): row for row in found["tasks"]}
    for split in SPLITS:
        lookup, everything = rows[split, "lookup"], rows[split, "all"]
        for stage in STAGES:
            counts = [lookup[part][stage]["n"] for part in PARTS]
            assert counts == [1, 1] and everything["contaminated"][stage] == lookup["contaminated"][stage]
            assert sum(lookup[part][stage]["value"] for part in PARTS) == 2 * lookup["stages"][stage]["value"]
        assert not any(part in rows[split, family] for part in PARTS for family in FAMILIES if family != "lookup")
    bits, test = found["bits_per_byte"], found["bits_per_byte"]["test"]
    assert test["test_bytes"] == bits["validation_bytes"] + fresh.bytes
    for shared, count in ((bits["contamination"], 1), (test["contamination"], 2)):
        assert (shared["documents"], shared["contaminated_documents"]) == (count, 1)
        assert shared["contaminated_runs"] == 30 - 12
    assert not any(part in bits["contamination"] for part in PARTS)
    for stage in STAGES:
        counts = [test["contamination"][part][stage]["n"] for part in PARTS]
        assert min(counts) > 0 and sum(counts) == test["models"][stage]["n"]
        assert test["contamination"]["contaminated"][stage]["value"] == pytest.approx(bits["models"][stage]["value"])
    names = [row[0] for row in table(found)]
    assert [name for name in names if "test text" in name] == [
        f"bits per byte, test text{part}" for part in ("", ", clean", ", contaminated")
    ]
    assert "lookup, new wordings, contaminated (1)" in names


def test_a_missing_stage_is_named(command: Callable[..., Any], copied_run: Path) -> None:
    import shutil

    shutil.rmtree(copied_run / "dpo" / "checkpoints")
    recipe = load(str(copied_run / "recipe.toml"))
    with pytest.raises(Exception, match="holds no checkpoint; run the stage dpo first"):
        build(recipe.evaluate, copied_run, recipe.seed)


@pytest.mark.parametrize(
    "name", [f.name for f in dataclasses.fields(EvaluateConfig) if f.name not in ("order", "sampling")]
)
def test_nothing_to_measure_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"evaluate.{name} is 0; it must be at least 1"):
        EvaluateConfig(**{name: 0})
