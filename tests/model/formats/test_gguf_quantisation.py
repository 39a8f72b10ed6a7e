"""Blocks of a few bits a weight, each made here by its layout and decoded."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from groundup.model.formats import quantisation
from groundup.model.formats.quantisation import BY_NUMBER, ENCODINGS, decode, encode


def half(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}e", *values)


def weights_of(name: str, block: bytes) -> list[float]:
    encoding = ENCODINGS[name]
    assert len(block) == encoding.bytes
    data = torch.frombuffer(bytearray(block), dtype=torch.uint8)
    return decode(data, encoding, (1, encoding.weights))[0].tolist()


LOW_HIGH = bytes(place | (15 - place) << 4 for place in range(16))
"""The four bits 0, 1, … 15, 15, … 1, 0."""
STEPS = [*range(16), *reversed(range(16))]


def test_32_weights_of_four_bits() -> None:
    assert weights_of("Q4_0", half(0.5) + LOW_HIGH) == [0.5 * (step - 8) for step in STEPS]
    assert weights_of("Q4_1", half(0.5, -3.0) + LOW_HIGH) == [0.5 * step - 3 for step in STEPS]


def test_32_weights_of_five_bits() -> None:
    fifth = struct.pack("<I", 0x80000005)  # of the weights 0, 2 and 31
    steps = [step + 16 * (place in (0, 2, 31)) for place, step in enumerate(STEPS)]
    assert weights_of("Q5_0", half(2.0) + fifth + LOW_HIGH) == [2.0 * (step - 16) for step in steps]
    assert weights_of("Q5_1", half(2.0, 1.0) + fifth + LOW_HIGH) == [2.0 * step + 1 for step in steps]


def test_32_weights_of_eight_bits() -> None:
    steps = [-128, 127, *range(-15, 15)]
    assert weights_of("Q8_0", half(0.25) + struct.pack("<32b", *steps)) == [0.25 * step for step in steps]


def test_256_weights_of_two_bits() -> None:
    scales = bytes(place | 1 << 4 for place in range(16))  # 0 … 15, and least weights of 1
    packed = bytes([0b11100100]) * 64  # 0, 1, 2, 3 for the four runs of 32
    expected = [place // 16 * 0.5 * (place // 32 % 4) - 0.25 for place in range(256)]
    assert weights_of("Q2_K", scales + packed + half(0.5, 0.25)) == expected


def test_256_weights_of_three_bits() -> None:
    low = bytes([0b11100100]) * 64
    third = bytes([0b01010101]) * 32  # set in every second run of 32
    scales = bytes(range(8)) + bytes([0b10101010]) * 4  # four low bits, and 2 << 4 = 32 for all
    expected = []
    for place in range(256):
        run, group = place // 32, place // 16
        scale = group if group < 8 else 0  # the high halves of the bytes are 0
        expected.append(0.5 * scale * (run % 4 + 4 * (run % 2 == 0) - 4))
    assert weights_of("Q3_K", third + low + scales + half(0.5)) == expected


def scales_and_least(scales: list[int], least: list[int]) -> bytes:
    """Eight numbers of six bits and eight more, packed into twelve bytes."""
    first = [scales[i] | (scales[i + 4] >> 4) << 6 for i in range(4)]
    second = [least[i] | (least[i + 4] >> 4) << 6 for i in range(4)]
    return bytes([*first, *second, *(scales[i + 4] & 15 | (least[i + 4] & 15) << 4 for i in range(4))])


SCALES, LEAST = [1, 22, 43, 63, 5, 26, 47, 60], [9, 30, 51, 0, 13, 34, 55, 62]


@pytest.mark.parametrize("name", ["Q4_K", "Q5_K"])
def test_256_weights_of_four_and_five_bits(name: str) -> None:
    packed = bytes(place % 16 | (place % 7) << 4 for place in range(128))
    fifth = bytes([0b10010110]) * 32 if name == "Q5_K" else b""
    expected = []
    for place in range(256):
        run = place // 32
        byte = packed[run // 2 * 32 + place % 32]
        step = byte >> 4 if run % 2 else byte & 15
        step += 16 * (0b10010110 >> run & 1) if fifth else 0
        expected.append(0.5 * SCALES[run] * step - 0.25 * LEAST[run])
    assert weights_of(name, half(0.5, 0.25) + scales_and_least(SCALES, LEAST) + fifth + packed) == expected


def test_256_weights_of_six_bits() -> None:
    low = bytes(place % 16 | (place % 5) << 4 for place in range(128))
    upper = bytes([0b11100100]) * 64
    scales = list(range(-8, 8))
    expected = []
    for place in range(256):
        within = place % 128
        byte = low[place // 128 * 64 + within % 64]
        step = (byte & 15 if within < 64 else byte >> 4) + 16 * (within // 32)
        expected.append(0.5 * scales[place // 16] * (step - 32))
    assert weights_of("Q6_K", low + upper + struct.pack("<16b", *scales) + half(0.5)) == expected


def test_every_encoding_has_its_number() -> None:
    assert len(BY_NUMBER) == len(ENCODINGS) == 13
    assert all(encoding.weights in (1, 32, 256) for encoding in BY_NUMBER.values())


finite = st.floats(-60_000, 60_000, width=32)


@given(arrays.arrays(np.float32, (3, 64), elements=finite))
def test_eight_bits_are_as_near_as_they_can_be(weights: np.ndarray) -> None:
    """Within half a step of the block's own scale, and what is decoded is encoded to the same bytes."""
    encoding = ENCODINGS["Q8_0"]
    data = encode(torch.from_numpy(weights), encoding)
    decoded = decode(data, encoding, weights.shape).numpy()
    steps = np.abs(weights.reshape(3, 2, 32)).max(-1, keepdims=True) / 127
    lost = 127 * np.maximum(steps * 2.0**-11, 2.0**-25)  # by the scale in float16
    assert (np.abs(decoded - weights).reshape(3, 2, 32) <= 0.5001 * steps + lost).all()


def test_halves_are_rounded_away_from_zero() -> None:
    weights = torch.zeros(1, 32)
    weights[0, :5] = torch.tensor([127.0, 0.5, 1.5, -2.5, 0.49999997])
    assert decode(encode(weights, ENCODINGS["Q8_0"]), ENCODINGS["Q8_0"], (1, 32))[0, :5].tolist() == [127, 1, 2, -3, 0]


@given(arrays.arrays(np.float32, (2, 5), elements=finite), st.sampled_from(["F32", "F16", "BF16"]))
def test_plain_numbers_are_rounded_to_the_nearest(weights: np.ndarray, name: str) -> None:
    encoding = ENCODINGS[name]
    tensor = torch.from_numpy(weights)
    assert torch.equal(decode(encode(tensor, encoding), encoding, (2, 5)), tensor.to(encoding.kind))


def test_large_tensors_are_decoded_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding = ENCODINGS["Q8_0"]
    weights = torch.randn(7, 96, generator=torch.Generator().manual_seed(0))
    whole = encode(weights, encoding)
    decoded = decode(whole, encoding, weights.shape)
    monkeypatch.setattr(quantisation, "BLOCKS_AT_ONCE", 4)
    assert torch.equal(encode(weights, encoding), whole)
    assert torch.equal(decode(whole, encoding, weights.shape), decoded)
