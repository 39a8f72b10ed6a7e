"""Sizes are those of ``xz -9e``, and the conditional one counts only what the train text does not tell."""

import lzma

import pytest

from groundup.core.errors import DataError
from groundup.core.seeding import numpy_rng
from groundup.evaluation.compression import conditional_xz


def noise(size: int, name: str) -> bytes:
    return numpy_rng(0, name).bytes(size)


def xz(data: bytes) -> int:
    return len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def test_sizes_are_those_of_xz() -> None:
    rng = numpy_rng(0, "passages")
    source = bytes(rng.integers(97, 101, 20_000).tolist())
    passages = [source[start:][:length] for start, length in rng.integers([0, 20], [19_000, 600], (400, 2)).tolist()]
    train, validation = b"".join(passages[:390]), b"".join(passages[390:]) + source[:500]
    size = conditional_xz(train, validation)
    assert size.raw == len(validation)
    assert size.alone == xz(validation)
    assert size.conditional == xz(train + validation) - xz(train)
    assert xz(train) != len(lzma.compress(train)), "this text cannot tell the preset from the default one"


def test_seen_text_is_nearly_free_and_noise_is_not() -> None:
    train = noise(100_000, "train")
    seen = conditional_xz(train, train[20_000:60_000])
    assert seen.bits_per_byte < 0.2 and seen.bits_per_byte_alone > 7.9
    unseen = conditional_xz(train, noise(40_000, "other"))
    assert unseen.bits_per_byte == pytest.approx(8, abs=0.05)


def test_json_says_the_same() -> None:
    size = conditional_xz(b"to be or not to be " * 9, b"to be, that is the question")
    assert size.to_json() == {
        "raw_bytes": 27,
        "alone_bytes": size.alone,
        "conditional_bytes": size.conditional,
        "bits_per_byte": 8 * size.conditional / 27,
        "bits_per_byte_alone": 8 * size.alone / 27,
    }


def test_without_a_train_text_only_the_container_is_saved() -> None:
    validation = noise(3_000, "alone")
    size = conditional_xz(b"", validation)
    assert size.alone - xz(b"") == size.conditional


def test_an_empty_validation_text_is_refused() -> None:
    with pytest.raises(DataError, match="validation text is empty"):
        conditional_xz(b"train", b"")
