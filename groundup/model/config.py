"""The shape of a model, and the shapes that cannot be.

Every decoder of the field is a choice of these values; ``presets.toml`` holds the choices that have names. What is 0 is
derived: from ``depth``, the one dial, or from the other values. :meth:`ModelConfig.resolved` fills it in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, get_args

from groundup.core.errors import UsageError

#: Feed-forward kinds: the activation, and whether a gate multiplies it (Shazeer 2020).
FEED_FORWARDS: Mapping[str, tuple[str, bool]] = {
    "relu": ("relu", False),
    "relu2": ("relu2", False),
    "gelu": ("gelu", False),
    "gelu-tanh": ("gelu-tanh", False),
    "swiglu": ("silu", True),
    "geglu": ("gelu", True),
    "geglu-tanh": ("gelu-tanh", True),
}


@dataclass(frozen=True)
class PositionConfig:
    """How a token knows where it stands."""

    kind: Literal["rotary", "learned", "sinusoidal", "alibi", "none"] = "rotary"
    """Rotary turns queries and keys (Su et al. 2021); learned and sinusoidal are added to the embedding (Vaswani et al.
    2017); alibi lowers the scores of what is far away (Press et al. 2022); none leaves order to the causal mask."""
    base: float = 10_000.0
    """Base of the rotary frequencies."""
    local_base: float = 0.0
    """Base in the windowed layers, which are then never scaled (Gemma 3); 0: as everywhere."""
    fraction: float = 1.0
    """Share of each head's dimensions that rotary turns."""
    scaling: Literal["none", "linear", "ntk", "yarn", "llama3"] = "none"
    """How rotary frequencies are stretched beyond the trained length: all alike (Chen et al. 2023), by a larger base
    (NTK-aware), by wavelength (YaRN, Peng et al. 2024), or as Llama 3.1 does."""
    factor: float = 1.0
    """How many times longer than the trained length sequences may become."""
    original_context: int = 0
    """The trained length before scaling, in tokens; 0: context / factor."""
    low_frequency: float = 1.0
    """llama3: wavelengths longer than original-context / this are stretched in full."""
    high_frequency: float = 4.0
    """llama3: wavelengths shorter than original-context / this stay."""
    beta_fast: float = 32.0
    """yarn: dimensions that turn more often than this over the trained length stay."""
    beta_slow: float = 1.0
    """yarn: dimensions that turn less often than this are stretched in full."""
    magnitude: float = 0.0
    """yarn: queries and keys are multiplied by this; 0: 0.1 · ln(factor) + 1."""


@dataclass(frozen=True)
class AttentionConfig:
    """What a token may look at, and how scores become weights."""

    window: int = 0
    """Tokens that a windowed layer sees, the token itself included; 0: no layer is windowed."""
    pattern: str = "L"
    """Which layers are windowed, repeated over the depth: L is local (windowed), G is global. LLLLLG is Gemma 3's."""
    softcap: float = 0.0
    """Bound scores smoothly: cap · tanh(score / cap) (Gemma 2); 0: no bound."""
    scale: float = 0.0
    """Factor of query · key; 0: 1/√head-size."""
    sinks: bool = False
    """A learned score per head that takes weight but gives nothing, so that a head may look at nothing (Xiao et al.
    2024; gpt-oss)."""
    dropout: float = 0.0
    """Share of attention weights dropped in training; slow on a CPU, which has no fused kernel for it."""


@dataclass(frozen=True)
class LatentConfig:
    """Multi-head latent attention (DeepSeek-V2, 2024): keys and values are read from a small shared vector."""

    key_rank: int = 0
    """Size of the vector that keys and values are made of, and that the cache keeps; 0: ordinary attention."""
    query_rank: int = 0
    """Size of the vector that queries are made of; 0: queries come from the residual stream."""
    rotary_size: int = 0
    """Dimensions of query and key that carry positions, one such key shared by all heads; 0: half the head size."""
    value_size: int = 0
    """Size of a value head; 0: the head size."""


