"""Shapes: what is derived, what comes back from JSON, and each shape that cannot be with the words that say so."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from groundup.core.errors import UsageError
from groundup.model import ModelConfig
from groundup.model import config as module
from groundup.model.config import AttentionConfig, ExpertConfig, LatentConfig, PositionConfig

NUMBERS: dict[str, st.SearchStrategy[float]] = {
    "layers": st.integers(0, 5),
    "width": st.sampled_from([0, 48, 64, 96, 100, 128]),
    "heads": st.sampled_from([0, 1, 2, 4]),
    "kv_heads": st.sampled_from([0, 1, 2]),
    "head_size": st.sampled_from([0, 16, 30]),
    "hidden": st.sampled_from([0, 40]),
    "depth": st.integers(0, 5),
    "aspect": st.sampled_from([16, 24, 64]),
    "context": st.integers(1, 512),
    "dropout": st.floats(0, 0.9),
    "norm_epsilon": st.floats(1e-8, 0.1),
    "mup_width": st.sampled_from([0, 64]),
}
SECTIONS: dict[str, st.SearchStrategy[Any]] = {
    "positions": st.builds(
        PositionConfig,
        scaling=st.sampled_from(["none", "linear", "ntk", "yarn", "llama3"]),
        factor=st.sampled_from([1.0, 2.0, 3.0]),
        fraction=st.sampled_from([0.5, 1.0]),
        original_context=st.sampled_from([0, 100]),
    )
    | st.builds(PositionConfig, st.sampled_from(["rotary", "learned", "sinusoidal", "alibi", "none"])),
    "attention": st.builds(AttentionConfig, st.integers(0, 9), st.sampled_from(["L", "LLG"]), sinks=st.booleans()),
    "latent": st.just(LatentConfig()) | st.builds(LatentConfig, st.integers(1, 9), st.integers(0, 9)),
    "experts": st.builds(ExpertConfig, st.integers(0, 8), st.integers(1, 3), hidden=st.sampled_from([0, 20])),
}


def choices() -> dict[str, st.SearchStrategy[Any]]:
    """Of all fields: what the two tables above do not hold is one of a few words, or yes and no."""
    drawn: dict[str, st.SearchStrategy[Any]] = {}
    for item in fields(ModelConfig):
        if get_args(item.type):
            drawn[item.name] = st.sampled_from(get_args(item.type))
        elif item.type is bool:
            drawn[item.name] = st.booleans()
    return drawn | NUMBERS | SECTIONS


@st.composite
def possible(draw: Callable[..., Any]) -> ModelConfig:
    """A few of the options at random; the others as they are."""
    known = choices()
    names = draw(st.lists(st.sampled_from(sorted(known)), unique=True, max_size=8))
    try:
        return ModelConfig(**{name: draw(known[name]) for name in names})
    except UsageError:
        assume(False)
        raise


many = settings(max_examples=150)


@many
@given(possible())
def test_resolving_twice_changes_nothing(config: ModelConfig) -> None:
    resolved = config.resolved()
    assert resolved.resolved() is resolved
    assert ModelConfig(**{item.name: getattr(resolved, item.name) for item in fields(resolved)}) == resolved


@many
@given(possible())
def test_resolving_fills_in_and_changes_nothing_that_was_said(config: ModelConfig) -> None:
    def compare(given_: Any, resolved: Any) -> None:
        for item in fields(given_):
            before, after = getattr(given_, item.name), getattr(resolved, item.name)
            if is_dataclass(before):
                compare(before, after)
            elif item.name != "depth":  # which the others say now
                assert after == before or before == 0, item.name

    resolved = config.resolved()
    compare(config, resolved)
    assert min(resolved.layers, resolved.width, resolved.heads, resolved.kv_heads, resolved.head_size) > 0
    assert resolved.heads % resolved.kv_heads == 0 and resolved.hidden > 0


@many
@given(possible())
def test_a_shape_survives_json(config: ModelConfig) -> None:
    for shape in (config, config.resolved()):
        assert ModelConfig.from_dict(json.loads(json.dumps(asdict(shape)))) == shape


@many
@given(depth=st.integers(1, 64), aspect=st.integers(1, 128))
def test_one_dial_gives_all_sizes(depth: int, aspect: int) -> None:
    """Width grows with depth, in whole heads of 64; the feed-forward layer with the width."""
    config = ModelConfig(depth=depth, aspect=aspect).resolved()
    assert config.layers == depth
    assert depth * aspect <= config.width < depth * aspect + 64
    assert config.head_size == 64 and config.heads * 64 == config.width and config.kv_heads == config.heads
    assert config.hidden == math.ceil(config.width * 8 // 3 / 64) * 64
    assert replace(config, feed_forward="relu2", hidden=0).resolved().hidden == 4 * config.width


def test_what_is_given_is_not_derived() -> None:
    config = ModelConfig(depth=5, heads=2, kv_heads=1, hidden=77).resolved()
    assert (config.layers, config.heads, config.kv_heads, config.hidden) == (5, 2, 1, 77)
    assert ModelConfig(depth=5).resolved() == ModelConfig(layers=5).resolved()
    assert ModelConfig(heads=3, head_size=20).resolved().width == 60
    assert ModelConfig().resolved().layers == 6
    assert ModelConfig(context=512, positions=PositionConfig(scaling="yarn", factor=4)).resolved().positions == (
        PositionConfig(scaling="yarn", factor=4, original_context=128)
    )


LATENT = LatentConfig(key_rank=8)
MLA: dict[str, Any] = {"latent": LATENT, "qk_norm": "none"}
#: Words of the message ← a shape that it speaks of.
IMPOSSIBLE: list[tuple[str, dict[str, Any]]] = [
    # together
    ("model.head-size 4 leaves rotary", {"width": 16, "heads": 4, "positions": PositionConfig(fraction=0.25)}),
    ("model.width 18 cannot be split into 6 heads of an even size", {"width": 18, "heads": 6}),
    ("model.kv-heads 3 does not divide model.heads 4; choose one of 1, 2, 4", {"heads": 4, "kv_heads": 3}),
    ("model.positions.scaling yarn", {"positions": PositionConfig("alibi", scaling="yarn")}),
    ("model.positions.fraction is of rotary", {"positions": PositionConfig("learned", fraction=0.5)}),
    ("model.positions.local-base is of windowed", {"positions": PositionConfig(local_base=1e4)}),
    (
        "model.positions.local-base is 0.5",
        {"positions": PositionConfig(local_base=0.5), "attention": AttentionConfig(window=4)},
    ),
    ("model.positions.factor 2 needs", {"positions": PositionConfig(factor=2)}),
    (
        "model.positions.high-frequency must be greater",
        {"positions": PositionConfig(scaling="llama3", factor=2, high_frequency=1.0)},
    ),
    ("model.positions.beta-fast must", {"positions": PositionConfig(scaling="yarn", factor=2, beta_fast=1.0)}),
    ("model.norm-offset is of RMSNorm", {"norm": "layer", "norm_offset": True}),
    ("no norm of queries and keys", {"latent": LATENT}),
    ("no norm of queries and keys", {**MLA, "heads": 4, "kv_heads": 2}),
    ("no norm of queries and keys", {**MLA, "key_smear": True}),
    ("latent attention has no biases", {**MLA, "bias": "qkv"}),
    ("latent attention has no biases", {**MLA, "attention": AttentionConfig(sinks=True)}),
    ("latent attention has no biases", {**MLA, "value_embeddings": True}),
    ("model.latent.rotary-size dimensions", {**MLA, "positions": PositionConfig("none")}),
    ("model.latent.rotary-size dimensions", {**MLA, "positions": PositionConfig(fraction=0.5)}),
    ("model.latent.rotary-size dimensions", {**MLA, "latent": replace(LATENT, rotary_size=3)}),
    ("set model.latent.key-rank", {"latent": LatentConfig(query_rank=4)}),
    ("set model.latent.key-rank", {"latent": LatentConfig(rotary_size=4)}),
    ("set model.latent.key-rank", {"latent": LatentConfig(value_size=4)}),
    ("model.experts.active 3 is more", {"experts": ExpertConfig(2, 3)}),
    ("model.experts.groups 3 does not divide", {"experts": ExpertConfig(8, 2, groups=3)}),
    ("1 groups of 2 experts hold fewer than the 3", {"experts": ExpertConfig(8, 3, groups=4)}),
    ("model.experts.active-groups 3 is more", {"experts": ExpertConfig(8, 2, groups=2, active_groups=3)}),
    ("model.experts.dense-layers 2 leaves none of 2", {"layers": 2, "experts": ExpertConfig(4, dense_layers=2)}),
    ("experts have no biases", {"bias": "all", "experts": ExpertConfig(4)}),
    ("set model.experts.router sigmoid", {"experts": ExpertConfig(4, bias_rate=0.1)}),
    ("set model.experts.count", {"experts": ExpertConfig(shared=1)}),
    ("set model.tied false", {"mup_width": 64}),
    ("set model.init zero", {"mup_width": 64, "tied": False, "init": "normal"}),
    # derived
    ("model.depth 3 and model.layers 4 disagree", {"depth": 3, "layers": 4}),
    ("model.width 190 cannot be split into 6 heads", {"width": 190, "heads": 6}),
    ("groundup.model.preset", {"preset": "gpt2"}),
    # alone
    ("model.dropout is 1.0; it must be below 1", {"dropout": 1.0}),
    ("model.attention.dropout is 1.0; it must be below 1", {"attention": AttentionConfig(dropout=1.0)}),
    ("model.norm-epsilon is 0.0", {"norm_epsilon": 0.0}),
    ("model.norm-epsilon is 1.0", {"norm_epsilon": 1.0}),
    ("model.positions.base is 1.0", {"positions": PositionConfig(base=1.0)}),
    ("model.positions.fraction is 0.0", {"positions": PositionConfig(fraction=0.0)}),
    ("model.positions.fraction is 1.5", {"positions": PositionConfig(fraction=1.5)}),
    ("model.attention.pattern is ''", {"attention": AttentionConfig(pattern="")}),
    ("model.attention.pattern is 'LX'", {"attention": AttentionConfig(pattern="LX")}),
    # of the wrong kind
    ("model.norm is 'batch'; it must be one of rms, layer", {"norm": "batch"}),
    ("model.positions.kind is 'there'; it must be one of rotary", {"positions": PositionConfig("there")}),  # type: ignore[arg-type]
    ("model.layers is 'two'; it must be a whole number", {"layers": "two"}),
    ("model.layers is 2.5; it must be a whole number", {"layers": 2.5}),
    ("model.layers is True; it must be a whole number", {"layers": True}),
    ("model.dropout is None; it must be a number", {"dropout": None}),
    ("model.tied is 'no'; it must be true or false", {"tied": "no"}),
    ("model.attention.pattern is 7; it must be text", {"attention": AttentionConfig(pattern=7)}),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("words", "shape"), IMPOSSIBLE)
def test_impossible_shapes_are_refused_in_one_line(words: str, shape: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        ModelConfig(**shape)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message and len(message) < 240


def test_no_contradiction_is_left_without_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line of the table of contradictions is the first that one of the shapes above meets."""
    met = set()
    monkeypatch.setattr(module, "_check_shape", lambda config: None)
    for _, shape in IMPOSSIBLE:
        try:
            table = module._contradictions(ModelConfig(**shape).resolved())
        except UsageError:  # for another reason
            continue
        met.add(next(number for number, (wrong, _) in enumerate(table) if wrong))
    assert met == set(range(len(module._contradictions(ModelConfig().resolved()))))


