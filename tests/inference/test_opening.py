"""One way to open a run, a Hugging Face folder and a GGUF file, and the way out again."""

import json
from pathlib import Path

import pytest
import torch

import groundup
from groundup.core.errors import ArtifactError, GroundupError, UsageError
from groundup.inference import Engine, Sampling
from groundup.inference.exporting import ExportOptions, export
from groundup.model import ModelConfig, Transformer
from groundup.tasks.conversation import Conversation, Message
from groundup.tokenizer import BytePairTokenizer
from groundup.training.checkpoint import save_checkpoint

TOKENIZER = BytePairTokenizer.from_merges([(104, 105), (256, 33)])
ASKED = Conversation((Message("user", "hi!"),))
GREEDY = Sampling(temperature=0, max_tokens=12)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory whose base model has random weights."""
    folder = tmp_path_factory.mktemp("run")
    config = ModelConfig(layers=2, width=32, heads=4, kv_heads=2, hidden=48, context=64)
    model = Transformer(config, TOKENIZER.vocab_size)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0 if parameter.ndim > 1 else 1.0, 0.3, generator=generator)
    save_checkpoint(folder / "pretrain" / "checkpoints", 1, model, [], TOKENIZER, {})
    (folder / "pretrain" / "manifest.json").write_text("{}", encoding="utf-8")
    (folder / "recipe.toml").write_text("", encoding="utf-8")
    return folder


def answer(path: Path) -> tuple[int, ...]:
    opened = groundup.open_model(path)
    [completion] = Engine(opened.model, frozenset()).generate([opened.ids("hi! hi")], GREEDY)
    return completion.ids


@pytest.mark.parametrize(("to", "kind"), [("hf", None), ("hf", "F32"), ("gguf", "F32")])
def test_an_export_answers_and_chats_as_the_run_does(run: Path, tmp_path: Path, to: str, kind: str | None) -> None:
    out = export(run, ExportOptions(to, tmp_path / "there", kind))  # type: ignore[arg-type]
    assert answer(out) == answer(run)
    here, there = groundup.open_model(run), groundup.open_model(out)
    assert there.ids("hi") == here.ids("hi")
    assert here.end <= there.end
    assert there.template.prompt(ASKED) == here.template.prompt(ASKED)
    assert TOKENIZER.special_tokens["<|end|>"] in there.template.stop_ids
    again = export(out, ExportOptions("gguf" if to == "hf" else "hf", tmp_path / "back", "F32"))
    assert answer(again) == answer(run)


def test_an_exported_checkpoint_is_the_run_s(run: Path, tmp_path: Path) -> None:
    out = export(run, ExportOptions("checkpoint", tmp_path / "there"))
    assert answer(out) == answer(run)
    with pytest.raises(UsageError, match="keeps every number as it is"):
        ExportOptions("checkpoint", type="F16")


def test_a_run_keeps_its_exports(run: Path) -> None:
    assert export(run, ExportOptions("gguf")) == run / "export" / "model.gguf"
    with pytest.raises(UsageError, match="exists"):
        export(run, ExportOptions("gguf"))


def test_half_precision_is_computed_as_float32(run: Path, tmp_path: Path) -> None:
    folder = export(run, ExportOptions("hf", tmp_path / "half", "F16"))
    assert {weight.dtype for weight in groundup.open_model(folder).model.parameters()} == {torch.float32}
    folder = export(run, ExportOptions("hf", tmp_path / "brain", "BF16"))
    assert groundup.open_model(folder).model.embedding.weight.dtype == torch.bfloat16
    assert groundup.open_model(folder, torch.float32).model.embedding.weight.dtype == torch.float32


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells which file a place in memory is of")
@pytest.mark.parametrize("to", ["run", "hf", "gguf"])
def test_weights_are_mapped_not_copied(run: Path, tmp_path: Path, to: str) -> None:
    path = run if to == "run" else export(run, ExportOptions(to, tmp_path / "mapped", "F32"))  # type: ignore[arg-type]
    parameters = dict(groundup.open_model(path).model.named_parameters())
    ranges = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        if line.endswith((".safetensors", "mapped"))
    ]
    copied = [
        name
        for name, parameter in parameters.items()
        if not any(first <= parameter.data_ptr() < last for first, last in ranges)
    ]
    # llama.cpp has the rows of queries and keys in another order than we.
    assert not [name for name in copied if to != "gguf" or not name.endswith(("query.weight", "key.weight"))]


def test_what_cannot_be_opened_is_said_in_a_line(run: Path, tmp_path: Path) -> None:
    folder = export(run, ExportOptions("hf", tmp_path / "hf", "F32"))

    def refuses(path: Path, pattern: str, kind: type[GroundupError] = ArtifactError) -> None:
        with pytest.raises(kind, match=pattern) as caught:
            groundup.open_model(path)
        assert "\n" not in str(caught.value)

    refuses(tmp_path / "nowhere", "does not exist")
    (tmp_path / "empty").mkdir()
    refuses(tmp_path / "empty", "holds no trained model")
    (tmp_path / "text.gguf").write_text("no model", encoding="utf-8")
    refuses(tmp_path / "text.gguf", "text.gguf")

    other = BytePairTokenizer.from_merges([(97, 97), (98, 98), (99, 99), (100, 100)])
    other.save(folder)
    refuses(folder, "they do not belong together")
    TOKENIZER.save(folder)

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for change, pattern in (
        ({"model_type": "mamba"}, "mamba"),
        ({"hidden_act": "tanh"}, "hidden_act"),
        ({"hidden_size": 64}, "hf"),
        ({"num_hidden_layers": 3}, "hf"),
        ({"never_heard_of": 1}, "never_heard_of"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change), encoding="utf-8")
        refuses(folder, pattern)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refuses(folder, "pickle|safetensors")


def test_only_a_run_has_a_place_of_its_own(run: Path, tmp_path: Path) -> None:
    folder = export(run, ExportOptions("hf", tmp_path / "hf"))
    with pytest.raises(UsageError, match="--out"):
        export(folder, ExportOptions("gguf"))
    with pytest.raises(UsageError, match="Q8_0"):
        ExportOptions("hf", type="Q8_0")