@dataclass(frozen=True)
class ExpertConfig:
    """Mixture of experts: each token passes a few of many feed-forward layers (Shazeer et al. 2017)."""

    count: int = 0
    """Number of routed experts in a layer; 0: one ordinary feed-forward layer."""
    active: int = 2
    """Routed experts per token."""
    shared: int = 0
    """Experts that every token passes as well (DeepSeekMoE, 2024)."""
    hidden: int = 0
    """Inner size of one expert; 0: model.hidden."""
    dense_layers: int = 0
    """The first layers that keep one ordinary feed-forward layer."""
    router: Literal["softmax", "sigmoid"] = "softmax"
    """How the router's scores become probabilities; sigmoid adds the balancing bias of DeepSeek-V3."""
    normalise: bool = True
    """Make the weights of the chosen experts sum to 1."""
    scale: float = 1.0
    """Factor of the routed experts' sum."""
    groups: int = 1
    """Experts are in this many groups …"""
    active_groups: int = 1
    """… of which a token uses this many."""
    balance: float = 0.01
    """Weight of the load-balancing loss (Fedus et al. 2022, Switch)."""
    bias_rate: float = 0.0
    """sigmoid: how much a step moves each expert's balancing bias, against its load (Wang et al. 2024); 0: not."""


@dataclass(frozen=True)
class ModelConfig:
    """A decoder. The defaults are Llama's choices (Touvron et al. 2023) with normalised queries and keys."""

    layers: int = 0
    """Number of transformer blocks; 0: `depth`."""
    width: int = 0
    """Size of the residual stream; 0: `aspect` · layers, rounded up to whole heads."""
    heads: int = 0
    """Number of query heads; 0: of even sizes near 64."""
    kv_heads: int = 0
    """Number of key/value heads; must divide `heads`. Fewer is grouped-query attention, 1 multi-query; 0: all."""
    hidden: int = 0
    """Inner size of the feed-forward layer; 0: 4 · width, or with a gate 8/3 · width rounded up to a multiple of 64."""
    context: int = 256
    """Longest sequence in tokens, in training and in generation."""
    depth: int = 0
    """The one dial: layers, and with them width, heads and learning rates, each unless given; 0: 6."""
    aspect: int = 64
    """Width per layer."""
    head_size: int = 0
    """Size of one attention head; 0: width / heads, or 64."""
    preset: str = ""
    """Start from a published shape; `groundup plan --presets` lists them. Other keys change it."""
    norm: Literal["rms", "layer"] = "rms"
    """RMSNorm (Zhang & Sennrich 2019) or LayerNorm (Ba et al. 2016)."""
    norm_place: Literal["pre", "post", "output", "sandwich"] = "pre"
    """Where a block normalises: what enters attention and feed-forward (pre), the sum after them (post, Vaswani et al.
    2017), what leaves them (output, OLMo 2), or what enters and what leaves (sandwich, Gemma 2)."""
    norm_epsilon: float = 1e-5
    """Added to the mean square before the root."""
    norm_offset: bool = False
    """Norm scales are stored less 1 (Gemma)."""
    qk_norm: Literal["none", "head", "all"] = "head"
    """Normalise queries and keys before the dot product: each head (Henry et al. 2020), or all heads together (OLMo 2).
    Steadies large learning rates."""
    bias: Literal["none", "qkv", "all"] = "none"
    """Biases: nowhere, of queries, keys and values (Qwen 2), or of every linear layer and LayerNorm (GPT-2)."""
    feed_forward: Literal["relu", "relu2", "gelu", "gelu-tanh", "swiglu", "geglu", "geglu-tanh"] = "swiglu"
    """Activation of the feed-forward layer; those in -glu have a gate (Shazeer 2020)."""
    tied: bool = True
    """Share one matrix between the token embedding and the output head (Press & Wolf 2017)."""
    key_smear: bool = False
    """Let each key also carry some of the key before it, a learned share per head (Elhage et al. 2022). Looking up what
    followed an earlier mention then takes one layer instead of two, which small models learn far sooner."""
    value_embeddings: bool = False
    """Add to the values of every second layer a vector of the token itself (Zhou et al. 2024, value residuals)."""
    ngrams: int = 0
    """Add to the token's embedding those of the pair it ends (2), and of the triple (3) …, hashed into tables (Huang et
    al. 2025, over-tokenized transformers): many weights for hardly any arithmetic; 0: none."""
    ngram_rows: int = 16_384
    """Rows of the table of the pairs, and of each of the others."""
    residual_scalars: bool = False
    """Two learned numbers per layer: how much of the stream goes on, how much of the embedding comes back."""
    embedding_scale: float = 1.0
    """Factor of the token embedding; Gemma's is √width."""
    logits_softcap: float = 0.0
    """Bound logits smoothly: cap · tanh(logit / cap) (Gemma 2); 0: no bound."""
    dropout: float = 0.0
    """Share of activations dropped in training: of embeddings and what a block adds (Srivastava et al. 2014)."""
    init: Literal["zero", "depth-scaled", "normal"] = "zero"
    """First weights: 1/√fan-in with blocks that start as the identity, or GPT-2's 0.02 with the layers that write to
    the residual stream divided by √(2 · layers), or 0.02 everywhere."""
    mup_width: int = 0
    """Width at which the learning rates were tuned: μP (Yang et al. 2022) then transfers them to this width; 0: off.
    Wider is meant as more heads; where heads grow instead, set `attention.scale` to √tuned size / size, μP's 1/d."""
    positions: PositionConfig = field(default_factory=PositionConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    latent: LatentConfig = field(default_factory=LatentConfig)
    experts: ExpertConfig = field(default_factory=ExpertConfig)

    def __post_init__(self) -> None:
        if self.preset:
            raise UsageError("model.preset is for recipes and the command line; in Python use groundup.model.preset()")
        _check_kinds(self, "model")
        _check_ranges(self)
        if self.depth and self.layers and self.depth != self.layers:
            raise UsageError(f"model.depth {self.depth} and model.layers {self.layers} disagree; give one of them")
        resolved = self.resolved()
        if resolved is self:
            _check_shape(self)

    def resolved(self) -> "ModelConfig":
        """With every value that was left at 0 derived from the others."""
        layers = self.layers or self.depth or 6
        width = self.width or (self.heads * self.head_size)
        width = width or _round_up(self.aspect * layers, self.heads or self.head_size or 64)
        heads = self.heads or (max(1, width // self.head_size) if self.head_size else _heads_of(width))
        if not self.head_size and width % heads:
            raise UsageError(
                f"model.width {width} cannot be split into {heads} heads; "
                f"choose model.width as a multiple of {heads}, or model.head-size"
            )
        head_size = self.head_size or width // heads
        gated = FEED_FORWARDS[self.feed_forward][1]
        latent, positions = self.latent, self.positions
        if latent.key_rank:
            latent = replace(
                latent,
                rotary_size=latent.rotary_size or max(2, head_size // 4 * 2),
                value_size=latent.value_size or head_size,
            )
        if positions.scaling != "none":
            positions = replace(
                positions,
                original_context=positions.original_context or max(1, int(self.context / positions.factor)),
            )
        hidden = self.hidden or (_round_up(width * 8 // 3, 64) if gated else 4 * width)
        derived: dict[str, Any] = {
            "depth": 0,  # what it says is in the others now, and they may be changed one by one
            "layers": layers,
            "width": width,
            "heads": heads,
            "kv_heads": self.kv_heads or heads,
            "head_size": head_size,
            "hidden": hidden,
            "latent": latent,
            "positions": positions,
            "experts": replace(self.experts, hidden=self.experts.hidden or hidden)
            if self.experts.count
            else self.experts,
        }
        return (
            self if all(getattr(self, name) == value for name, value in derived.items()) else replace(self, **derived)
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """The inverse of :func:`dataclasses.asdict`.

        Raises:
            UsageError: a key that is none of ours, or a value that cannot be.
        """
        return _from_dict(cls, values, "model")

    @property
    def gated(self) -> bool:
        """The feed-forward layers have a gate."""
        return FEED_FORWARDS[self.feed_forward][1]

    @property
    def norm_bias(self) -> bool:
        """The norms have a bias."""
        return self.norm == "layer" and self.bias == "all"

    def windowed(self, layer: int) -> bool:
        """Whether ``layer`` sees only the window."""
        return bool(self.attention.window) and self.attention.pattern[layer % len(self.attention.pattern)] == "L"

    def routed(self, layer: int) -> bool:
        """Whether ``layer`` has experts."""
        return bool(self.experts.count) and layer >= self.experts.dense_layers

    def has_value_embedding(self, layer: int) -> bool:
        """Whether ``layer`` adds a vector of the token to its values: every second one, the last among them."""
        return self.value_embeddings and (self.layers - 1 - layer) % 2 == 0

    @property
    def rotary_size(self) -> int:
        """Dimensions of a head that rotary positions turn."""
        if self.positions.kind != "rotary":
            return 0
        return (
            self.latent.rotary_size if self.latent.key_rank else 2 * int(self.head_size * self.positions.fraction / 2)
        )

    @property
    def attention_scale(self) -> float:
        """Factor of query · key."""
        if self.attention.scale:
            return self.attention.scale
        size = self.head_size + (self.latent.rotary_size if self.latent.key_rank else 0)
        return size**-0.5

    @property
    def logits_scale(self) -> float:
        """Factor of the logits: μP's, 1 without it."""
        return self.mup_width / self.width if self.mup_width else 1.0


def _heads_of(width: int) -> int:
    """The number of heads that splits the width into even sizes nearest to 64; 1 where none does."""
    sizes = [size for size in range(2, width + 1, 2) if width % size == 0]
    return width // min(sizes, key=lambda size: abs(size - 64)) if sizes else 1


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _from_dict(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    known = {item.name: item for item in fields(kind)}
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} is {values!r}; it must be a table of {', '.join(known)}")
    if unknown := sorted(values.keys() - known.keys()):
        raise UsageError(f"{where} has no {', '.join(unknown)}; it has {', '.join(known)}")
    return kind(
        **{
            name: _from_dict(known[name].type, value, f"{where}.{name}") if is_dataclass(known[name].type) else value
            for name, value in values.items()
        }
    )


def _check_kinds(section: Any, where: str) -> None:
    """Each value is of its field's kind."""
    for item in fields(section):
        value, kind, name = getattr(section, item.name), item.type, f"{where}.{item.name.replace('_', '-')}"
        if is_dataclass(kind):
            _check_kinds(value, name)
            continue
        choices = get_args(kind)
        expected = f"one of {', '.join(choices)}" if choices else _KINDS[kind][1]
        fits = value in choices if choices else isinstance(value, _KINDS[kind][0])
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise UsageError(f"{name} is {value!r}; it must be {expected}")


#: Kind of a field → what its values are instances of, and what that is called.
_KINDS: Mapping[Any, tuple[type, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "true or false"),
    str: (str, "text"),
}


def _check_ranges(config: ModelConfig) -> None:
    """Each value alone."""

    def least(section: Any, prefix: str, **bounds: float) -> None:
        for name, bound in bounds.items():
            if not getattr(section, name) >= bound:
                value = f"{getattr(section, name):g}"
                raise UsageError(f"{prefix}{name.replace('_', '-')} is {value}; it must be at least {bound:g}")

    zero_or_more = dict.fromkeys(("layers", "width", "heads", "kv_heads", "hidden", "depth", "head_size"), 0)
    least(config, "model.", **zero_or_more, context=1, aspect=1, dropout=0, logits_softcap=0, mup_width=0)
    least(config, "model.", ngrams=0, ngram_rows=2)
    least(config.positions, "model.positions.", local_base=0, factor=1, original_context=0, magnitude=0)
    least(config.attention, "model.attention.", window=0, softcap=0, scale=0, dropout=0)
    least(config.latent, "model.latent.", key_rank=0, query_rank=0, rotary_size=0, value_size=0)
    least(config.experts, "model.experts.", count=0, active=1, shared=0, hidden=0, dense_layers=0, groups=1)
    least(config.experts, "model.experts.", active_groups=1, balance=0, bias_rate=0)
    for name, share in (("", config.dropout), ("attention.", config.attention.dropout)):
        if share >= 1:
            raise UsageError(f"model.{name}dropout is {share}; it must be below 1")
    if not 0 < config.norm_epsilon < 1:
        raise UsageError(f"model.norm-epsilon is {config.norm_epsilon}; it must be above 0 and below 1")
    if not config.positions.base > 1:
        raise UsageError(f"model.positions.base is {config.positions.base}; it must be greater than 1")
    if not 0 < config.positions.fraction <= 1:
        raise UsageError(f"model.positions.fraction is {config.positions.fraction}; it must be above 0 and at most 1")
    if not config.attention.pattern or config.attention.pattern.strip("LG"):
        raise UsageError(
            f"model.attention.pattern is {config.attention.pattern!r}; it must be letters L (local) and G (global)"
        )


def _check_shape(config: ModelConfig) -> None:
    """The values together; ``config`` is resolved."""
    for wrong, message in _contradictions(config):
        if wrong:
            raise UsageError(message)


def _contradictions(config: ModelConfig) -> list[tuple[bool, str]]:
    positions, attention, latent, experts = config.positions, config.attention, config.latent, config.experts
    rotary, latents = positions.kind == "rotary", latent.key_rank > 0
    return [
        (
            not latents and rotary and config.rotary_size < 2,
            f"model.head-size {config.head_size} leaves rotary positions no pair of dimensions to turn; "
            "choose larger heads or a larger model.positions.fraction",
        ),
        (
            not latents and rotary and positions.fraction == 1 and config.head_size % 2 == 1,
            f"model.width {config.width} cannot be split into {config.heads} heads of an even size, as rotary "
            f"positions need; choose model.width as a multiple of {2 * config.heads}, or model.head-size",
        ),
        (
            config.heads % config.kv_heads != 0,
            f"model.kv-heads {config.kv_heads} does not divide model.heads {config.heads}; "
            f"choose one of {', '.join(str(n) for n in range(1, config.heads + 1) if config.heads % n == 0)}",
        ),
        (
            positions.scaling != "none" and not rotary,
            f"model.positions.scaling {positions.scaling} stretches rotary positions, "
            f"but model.positions.kind is {positions.kind}",
        ),
        (
            positions.fraction < 1 and not rotary,
            f"model.positions.fraction is of rotary positions, but model.positions.kind is {positions.kind}",
        ),
        (
            positions.local_base > 0 and not (rotary and attention.window),
            "model.positions.local-base is of windowed layers with rotary positions; "
            "set model.attention.window and model.positions.kind rotary, or leave it at 0",
        ),
        (0 < positions.local_base <= 1, f"model.positions.local-base is {positions.local_base}; it must be above 1"),
        (
            positions.factor > 1 and positions.scaling == "none",
            f"model.positions.factor {positions.factor:g} needs a model.positions.scaling: linear, ntk, yarn or llama3",
        ),
        (
            positions.scaling == "llama3" and positions.high_frequency <= positions.low_frequency,
            "model.positions.high-frequency must be greater than model.positions.low-frequency",
        ),
        (
            positions.scaling == "yarn" and positions.beta_fast <= positions.beta_slow,
            "model.positions.beta-fast must be greater than model.positions.beta-slow",
        ),
        (
            config.norm_offset and config.norm != "rms",
            "model.norm-offset is of RMSNorm; set model.norm rms or leave model.norm-offset off",
        ),
        (
            latents and (config.kv_heads != config.heads or config.qk_norm != "none" or config.key_smear),
            "latent attention has a key of its own for every head and no norm of queries and keys: "
            "leave model.kv-heads, and set model.qk-norm none and model.key-smear false",
        ),
        (
            latents and (config.bias != "none" or attention.sinks or config.value_embeddings),
            "latent attention has no biases, sinks or value embeddings; "
            "set model.bias none, model.attention.sinks false and model.value-embeddings false",
        ),
        (
            latents and (not rotary or positions.fraction < 1 or latent.rotary_size % 2 == 1),
            "latent attention carries positions in model.latent.rotary-size dimensions of each head: "
            "set model.positions.kind rotary, its fraction 1, and an even rotary-size",
        ),
        (
            not latents and (latent.query_rank or latent.rotary_size or latent.value_size) > 0,
            "model.latent.query-rank, rotary-size and value-size are of latent attention; set model.latent.key-rank",
        ),
        (
            experts.count > 0 and experts.active > experts.count,
            f"model.experts.active {experts.active} is more than the model.experts.count {experts.count}",
        ),
        (
            experts.count > 0 and experts.count % experts.groups != 0,
            f"model.experts.groups {experts.groups} does not divide model.experts.count {experts.count}",
        ),
        (
            experts.count > 0 and experts.active > experts.count // experts.groups * experts.active_groups,
            f"{experts.active_groups} groups of {experts.count // max(1, experts.groups)} experts hold fewer than the "
            f"{experts.active} that model.experts.active asks for",
        ),
        (
            experts.active_groups > experts.groups,
            f"model.experts.active-groups {experts.active_groups} is more than model.experts.groups {experts.groups}",
        ),
        (
            experts.count > 0 and experts.dense_layers >= config.layers,
            f"model.experts.dense-layers {experts.dense_layers} leaves none of {config.layers} layers with experts",
        ),
        (
            experts.count > 0 and config.bias == "all",
            "experts have no biases; set model.bias to none or qkv",
        ),
        (
            experts.bias_rate > 0 and experts.router != "sigmoid",
            "model.experts.bias-rate moves the bias of the sigmoid router; set model.experts.router sigmoid",
        ),
        (
            experts.count == 0 and experts.shared > 0,
            "model.experts.shared experts stand beside routed ones; set model.experts.count",
        ),
        (
            config.mup_width > 0 and config.tied,
            "μP needs an output head of its own, since it scales the head and not the embedding; set model.tied false",
        ),
        (
            config.mup_width > 0 and config.init != "zero",
            f"μP needs first weights that shrink with the width; set model.init zero instead of {config.init}",
        ),
    ]
