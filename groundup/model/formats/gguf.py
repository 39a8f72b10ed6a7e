"""GGUF, the model files of llama.cpp ↔ our models.

Enters: a ``.gguf`` file. Leaves: the configuration and the weights under our names (``open_gguf``); and the way back,
with the tokenizer inside, so that one file is a whole model (``write_gguf``). The parts: ``gguf_metadata`` knows what
the metadata say of a model's shape, ``gguf_names`` what the tensors are called, ``gguf_weights`` where they lie, and
``quantisation`` how they are encoded.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.model.config import ModelConfig
from groundup.model.formats.gguf_metadata import ROPE_FACTORS, read_config, rope_factors_of
from groundup.model.formats.gguf_metadata_writing import write_config
from groundup.model.formats.gguf_names import links
from groundup.model.formats.gguf_weights import WRITTEN, Fetch, read_weights, write_weights
from groundup.model.formats.links import Link, read_links, same, write_links
from groundup.model.transformer import Transformer
from groundup.tokenizer.formats import gguf as tokenizer_reading
from groundup.tokenizer.formats import gguf_writing as tokenizer_writing
from groundup.tokenizer.formats.gguf import Marks
from groundup.tokenizer.protocol import Tokenizer

#: ``general.file_type`` of what we write.
_FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}


class Weights(Mapping[str, Tensor]):
    """Our state dictionary, each tensor fetched and decoded when it is asked for, and not kept."""

    def __init__(self, made_of: Iterable[Link], fetch: Mapping[str, Fetch]) -> None:
        self._links = {name: link for link in made_of for name in link.ours}
        self._fetch = fetch

    def __getitem__(self, name: str) -> Tensor:
        link = self._links[name]
        return link.read([self._fetch[theirs]() for theirs in link.theirs])[link.ours.index(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)


@dataclass(frozen=True)
class OpenedGGUF:
    """A model file. Its tokenizer is opened by ``groundup.tokenizer.opening.open_tokenizer``."""

    config: ModelConfig
    """Resolved."""
    vocab_size: int
    weights: Mapping[str, Tensor]
    """Our names → tensors, memory-mapped: see :class:`Weights`. A tied head is not among them."""
    marks: Marks
    """Which ids begin and end a text."""
    chat_template: str
    """Jinja source; empty: the file has none."""


def open_gguf(path: Path) -> OpenedGGUF:
    """The model in a GGUF file.

    Plain weights stay on the disk until they are used; quantised ones become float32 when they are asked for.

    Raises:
        ArtifactError: the file is missing, damaged, or a model that we do not have.
    """
    try:
        return _open(path)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}; choose another file") from error
    except (DataError, UsageError) as error:
        raise ArtifactError(f"{path} cannot be used as a model: {error}; get it anew, or use another") from error


def _open(path: Path) -> OpenedGGUF:
    if not path.is_file():
        raise DataError("there is no such file")
    header, fetch = read_weights(path)
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    architecture = header.metadata.get("general.architecture")
    with_factors = architecture == "llama" and ROPE_FACTORS in shapes
    config = read_config(header.metadata, shapes, fetch[ROPE_FACTORS]().float() if with_factors else None)
    if config.layers > len(shapes):
        raise DataError(f"it says that it has {config.layers:,} layers, but it has {len(shapes):,} tensors")
    vocab_size = shapes.get("token_embd.weight", (1,))[0]
    state = _blank(config, vocab_size)
    made_of = links(config, str(architecture), state, shapes)
    for name, tensor in write_links(made_of, state):
        if name in shapes and tuple(tensor.shape) != shapes[name]:
            raise DataError(f"its tensor {name} is {shapes[name]}, but its metadata ask for {tuple(tensor.shape)}")
    blank = {name: partial(torch.empty, shape, device="meta") for name, shape in shapes.items()}
    read_links(made_of, blank, str(path), ignored=[ROPE_FACTORS] if with_factors else [])
    return OpenedGGUF(
        config,
        vocab_size,
        Weights(made_of, fetch),
        tokenizer_reading.read_marks(header.metadata),
        tokenizer_reading.read_chat_template(header.metadata),
    )


def write_gguf(
    path: Path,
    config: ModelConfig,
    vocab_size: int,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    chat_template: str = "",
    *,
    kind: str = "F16",
    marks: Marks | None = None,
    name: str = "",
) -> list[str]:
    """Write a model with its tokenizer as one GGUF file, whole or not at all. One tensor at a time is converted.

    Args:
        path: the file.
        config: of the model.
        vocab_size: rows of its embedding; those beyond the tokenizer's become tokens that are not used.
        weights: the state dictionary, on any device and of any floating dtype; a tied head may be missing.
        tokenizer: the model's own.
        chat_template: Jinja source; empty: none.
        kind: F32, F16, BF16 or Q8_0; vectors, positions and routers stay in float32.
        marks: what begins and ends a text; only our own vocabularies say it themselves.
        name: of the model, for people.

    Returns:
        What llama.cpp will do otherwise, a sentence each; of our own models nothing.

    Raises:
        UsageError: llama.cpp has no such model or tokenizer, there is no such kind, or a weight is too large for it.
        ArtifactError: the weights are not those of the configuration.
        StorageError: the disk is full, or cannot be written.
    """
    if kind not in WRITTEN:
        raise UsageError(f"GGUF is not written as {kind!r}; choose one of {', '.join(WRITTEN)}")
    marks = marks or Marks.ours(tokenizer.special_tokens)
    if marks is None:
        raise UsageError("the tokenizer does not say which token ends a text; give its marks")
    config = config.resolved()
    state = _blank(config, vocab_size)
    _check_weights(state, weights)
    metadata = {
        **write_config(config, vocab_size),
        "general.file_type": _FILE_TYPES[kind],
        "general.quantization_version": 2,
        **({"general.name": name} if name else {}),
        **tokenizer_writing.write(tokenizer, vocab_size, marks, chat_template),
    }
    architecture = metadata["general.architecture"]
    made_of = links(config, architecture, state)
    extra: list[tuple[str, Tensor]] = []
    if config.tied and architecture == "olmo2":  # which always has a head of its own
        made_of.append(same("embedding.weight", "output.weight"))
    if config.positions.scaling == "llama3":
        extra.append((ROPE_FACTORS, rope_factors_of(config.rotary_size, config.positions)))
    planned = [(theirs, tuple(tensor.shape)) for theirs, tensor in (*extra, *write_links(made_of, state))]
    write_weights(path, metadata, planned, chain(extra, write_links(made_of, weights)), kind)
    return tokenizer_writing.differences(tokenizer)


def _blank(config: ModelConfig, vocab_size: int) -> dict[str, Tensor]:
    """The state dictionary of a model without its weights; a tied head is not among them.

    Raises:
        DataError: a tensor would have more elements than can be counted.
    """
    try:
        with torch.device("meta"):
            state = Transformer(config, vocab_size).state_dict()
    except RuntimeError as error:
        raise DataError("its metadata ask for tensors of impossible sizes") from error
    return {name: tensor for name, tensor in state.items() if name != "head.weight" or not config.tied}


def _check_weights(state: Mapping[str, Tensor], weights: Mapping[str, Any]) -> None:
    """Refuse weights that are not those of the configuration."""
    names = weights.keys() - ({"head.weight"} - state.keys())
    for name in sorted(state.keys() | names):
        if name not in state or name not in weights or state[name].shape != weights[name].shape:
            found = tuple(weights[name].shape) if name in weights else "missing"
            wanted = tuple(state[name].shape) if name in state else "none"
            raise ArtifactError(f"the weights do not fit the configuration: {name} is {found}, expected {wanted}")