SECTION_NAMES = ("", "positions", "attention", "latent", "experts")


def numbers() -> list[tuple[str, str]]:
    """(section, field) of every number but those whose sign is free."""
    free = {"embedding_scale", "low_frequency", "high_frequency", "beta_fast", "beta_slow", "scale"}
    return [
        (section, item.name)
        for section in SECTION_NAMES
        for item in fields(getattr(ModelConfig(), section) if section else ModelConfig)
        if item.type in (int, float) and item.name not in free
    ]


@pytest.mark.parametrize(("section", "name"), numbers())
@pytest.mark.parametrize("value", [-1, math.nan])
def test_numbers_below_their_range_are_refused_by_name(section: str, name: str, value: float) -> None:
    changed = replace(getattr(ModelConfig(), section), **{name: value}) if section else value
    key = ".".join(part for part in ("model", section, name.replace("_", "-")) if part)
    with pytest.raises(UsageError) as caught:
        ModelConfig(**{section or name: changed})
    assert str(caught.value).startswith(f"{key} is {value}; it must be")


@pytest.mark.parametrize("section", SECTION_NAMES)
def test_unknown_keys_of_json_are_refused_by_name(section: str) -> None:
    table: dict[str, Any] = {"colour": 1}
    with pytest.raises(UsageError, match="has no colour") as caught:
        ModelConfig.from_dict({section: table} if section else table)
    assert str(caught.value).startswith(f"model.{section} has" if section else "model has")


def test_a_section_of_json_must_be_a_table() -> None:
    with pytest.raises(UsageError, match=r"model\.positions is 'rotary'; it must be a table of kind, base"):
        ModelConfig.from_dict({"positions": "rotary"})
