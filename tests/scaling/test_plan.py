"""``groundup plan``: what a recipe takes, as it would run."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.model import Transformer
from groundup.model.presets import names, preset
from groundup.planning import count_parameters, operations, parameters
from groundup.planning.machines import MACHINES
from groundup.planning.plan import checkpoint_bytes
from groundup.recipes import load, with_options
from groundup.scaling.plan import run

Call = Callable[..., Any]
TINY = ("smoke", "--model.layers=1", "--model.context=16", "--pretrain.rows=2", "--pretrain.validation-windows=2",
        "--pretrain.sample-tokens=4")  # fmt: skip


def test_a_recipe_is_planned_as_it_would_run(call: Call) -> None:
    outcome = call(run, "smoke", "--model.hidden", "96", "--pretrain.steps=7", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    recipe = with_options(load("smoke"), ["--model.hidden=96"], "test")
    model = Transformer(recipe.model, 512)
    assert found["parameters"]["total"] == count_parameters(model)
    assert found["training"]["tokens"] == 7 * 4 * 256
    assert found["micro_batch"]["rows"] == 4
    assert "seconds" not in found["training"]


@pytest.mark.parametrize("tokens", ["1000", "1e3", "1000.0"])
def test_tokens_may_be_written_as_any_number(tokens: str, call: Call) -> None:
    assert json.loads(call(run, "smoke", "--tokens", tokens, "--json").out)["training"]["tokens"] == 1000


def test_matrix_products_in_two_bytes_keep_less(call: Call) -> None:
    sizes = {
        precision: json.loads(call(run, "quickstart", "--pretrain.precision", precision, "--json").out)
        for precision in ("float32", "bfloat16")
    }
    assert sizes["bfloat16"]["micro_batch"]["precision"] == "bfloat16"
    kept = [sizes[precision]["training_bytes"]["activations"] for precision in ("bfloat16", "float32")]
    assert kept[0] < kept[1]


def test_without_a_recipe_a_preset_is_planned(call: Call) -> None:
    outcome = call(run, "--model.preset", "llama-3.2-1b", "--model.context=4096")
    assert (outcome.code, outcome.err) == (0, "")
    assert "1,235,814,400" in outcome.out
    assert "pretraining" not in outcome.out
    assert "1 × 4,096 tokens at a time" in outcome.out


def test_the_time_at_a_given_speed(call: Call) -> None:
    words = ("--model.preset=gpt2", "--tokens", "1024", "--flops-per-second", "1e9", "--price", "36")
    found = json.loads(call(run, *words, "--json").out)
    assert found["training"]["operations"] == operations(preset("gpt2").config, 50_257, 1024).training
    assert found["training"]["seconds"] == pytest.approx(found["training"]["operations"] / 1e9)
    assert found["training"]["price"] == pytest.approx(found["training"]["seconds"] / 100)
    shown = call(run, *words).out
    assert "time" in shown
    assert "price" in shown


def test_fine_tuning_takes_the_time_of_its_tokens(call: Call) -> None:
    found = json.loads(call(run, "smoke", "--flops-per-second", "1e9", "--price", "1", "--json").out)
    assert found["sft"]["tokens"] == 20 * 4 * 256
    assert found["sft"]["seconds"] == pytest.approx(found["training"]["seconds"])
    assert found["together"]["seconds"] == found["sft"]["seconds"] + found["training"]["seconds"]


@pytest.mark.parametrize("name", ["h100", "4090"])
def test_the_time_on_a_named_machine(name: str, call: Call) -> None:
    words = ("--model.preset=gpt2", "--tokens", "1e9", "--device", name, "--json")
    found = json.loads(call(run, *words).out)
    known = MACHINES[name]
    assert found["micro_batch"]["precision"] == "bfloat16"
    assert found["training"]["seconds"] == pytest.approx(
        found["training"]["operations"] / (known.peak * known.utilisation)
    )
    halved = json.loads(call(run, *words, "--mfu", str(known.utilisation / 2)).out)
    assert halved["training"]["seconds"] == pytest.approx(2 * found["training"]["seconds"])
    shown = call(run, *words[:-1])
    assert known.title in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_the_rows_that_are_said_to_fit_do_and_one_more_does_not(call: Call) -> None:
    words = ("--model.preset=gpt2", "--tokens", "1e9", "--device=l4", "--json")
    rows = json.loads(call(run, *words).out)["machine"]["rows_that_fit"]
    totals = [
        json.loads(call(run, *words, "--pretrain.rows", str(count)).out)["training_bytes"]["total"]
        for count in (rows, rows + 1)
    ]
    assert totals[0] <= MACHINES["l4"].memory < totals[1]
    assert json.loads(call(run, "--model.preset=llama-3-70b", *words[1:]).out)["machine"]["rows_that_fit"] == 0


def test_the_disk_is_what_the_rule_keeps(call: Call) -> None:
    words = ("smoke", "--pretrain.checkpoints.last=3", "--pretrain.checkpoints.every=10", "--json")
    found = json.loads(call(run, *words).out)["disk_bytes"]
    sizes = parameters(load("smoke").model, 512)
    # Three, two more for ever (steps 10 and 20), and one that is being written.
    assert found["checkpoints_pretrain"] == 6 * checkpoint_bytes(sizes, muon=True)
    assert found["tokens_at_most"] == 2 * 20 * 4 * 256
    assert found["total"] == sum(size for part, size in found.items() if part != "total")


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz"])
def test_plain_text_has_no_more_tokens_than_bytes(call: Call, tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.write_bytes(b"x" * 1000)  # nothing is read
    found = json.loads(call(run, "smoke", "--corpus.path", str(place), "--json").out)["disk_bytes"]
    assert found["tokens_at_most"] == 2 * (1000 if name == "text.txt" else 20 * 4 * 256)


def test_a_probe_tells_the_time_of_this_machine(call: Call) -> None:
    outcome = call(run, *TINY, "--probe", "--probe-seconds", "0.3", "--price", "2", "--json")
    assert outcome.code == 0
    found = json.loads(outcome.out)
    training = found["training"]
    assert 0 < training["seconds_at_lower_quartile"] <= training["seconds"] <= training["seconds_at_upper_quartile"]
    assert 0 < training["seconds_validating"] < training["seconds"]
    assert training["price"] == pytest.approx(2 * training["seconds"] / 3600)
    assert found["machine"]["steps_measured"] >= 1
    rate = (training["seconds"] - training["seconds_validating"]) / training["operations"]
    assert math.isclose(found["machine"]["speed"] * rate, 1, rel_tol=1e-6)


DEVICES = ("--model.preset=llama-3-8b", "--tokens=1e11", "--device=h100", "--batch=128", "--devices=16")


def test_many_devices_are_planned(call: Call) -> None:
    outcome = call(run, *DEVICES, "--price=2", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    assert found["cluster"]["in_each_node"] == 8
    assert found["training"]["steps"] == math.ceil(1e11 / (128 * 8192))
    assert len(found["plans"]) == 10 < found["meshes_that_fit"]
    times = [each["step_seconds"]["total"] for each in found["plans"]]
    assert times == sorted(times)
    for each in found["plans"]:
        assert each["fits"]
        assert math.prod(each["mesh"].values()) == 16
        assert each["device_bytes"]["total"] <= MACHINES["h100"].memory
        assert each["seconds"] == pytest.approx(found["training"]["steps"] * each["step_seconds"]["total"])
        assert each["price"] == pytest.approx(each["seconds"] / 3600 * 2 * 16)
        assert 0 < each["utilisation"] < 0.5
    shown = call(run, *DEVICES, "--price=2", "--plans=3")
    assert max(map(len, shown.out.splitlines())) <= 80
    assert found["explanation"] in " ".join(shown.out.split())
    assert "memory of the device that needs most" in shown.out
    assert "4th" not in shown.out
    assert len([line for line in shown.out.splitlines() if "micro-batch" in line]) == 4  # three, and the explanation


def test_options_change_the_cluster(call: Call) -> None:
    def best(*words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(call(run, *DEVICES, "--json", *words).out)
        return found

    usual, slow = best(), best("--bandwidth=0.5", "--node-bandwidth=20", "--nodes=4", "--efficiency=0.6")
    assert slow["cluster"]["between"] == 0.5e9
    assert slow["cluster"]["inside"] == 20e9
    assert slow["cluster"]["in_each_node"] == 4
    first, second = usual["plans"][0], slow["plans"][0]
    assert second["step_seconds"]["compute"] < first["step_seconds"]["compute"]
    assert second["communication"] > first["communication"]
    float8 = best("--pretrain.precision=float8")
    assert float8["plans"][0]["step_seconds"]["compute"] < first["step_seconds"]["compute"]


def test_the_batch_is_the_recipe_s(call: Call) -> None:
    words = ("smoke", "--devices=4", "--device=h100", "--json")
    found = json.loads(call(run, *words).out)
    assert found["training"]["sequences_of_a_step"] == 4
    assert found["training"]["steps"] == 20
    assert found["training"]["tokens"] == 20 * 4 * 256
    larger = json.loads(call(run, *words, "--pretrain.accumulation=2", "--batch=32").out)
    assert larger["training"]["sequences_of_a_step"] == 32


def test_plans_that_do_not_fit_are_told(call: Call) -> None:
    words = ("--model.preset=llama-3-70b", "--tokens=1e9", "--devices=8", "--device=4090")
    found = json.loads(call(run, *words, "--json").out)
    assert found["meshes_that_fit"] == 0
    assert not any(each["fits"] for each in found["plans"])
    shown = call(run, *words)
    assert shown.code == 0
    assert "No plan fits: " in shown.out


def test_a_recipe_keeps_its_vocabulary_under_a_preset(call: Call) -> None:
    found = json.loads(call(run, "smoke", "--model.preset", "smollm2-135m", "--json").out)
    assert found["model"]["vocabulary"] == 512
    assert found["model"]["width"] == 576


def test_the_list_of_presets(call: Call) -> None:
    lines = call(run, "--presets").out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *names()]
    [line] = [line for line in lines if line.startswith("mixtral-8x7b")]
    assert "46,702,792,704" in line
    assert "12,879,925,248" in line
    listed = json.loads(call(run, "--presets", "--json").out)
    assert [entry["name"] for entry in listed] == list(names())


def test_the_plan_explains_itself(call: Call) -> None:
    outcome = call(run, "--help")
    assert outcome.code == 0
    for option in (
        "--model.preset",
        "--presets",
        "--tokens",
        "--flops-per-second",
        "--probe",
        "--device",
        "--json",
        "--devices",
    ):
        assert option in outcome.out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("quikstart", "unknown recipe 'quikstart'; did you mean 'quickstart'?"),
        ("--model.preset gpt-2", "unknown preset 'gpt-2'; did you mean 'gpt2'?"),
        ("smoke --model.preset", "--model.preset needs a value"),
        ("smoke --model.widht 3", "unknown key model.widht; did you mean model.width?"),
        ("smoke --tokens x", "--tokens"),
        ("smoke --tokens", "--tokens needs a value"),
        ("smoke --tokens -3", "tokens is -3; it cannot be negative"),
        ("smoke --tokens inf", "tokens is inf; it must be a finite number"),
        ("smoke --flops-per-second nan", "flops-per-second is nan; it must be a finite number"),
        ("smoke --flops-per-second=-1", "it cannot be negative"),
        ("smoke --tokenizer.vocab-size auto", "give --tokenizer.vocab-size a number"),
        ("smoke more", "unexpected more"),
        ("--presets smoke", "unexpected 'smoke'"),
        ("smoke --device h10", "did you mean h100?"),
        ("smoke --device h100 --probe", "give one of them"),
        ("smoke --device h100 --mfu 1.5", "mfu is 1.5"),
        ("smoke --mfu 0.5", "name it with --device"),
        ("smoke --device h100 --pretrain.precision float32", "leave it auto"),
        ("smoke --price 3", "--price needs a speed"),
        ("smoke --probe --probe-seconds 0", "probe-seconds is 0"),
        ("--model.preset gpt2 --device h100", "say on how many --tokens"),
        ("--model.preset gpt2 --device h100 --devices 8", "say on how many --tokens"),
        ("smoke --devices 8", "--devices needs the kind: --device h100"),
        ("smoke --devices 8 --probe", "--devices needs the kind"),
        ("smoke --devices=-8 --device h100", "devices is -8; it cannot be negative"),
        ("smoke --devices 8 --device h10", "did you mean h100?"),
        ("smoke --devices 8 --device h100", "steps of 4 sequences cannot be divided over 8 devices in any way"),
        ("smoke --devices 8 --device h100 --nodes 3", "8 devices cannot be divided over 3 nodes"),
        ("smoke --devices 8 --device h100 --mfu 0.4", "--efficiency sets what matrix products reach"),
        ("smoke --devices 8 --device h100 --efficiency 1.5", "efficiency is 1.5"),
        ("smoke --devices 8 --device h100 --plans 0", "plans is 0"),
        ("smoke --device h100 --bandwidth 50", "--bandwidth is for many devices"),
        ("smoke --nodes 2", "--nodes is for many devices"),
        ("smoke --devices 8 --device a100 --pretrain.precision float8", "has no float8"),
    ],
)
def test_wrong_use_is_told_in_a_line(words: str, complaint: str, call: Call) -> None:
    outcome = call(run, *words.split())
    assert outcome.code == 2
    assert complaint in outcome.err
    assert outcome.err.count("\n") == 0
