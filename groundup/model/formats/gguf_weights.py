"""The weights of a GGUF file: memory-mapped, decoded one tensor at a time, and written one tensor at a time.

Enters: a path. Leaves: the header, and for each tensor a function that fetches it. Plain numbers are views of the map:
nothing is read until it is used, and nothing is copied. Tensors that overlap, or reach beyond the file, are refused
before any is touched.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from groundup.core.errors import DataError, UsageError
from groundup.core.files import atomic_file
from groundup.model.formats.quantisation import BY_NUMBER, ENCODINGS, Encoding, decode, encode
from groundup.tokenizer.formats.gguf_container import Header, TensorPlace, read_header, write_header

#: Tensors begin at multiples of so many bytes, unless the file says otherwise.
ALIGNMENT = 32
#: The encodings that are written.
WRITTEN = ("F32", "F16", "BF16", "Q8_0")

Fetch = Callable[[], Tensor]
#: A name and shape of a tensor that will be written.
Planned = tuple[str, tuple[int, ...]]


def read_weights(path: Path) -> tuple[Header, dict[str, Fetch]]:
    """The header of a file and its tensors, each fetched by calling it.

    Raises:
        DataError: the file is damaged, or one of its tensors has an encoding that we do not know.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        header = read_header(stream)
        size = path.stat().st_size
    places = _byte_ranges(header, size)
    mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)

    def fetch(tensor: TensorPlace) -> Tensor:
        return decode(mapped[slice(*places[tensor.name])], BY_NUMBER[tensor.type], tensor.shape)

    return header, {tensor.name: partial(fetch, tensor) for tensor in header.tensors}


def _byte_ranges(header: Header, size: int) -> dict[str, tuple[int, int]]:
    """Where each tensor begins and ends in a file of ``size`` bytes."""
    alignment = header.metadata.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 8 <= alignment <= 1 << 16 or alignment & (alignment - 1):
        raise DataError(f"it aligns tensors to {alignment!r:.40} bytes; powers of two from 8 to 65,536 are possible")
    start = _round_up(header.size, alignment)
    ranges = {}
    for tensor in header.tensors:
        name, encoding = repr(tensor.name), BY_NUMBER.get(tensor.type)
        if encoding is None:
            raise DataError(
                f"its tensor {name} has the encoding {tensor.type} of ggml; known are {', '.join(ENCODINGS)}"
            )
        if tensor.shape[-1] % encoding.weights:
            raise DataError(f"its tensor {name} has rows of {tensor.shape[-1]:,}, no whole blocks of {encoding.name}")
        if tensor.offset % alignment:
            raise DataError(f"its tensor {name} does not begin at a multiple of {alignment} bytes")
        begin = start + tensor.offset
        end = begin + encoding.size(tensor.shape)
        if end > size:
            raise DataError(f"its tensor {name} ends at byte {end:,} of {size:,}: it is truncated")
        ranges[tensor.name] = begin, end
    behind, last = 0, ""
    for (begin, end), tensor_name in sorted((place, name) for name, place in ranges.items()):
        if begin < behind:
            raise DataError(f"its tensors {last!r} and {tensor_name!r} overlap")
        behind, last = end, tensor_name
    return ranges


def write_weights(
    path: Path,
    metadata: Mapping[str, Any],
    planned: Iterable[Planned],
    tensors: Iterable[tuple[str, Tensor]],
    kind: str,
) -> None:
    """Write a file, whole or not at all; one tensor is held at a time.

    Args:
        path: the file.
        metadata: what stands before the weights.
        planned: name and shape of every tensor, in the order of ``tensors``.
        tensors: the weights.
        kind: one of ``WRITTEN``.

    Raises:
        UsageError: a weight is no finite number, or too large for the encoding.
        StorageError: the disk is full, or cannot be written.
    """
    places, end = [], 0
    for name, shape in planned:
        encoding = encoding_of(name, shape, kind)
        places.append(TensorPlace(name, shape, encoding.number, end))
        end = _round_up(end + encoding.size(shape), ALIGNMENT)
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        _write_padded(stream, write_header(metadata, places))
        for place, (name, tensor) in zip(places, tensors, strict=True):
            assert (name, tuple(tensor.shape)) == (place.name, place.shape)
            encoding = BY_NUMBER[place.type]
            data = encode(tensor, encoding)
            if not _is_finite(data, encoding):
                raise UsageError(
                    f"the weights of {name} are not finite numbers{'' if kind == 'F32' else f' in {encoding.name}'}; "
                    "write BF16 or F32, or train with a lower learning rate"
                )
            _write_padded(stream, data.numpy())


def encoding_of(name: str, shape: tuple[int, ...], kind: str) -> Encoding:
    """How llama.cpp wants a tensor in a file of ``kind``.

    Vectors, positions and routers are small and sensitive, and stay in float32. Rows that are no whole blocks stay in
    float16.
    """
    if len(shape) == 1 or name == "position_embd.weight" or name.endswith("ffn_gate_inp.weight"):
        return ENCODINGS["F32"]
    return ENCODINGS[kind if shape[-1] % ENCODINGS[kind].weights == 0 else "F16"]


def _is_finite(data: Tensor, encoding: Encoding) -> bool:
    """Whether all that was encoded are numbers; of Q8_0, the scales tell."""
    if encoding.decode is not None:
        data = data.view(-1, encoding.bytes)[:, :2].contiguous().view(torch.float16)
    else:
        data = data.view(encoding.kind)
    return bool(data.isfinite().all())


def _write_padded(stream: IO[bytes], data: Any) -> None:
    stream.write(data)
    stream.write(bytes(-len(data) % ALIGNMENT))


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step
