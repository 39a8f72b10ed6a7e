"""Random shapes of models: ``st.from_type(ModelConfig)`` draws one, small and with any of the choices."""

import dataclasses
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from groundup.core.errors import UsageError
from groundup.model import ModelConfig
from groundup.model.config import AttentionConfig, ExpertConfig, LatentConfig, PositionConfig

ATTENTIONS = [
    AttentionConfig(),
    AttentionConfig(window=4, pattern="LG"),
    AttentionConfig(softcap=5.0, window=4, pattern="L"),
    AttentionConfig(sinks=True),
]
SHAPES = st.fixed_dictionaries(
    {
        "layers": st.integers(1, 3),
        "width": st.sampled_from([32, 48]),
        "heads": st.just(4),
        "kv_heads": st.sampled_from([1, 2, 4]),
        "head_size": st.sampled_from([0, 8]),
        "hidden": st.sampled_from([0, 40]),
        "norm": st.sampled_from(["rms", "layer"]),
        "norm_place": st.sampled_from(["pre", "post", "output", "sandwich"]),
        "qk_norm": st.sampled_from(["none", "head", "all"]),
        "bias": st.sampled_from(["none", "qkv", "all"]),
        "feed_forward": st.sampled_from(["relu2", "gelu", "swiglu", "geglu-tanh"]),
        "tied": st.booleans(),
        "key_smear": st.booleans(),
        "value_embeddings": st.booleans(),
        "ngrams": st.sampled_from([0, 3]),
        "residual_scalars": st.booleans(),
        "positions": st.sampled_from([PositionConfig(kind) for kind in ("rotary", "learned", "alibi", "none")]),
        "attention": st.sampled_from(ATTENTIONS),
        "latent": st.sampled_from([LatentConfig(), LatentConfig(12), LatentConfig(12, 10, 4, 6)]),
        "experts": st.sampled_from(
            [
                ExpertConfig(),
                ExpertConfig(4, 2, router="sigmoid"),
                ExpertConfig(8, 3, shared=2, hidden=24, dense_layers=1),
            ]
        ),
    }
)


def build(values: dict[str, Any]) -> ModelConfig:
    """The shape, made possible where its choices exclude each other."""
    if values["latent"].key_rank:
        values |= {"kv_heads": 0, "qk_norm": "none", "bias": "none", "key_smear": False, "value_embeddings": False}
        values |= {"positions": PositionConfig(), "attention": dataclasses.replace(values["attention"], sinks=False)}
    if values["experts"].count and values["bias"] == "all":
        values |= {"bias": "qkv"}
    try:
        return ModelConfig(context=16, **values)
    except UsageError:
        assume(False)
        raise


st.register_type_strategy(ModelConfig, SHAPES.map(build))
