"""The shape of a model, and the shapes that cannot be."""

from dataclasses import dataclass

from groundup.core.errors import UsageError


@dataclass(frozen=True)
class ModelConfig:
    """A Llama-style decoder (Touvron et al. 2023): RMSNorm, rotary positions, SwiGLU, grouped queries."""

    layers: int = 6
    """Number of transformer blocks."""
    width: int = 192
    """Size of the residual stream."""
    heads: int = 6
    """Number of query heads; must divide the width into even head sizes."""
    kv_heads: int = 6
    """Number of key/value heads; must divide `heads`. Fewer is grouped-query attention, 1 multi-query."""
    hidden: int = 512
    """Inner size of the SwiGLU feed-forward layer."""
    context: int = 256
    """Longest sequence in tokens, in training and in generation."""
    rope_base: float = 10_000.0
    """Base of the rotary frequencies."""
    qk_norm: bool = True
    """Normalise queries and keys per head before the dot product (Henry et al. 2020); steadies large learning rates."""
    key_smear: bool = False
    """Let each key also carry some of the key before it, a learned share per head (Elhage et al. 2022). Looking up what
    followed an earlier mention then takes one layer instead of two, which small models learn far sooner."""
    tied: bool = True
    """Share one matrix between the token embedding and the output head (Press & Wolf 2017)."""

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "kv_heads", "hidden", "context"):
            if getattr(self, name) < 1:
                raise UsageError(f"model.{name} is {getattr(self, name)}; it must be at least 1")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise UsageError(
                f"model.width {self.width} cannot be split into {self.heads} heads of an even size; "
                f"choose model.width as a multiple of {2 * self.heads}"
            )
        if self.heads % self.kv_heads:
            raise UsageError(
                f"model.kv-heads {self.kv_heads} does not divide model.heads {self.heads}; "
                f"choose one of {', '.join(str(n) for n in range(1, self.heads + 1) if self.heads % n == 0)}"
            )
        if self.rope_base <= 1:
            raise UsageError(f"model.rope-base is {self.rope_base}; it must be greater than 1")

    @property
    def head_size(self) -> int:
        """Size of one attention head."""
        return self.width // self.heads
