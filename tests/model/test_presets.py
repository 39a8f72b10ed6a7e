"""The presets against what was published, and how recipes and the command line use them."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.core.errors import UsageError
from groundup.model import ModelConfig, Transformer
from groundup.model.presets import names, preset, shrunk
from groundup.planning import parameters
from groundup.recipes import Recipe, load, with_options, with_preset

#: Parameters as the published checkpoints' own files count them, without buffers and multi-token-prediction modules.
PUBLISHED = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-270m": 268_098_176,
    "gemma-3-1b": 999_885_952,
    "gemma-3-4b": 3_880_263_168,
    "gemma-3-12b": 11_766_034_176,
    "gemma-3-27b": 27_009_346_304,
    "olmo-2-1b": 1_484_916_736,
    "olmo-2-7b": 7_298_617_344,
    "olmo-2-13b": 13_716_198_400,
    "olmo-2-32b": 32_234_279_936,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v2": 235_741_434_880,
    "deepseek-v3": 671_026_419_200 - 58 * 256,  # the router's biases are not trained by gradients: a buffer
}


def test_all_that_are_named_are_checked() -> None:
    assert list(names()) == list(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_of_the_published_checkpoint(name: str) -> None:
    """By the closed form, which tests of planning compare with every preset's model."""
    assert parameters(preset(name).config, preset(name).vocab_size).total == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_hang_together(name: str) -> None:
    config = preset(name).config
    assert config.embedding_scale == (math.sqrt(config.width) if "gemma" in name else 1)
    trained = {"none": 0, "linear": 0, "llama3": 8_192, "yarn": 4_096}
    assert config.positions.original_context == trained[config.positions.scaling]
    assert preset(name).source
    assert preset(name).family


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_value_is_of_its_fields_kind(name: str) -> None:
    """Else a recipe that is written and read again would be another one: 8 is not written like 8.0."""

    def kinds(section: Any) -> list[Any]:
        values = [getattr(section, field.name) for field in dataclasses.fields(section)]
        return [kinds(value) if dataclasses.is_dataclass(value) else type(value) for value in values]

    assert kinds(preset(name).config) == kinds(ModelConfig())


def test_scales_of_scores() -> None:
    def scale(name: str) -> float:
        return preset(name).config.resolved().attention_scale

    assert scale("llama-3-8b") == 128**-0.5
    assert scale("gemma-2-27b") == pytest.approx(144**-0.5, rel=1e-15)
    assert scale("gemma-3-27b") == pytest.approx(168**-0.5, rel=1e-15)
    for name, share in (("deepseek-v2", 0.707), ("deepseek-v2-lite", 0.707), ("deepseek-v3", 1.0)):
        assert scale(name) == pytest.approx((0.1 * share * math.log(40) + 1) ** 2 * 192**-0.5, rel=1e-15)


def test_windowed_layers() -> None:
    def windowed(name: str) -> list[bool]:
        config = preset(name).config
        return [config.windowed(layer) for layer in range(config.layers)]

    assert all(windowed("mistral-7b"))
    assert windowed("gemma-2-2b")[:4] == [True, False, True, False]
    assert [layer for layer, local in enumerate(windowed("gemma-3-1b")) if not local] == [5, 11, 17, 23]
    assert not any(windowed("mixtral-8x7b"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpt-2", "unknown preset 'gpt-2'; did you mean 'gpt2'?"),
        ("Llama-3.2-1B", "did you mean 'llama-3.2-1b'?"),
        ("xyzzy", "unknown preset 'xyzzy'; `groundup plan --presets` lists them"),
        (["gpt2"], "unknown preset ['gpt2']"),
    ],
)
def test_an_unknown_preset_is_refused(name: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        preset(name)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shrunk_preset_makes_the_same_choices(name: str) -> None:
    full, small = preset(name).config.resolved(), shrunk(preset(name).config)
    same = ("norm", "norm_place", "norm_offset", "qk_norm", "bias", "feed_forward", "tied", "logits_softcap", "init")
    assert all(getattr(full, key) == getattr(small, key) for key in same)
    assert {full.windowed(layer) for layer in range(full.layers)} == {small.windowed(n) for n in range(small.layers)}
    assert {full.routed(layer) for layer in range(full.layers)} == {small.routed(n) for n in range(small.layers)}
    assert (full.kv_heads < full.heads) == (small.kv_heads < small.heads)
    assert (full.width == full.heads * full.head_size) == (small.width == small.heads * small.head_size)
    assert 0 <= small.attention.window < small.context
    assert [bool(rank) for rank in dataclasses.astuple(full.latent)] == [
        bool(rank) for rank in dataclasses.astuple(small.latent)
    ]
    assert parameters(small, 50).total < 100_000


@pytest.mark.parametrize("name", {preset(name).family: name for name in PUBLISHED}.values())
def test_a_shrunk_preset_runs(name: str) -> None:
    small = shrunk(preset(name).config)
    logits = Transformer(small, 50)(torch.zeros(1, small.context, dtype=torch.long))
    assert logits.shape == (1, small.context, 50)
    assert logits.isfinite().all()


def test_a_recipe_starts_from_a_preset_and_changes_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[model]\npreset = 'qwen3-0.6b'\ncontext = 64\n[model.positions]\nfactor = 1\n", encoding="utf-8")
    assert load(str(path)).model == dataclasses.replace(preset("qwen3-0.6b").config, context=64)


def test_a_recipes_unknown_preset_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[model]\npreset = 'qwen3-600m'\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"recipe mine\.toml: unknown preset 'qwen3-600m'; did you mean 'qwen3-"):
        load(str(path))


def test_a_preset_replaces_the_model_section_and_options_change_it() -> None:
    recipe = with_preset(load("smoke"), "gpt2")
    assert recipe.model == preset("gpt2").config
    assert recipe.pretrain == load("smoke").pretrain
    changed = with_options(recipe, ["--model.layers", "3", "--model.positions.kind=rotary"], "test").model
    assert (changed.layers, changed.depth, changed.positions.kind) == (3, 0, "rotary")
    assert changed.width == 768


def test_what_runs_says_every_value(tmp_path: Path) -> None:
    assert with_options(Recipe(), ["--model.depth", "8"], "test").model == ModelConfig(depth=8).resolved()
    path = tmp_path / "dial.toml"
    path.write_text("[model]\ndepth = 4\n", encoding="utf-8")
    model = with_options(load(str(path)), ["--model.depth", "8"], "test").model
    assert (model.layers, model.width, model.heads, model.kv_heads, model.head_size) == (8, 512, 8, 8, 64)
    assert model.hidden == 1408


def test_a_preset_of_the_command_line_reaches_the_run(
    tmp_path: Path, tiny_corpus: Path, command: Callable[..., Any]
) -> None:
    tiny = ("--model.layers=1", "--model.width=32", "--model.heads=2", "--model.hidden=64", "--model.context=64")
    outcome = command(
        "corpus", "smoke", "--corpus.path", tiny_corpus, "--model.preset", "gpt2", *tiny, "--out", tmp_path / "run"
    )
    assert outcome.code == 0, outcome.err
    model = load(str(tmp_path / "run" / "recipe.toml")).model
    assert (model.norm, model.positions.kind, model.layers, model.hidden) == ("layer", "learned", 1, 64)
    assert command("run", "smoke", "--model.preset", "gpt3").complaint.startswith("unknown preset 'gpt3'; did you mean")
    assert command("run", "smoke", "--model.preset").complaint == "--model.preset needs a value"
