"""Published shapes by name.

Enters: a name, such as ``llama-3.2-1b``. Leaves: the choices of that model as a :class:`ModelConfig`, with the size of
its vocabulary and where they were published. The values themselves are in ``presets.toml``.
"""

import difflib
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from groundup.core.errors import UsageError
from groundup.model.config import ModelConfig


@dataclass(frozen=True)
class Preset:
    """A published model's shape."""

    name: str
    family: str
    """What its makers call it."""
    source: str
    """Where the shape was published."""
    vocab_size: int
    """Rows of its embedding, padding rows included."""
    config: ModelConfig


def names() -> Iterator[str]:
    """The names of all presets, a family together, small before large."""
    return iter(_tables())


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: there is none; the message suggests one.
    """
    tables = _tables()
    if not isinstance(name, str) or name not in tables:
        close = difflib.get_close_matches(str(name).lower(), tables, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "`groundup plan --presets` lists them"
        raise UsageError(f"unknown preset {name!r}; {hint}")
    values = _complete(name, tables)
    about = {key: values.pop(key) for key in ("family", "source", "vocab_size")}
    return Preset(name, **about, config=ModelConfig.from_dict(values))


def shrunk(config: ModelConfig) -> ModelConfig:
    """The same choices at the smallest size that still shows all of them: a model that a test runs in milliseconds.

    It has a layer of every kind, grouped heads where there were groups, a window shorter than its context and few
    experts of few numbers.
    """
    config = config.resolved()
    width = 32 if config.heads * config.head_size == config.width else 40
    layers = max(2, len(config.attention.pattern) if config.attention.window else 0)
    positions, latent, experts = config.positions, config.latent, config.experts
    if positions.scaling != "none":
        positions = replace(positions, factor=2.0, original_context=16)
    if latent.key_rank:
        latent = replace(latent, key_rank=16, query_rank=12 if latent.query_rank else 0, rotary_size=4, value_size=6)
    if experts.count:
        experts = replace(
            experts,
            count=8,
            active=min(3, experts.active),
            hidden=16,
            dense_layers=min(1, experts.dense_layers),
            groups=min(4, experts.groups),
            active_groups=min(2, experts.active_groups),
        )
    return replace(
        config,
        layers=layers,
        depth=layers,
        width=width,
        heads=4,
        kv_heads={config.heads: 4, 1: 1}.get(config.kv_heads, 2),
        head_size=8,
        hidden=48,
        context=32,
        embedding_scale=1.0 if config.embedding_scale == 1 else math.sqrt(width),
        positions=positions,
        attention=replace(config.attention, window=min(8, config.attention.window)),
        latent=latent,
        experts=experts,
    )


@cache
def _tables() -> Mapping[str, Mapping[str, Any]]:
    """The presets as they are written down."""
    text = resources.files(__package__).joinpath("presets.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _complete(name: str, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The preset's own values over those of the one that it is like."""
    own = dict(tables[name])
    like = own.pop("like", None)
    return _over(_complete(like, tables), own) if like else own


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested tables as one; where both speak, ``above`` counts."""
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _over(below.get(key, {}), value) if isinstance(value, Mapping) else value
    return merged
