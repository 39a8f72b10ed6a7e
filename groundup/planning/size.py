"""Parameters of a model and the arithmetic that training it takes."""

from torch import nn


def count_parameters(model: nn.Module) -> int:
    """Number of weights; a shared matrix counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def training_flops(parameters: int, tokens: int, layers: int = 0, width: int = 0, context: int = 0) -> float:
    """Floating-point operations of training: 6 per parameter and token, and attention's own.

    Attention adds 12 · layers · width · context per token, halved for the causal half (Chowdhery et al. 2022,
    PaLM, appendix B; Kaplan et al. 2020 for the factor 6).
    """
    return tokens * (6.0 * parameters + 6.0 * layers * width * context)
