"""How GGUF files encode weights: plain numbers, and blocks of a few bits a weight with a scale for each block.

Enters: the bytes of a tensor. Leaves: its weights; and the way back for the encodings that are written. A row is cut
into blocks of 32 weights, or with the names in -K of 256; a block never spans two rows. Each function below decodes
blocks [n, bytes of one] into weights [n, weights of one] in float32, rounding where ggml's reference rounds, so that
both give the same bits. "Low and high" are the two halves of each byte: the low four bits are weights of the first half
of a run, the high ones of its second half.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: So many blocks are decoded at a time, to bound what is held beside the result.
BLOCKS_AT_ONCE = 1 << 16


def _half(blocks: Tensor, start: int) -> Tensor:
    """A float16 of each block [n, 1]."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _low_high(packed: Tensor) -> Tensor:
    """Bytes [..., n] → their low halves, then their high halves [..., 2n]."""
    return torch.cat((packed & 15, packed >> 4), dim=-1)


def _bits(packed: Tensor, width: int) -> Tensor:
    """Bytes [..., n] → their fields of ``width`` bits, lowest first, [..., 8 / width, n]."""
    shifts = torch.arange(0, 8, width, dtype=torch.uint8)[:, None]
    return (packed[..., None, :] >> shifts) & ((1 << width) - 1)


def _q4_0(blocks: Tensor) -> Tensor:
    """scale: float16 | 32 × 4 bits, low and high. w = scale · (q - 8)."""
    return _half(blocks, 0) * (_low_high(blocks[:, 2:]).float() - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    """scale, least: float16 | 32 × 4 bits, low and high. w = scale · q + least."""
    return _half(blocks, 0) * _low_high(blocks[:, 4:]).float() + _half(blocks, 2)


def _five_bits(fifth: Tensor, packed: Tensor) -> Tensor:
    """Four bytes with the fifth bit of each of 32 weights, and the other four bits, low and high."""
    return _low_high(packed) | _bits(fifth, 1).transpose(-1, -2).flatten(-2) << 4


def _q5_0(blocks: Tensor) -> Tensor:
    """scale: float16 | 32 × the fifth bit | 32 × 4 bits, low and high. w = scale · (q - 16)."""
    return _half(blocks, 0) * (_five_bits(blocks[:, 2:6], blocks[:, 6:]).float() - 16)


def _q5_1(blocks: Tensor) -> Tensor:
    """scale, least: float16 | 32 × the fifth bit | 32 × 4 bits, low and high. w = scale · q + least."""
    return _half(blocks, 0) * _five_bits(blocks[:, 4:8], blocks[:, 8:]).float() + _half(blocks, 2)


def _q8_0(blocks: Tensor) -> Tensor:
    """scale: float16 | 32 × int8. w = scale · q."""
    return _half(blocks, 0) * blocks[:, 2:].view(torch.int8).float()


def _q2_k(blocks: Tensor) -> Tensor:
    """16 × (4 bits of scale, 4 bits of least) | 256 × 2 bits | scale, least: float16.

    w = scale · s · q - least · l, with an s and an l for each 16 weights. 32 bytes hold 128 weights: their lowest two
    bits the first 32, and so on.
    """
    scales = _half(blocks, 80) * (blocks[:, :16] & 15).float()
    least = _half(blocks, 82) * (blocks[:, :16] >> 4).float()
    weights = _bits(blocks[:, 16:80].unflatten(1, (2, 32)), 2).reshape(-1, 16, 16).float()
    return (scales[..., None] * weights - least[..., None]).flatten(1)


def _q3_k(blocks: Tensor) -> Tensor:
    """256 × the third bit | 256 × 2 bits | 16 × 6 bits of scale | scale: float16.

    w = scale · (s - 32) · q, with an s for each 16 weights; q is -4 … 3, and its third bit is set where it is not
    negative. The low four bits of the 16 s are 8 bytes, low and high; their upper two are four bytes, lowest first.
    """
    packed = blocks[:, 96:108]
    s = _low_high(packed[:, :8]) | _bits(packed[:, 8:], 2).flatten(1) << 4
    scales = _half(blocks, 108) * (s.float() - 32)
    third = _bits(blocks[:, :32], 1).reshape(-1, 16, 16)
    low = _bits(blocks[:, 32:96].unflatten(1, (2, 32)), 2).reshape(-1, 16, 16)
    return (scales[..., None] * ((low | third << 2).float() - 4)).flatten(1)


def _scales_and_least(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and the least weight of each of 8 runs of 32 [n, 8, 1], as _q4_k and _q5_k store them.

    scale, least: float16 | 8 × 6 bits of scale, 8 × 6 bits of least. The first four of both are the low six bits of
    four bytes each; the other four of both share four bytes for their low four bits, and have their upper two bits in
    the upper bits of the first eight.
    """
    first, second, shared = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = torch.cat((first & 63, shared & 15 | first >> 6 << 4), dim=1)
    least = torch.cat((second & 63, shared >> 4 | second >> 6 << 4), dim=1)
    return (_half(blocks, 0) * scales.float())[..., None], (_half(blocks, 2) * least.float())[..., None]


def _q4_k(blocks: Tensor) -> Tensor:
    """Scales and least weights | 256 × 4 bits, in runs of 64 low and high. w = scale · s · q - least · l."""
    scales, least = _scales_and_least(blocks)
    weights = _low_high(blocks[:, 16:].unflatten(1, (4, 32))).reshape(-1, 8, 32).float()
    return (scales * weights - least).flatten(1)


def _q5_k(blocks: Tensor) -> Tensor:
    """As _q4_k, with 256 × the fifth bit before the others: the lowest bits of 32 bytes are of the first 32 weights."""
    scales, least = _scales_and_least(blocks)
    fifth = _bits(blocks[:, 16:48], 1)
    weights = _low_high(blocks[:, 48:].unflatten(1, (4, 32))).reshape(-1, 8, 32)
    return (scales * (weights | fifth << 4).float() - least).flatten(1)


def _q6_k(blocks: Tensor) -> Tensor:
    """256 × 4 bits | 256 × the upper two bits | 16 × int8 scale | scale: float16.

    w = scale · s · (q - 32), with an s for each 16 weights. Of each 128 weights 64 bytes have the low bits, low and
    high, and 32 bytes the upper ones, lowest first.
    """
    scales = _half(blocks, 208) * blocks[:, 192:208].view(torch.int8).float()
    low = _low_high(blocks[:, :128].unflatten(1, (2, 64))).reshape(-1, 16, 16)
    upper = _bits(blocks[:, 128:192].unflatten(1, (2, 32)), 2).reshape(-1, 16, 16)
    return (scales[..., None] * ((low | upper << 4).float() - 32)).flatten(1)


class Encoding(NamedTuple):
    """One of the ways in which weights are stored."""

    name: str
    number: int
    """Of ``ggml_type``."""
    weights: int
    """In a block; 1: plain numbers."""
    bytes: int
    """Of a block."""
    kind: torch.dtype
    """What plain numbers are, or what is decoded."""
    decode: Callable[[Tensor], Tensor] | None = None

    def size(self, shape: Sequence[int]) -> int:
        """Bytes of a tensor; its last dimension is a multiple of ``weights``."""
        count = 1
        for dimension in shape:
            count *= dimension
        return count // self.weights * self.bytes


_ALL = (
    Encoding("F32", 0, 1, 4, torch.float32),
    Encoding("F16", 1, 1, 2, torch.float16),
    Encoding("BF16", 30, 1, 2, torch.bfloat16),
    Encoding("Q4_0", 2, 32, 18, torch.float32, _q4_0),
    Encoding("Q4_1", 3, 32, 20, torch.float32, _q4_1),
    Encoding("Q5_0", 6, 32, 22, torch.float32, _q5_0),
    Encoding("Q5_1", 7, 32, 24, torch.float32, _q5_1),
    Encoding("Q8_0", 8, 32, 34, torch.float32, _q8_0),
    Encoding("Q2_K", 10, 256, 84, torch.float32, _q2_k),
    Encoding("Q3_K", 11, 256, 110, torch.float32, _q3_k),
    Encoding("Q4_K", 12, 256, 144, torch.float32, _q4_k),
    Encoding("Q5_K", 13, 256, 176, torch.float32, _q5_k),
    Encoding("Q6_K", 14, 256, 210, torch.float32, _q6_k),
)
ENCODINGS: Mapping[str, Encoding] = {encoding.name: encoding for encoding in _ALL}
BY_NUMBER: Mapping[int, Encoding] = {encoding.number: encoding for encoding in _ALL}


def decode(data: Tensor, encoding: Encoding, shape: Sequence[int]) -> Tensor:
    """The weights in ``data`` [bytes], uint8: a view of it where they are plain numbers, else float32."""
    if encoding.decode is None:
        return data.view(encoding.kind).view(*shape)
    weights = torch.empty(shape, dtype=encoding.kind)
    rows, blocks = weights.view(-1, encoding.weights), data.view(-1, encoding.bytes)
    for start in range(0, len(blocks), BLOCKS_AT_ONCE):
        rows[start : start + BLOCKS_AT_ONCE] = encoding.decode(blocks[start : start + BLOCKS_AT_ONCE])
    return weights


def encode(weights: Tensor, encoding: Encoding) -> Tensor:
    """The bytes [n], uint8, of ``weights``: plain numbers, or Q8_0."""
    weights = weights.detach().cpu()
    if encoding.decode is None:
        return weights.to(encoding.kind).contiguous().view(-1).view(torch.uint8)
    assert encoding.name == "Q8_0"
    rows = weights.reshape(-1, encoding.weights)
    parts = [_to_q8_0(rows[start : start + BLOCKS_AT_ONCE]) for start in range(0, len(rows), BLOCKS_AT_ONCE)]
    return torch.cat(parts).view(-1)


def _to_q8_0(rows: Tensor) -> Tensor:
    """Weights [n, 32] → blocks [n, 34]: the largest becomes ±127, the others are rounded, halves away from zero."""
    rows = rows.float()
    scales = rows.abs().amax(dim=1, keepdim=True) / 127
    scaled = rows * torch.where(scales == 0, 0.0, 1 / scales)
    whole = scaled.abs().floor()
    rounded = (whole + (scaled.abs() - whole >= 0.5)) * scaled.sign()
    return torch.cat((scales.half().view(torch.uint8), rounded.to(torch.int8).view(torch.uint8)), dim=1)
