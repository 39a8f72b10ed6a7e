"""Folders of Hugging Face: ``config.json``, safetensors and a tokenizer ↔ a model of ours.

Enters: a folder, of anybody. Leaves: a ``ModelConfig``, the size of the vocabulary and our state dictionary, mapped
from the files; or the other way, a folder that ``transformers``, vLLM and llama.cpp open as one of the architectures in
``families``. What a folder says that we cannot compute is refused by name, and so is what they cannot.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.core.files import atomic_folder, write_json
from groundup.model.config import ModelConfig
from groundup.model.formats.families import Family
from groundup.model.formats.huggingface_config import Found, read_config, write_config
from groundup.model.formats.huggingface_names import HEAD, NO_WEIGHTS, links
from groundup.model.formats.links import read_links, write_links
from groundup.model.formats.safetensors import MAX_SHARD_BYTES, Fetch, open_tensors, read_object, write_tensors
from groundup.model.transformer import Transformer
from groundup.tokenizer.formats import huggingface as tokenizer_json
from groundup.tokenizer.pretokenize import NAMED
from groundup.tokenizer.protocol import SPECIAL_TOKENS, Tokenizer

CONFIG = "config.json"
#: What special tokens may be to other tools, and what our own ones are.
ROLES = {"bos_token": "<|document|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
#: Without this special token ``transformers`` would add it to the vocabulary of a qwen2 model.
QWEN_END = "<|endoftext|>"


def open_huggingface(folder: Path) -> tuple[ModelConfig, int, dict[str, Tensor]]:
    """The model in a folder: its configuration, the size of its vocabulary and its weights by our names.

    The weights have the types that the files have, and are mapped from them unless their layout is another.

    Raises:
        ArtifactError: the folder is incomplete or damaged, or a model that ours cannot compute; the message says why.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ArtifactError(f"{folder} has no {CONFIG}; give the folder of a model of Hugging Face")
    try:
        found = read_config(read_object(path))
    except DataError as error:
        raise ArtifactError(f"{path} cannot be used: {error}") from error
    weights = _read_weights(folder, found)
    try:
        Transformer.from_weights(found.config, found.vocab_size, weights)
    except (ArtifactError, RuntimeError) as error:
        reason = error if isinstance(error, ArtifactError) else "its sizes are absurd"
        raise ArtifactError(f"{folder} is damaged, or not the model that its {CONFIG} says: {reason}") from error
    return found.config, found.vocab_size, weights


def write_huggingface(
    folder: Path,
    config: ModelConfig,
    vocab_size: int,
    state: Mapping[str, Tensor],
    tokenizer: Tokenizer | None = None,
    chat_template: str = "",
    *,
    roles: Mapping[str, str] | None = None,
    add_begin: bool = True,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a model as a folder that ``from_pretrained`` opens; the folder appears whole or not at all.

    Args:
        folder: must not exist yet.
        config: the model's.
        vocab_size: rows of its embedding.
        state: its state dictionary.
        tokenizer: with it the folder suffices to turn text into text.
        chat_template: Jinja source.
        roles: ``bos_token``, ``eos_token``, ``pad_token`` → special token; None: those of our own special tokens.
        add_begin: ``bos_token`` stands before every text, if there is one.
        dtype: type of the written weights; None as they are.
        max_shard_bytes: a larger model is written in several files.

    Raises:
        UsageError: no architecture can say the configuration, the tokenizer has ids that the model has not, or
            ``folder`` exists.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists; choose another folder, or remove it")
    family, fields = write_config(config, vocab_size)
    roles = _roles(tokenizer, roles)
    ids = {
        f"{role}_id": tokenizer.special_tokens[roles[role]] if tokenizer and role in roles else None for role in ROLES
    }
    fields |= ids | {"torch_dtype": str(dtype or state["embedding.weight"].dtype).removeprefix("torch.")}
    with atomic_folder(folder) as temporary:
        write_json(temporary / CONFIG, fields)
        if tokenizer is not None:
            begin = roles.get("bos_token") if add_begin else None
            _write_tokenizer(temporary, tokenizer, vocab_size, family, begin)
            write_json(temporary / "tokenizer_config.json", _settings(config, roles, chat_template))
            write_json(temporary / "generation_config.json", _generation(ids, roles))
        named = write_links(links(family, config.resolved(), interleaved=True), state)
        write_tensors(temporary, _converted(named, dtype), max_shard_bytes)


def _read_weights(folder: Path, found: Found) -> dict[str, Tensor]:
    family, config = found.family, found.config
    tensors = _prefixed(open_tensors(folder), family.prefix)
    routed = sum(config.routed(layer) for layer in range(min(config.layers, len(tensors) + 1)))
    if config.layers + routed * config.experts.count > len(tensors):
        raise ArtifactError(f"{folder} has {len(tensors)} tensors, too few for what its {CONFIG} says; get it anew")
    beyond = tuple(
        f"{family.prefix}layers.{layer}." for layer in range(config.layers, config.layers + found.predicting_layers)
    )
    ignored = {name for name in tensors if NO_WEIGHTS.search(name) or name.startswith(beyond)}
    try:
        weights = read_links(links(family, config, found.interleaved), tensors, str(folder), {*ignored, HEAD})
    except (RuntimeError, IndexError) as error:  # what is cut or permuted is of another shape
        raise ArtifactError(f"{folder} holds tensors of other shapes than its {CONFIG} says; get it anew") from error
    if config.tied:
        if HEAD in tensors and not torch.equal(tensors[HEAD](), weights["embedding.weight"]):
            raise ArtifactError(
                f"{folder} has an embedding and a {HEAD} that differ, but its {CONFIG} says that they are one; "
                'set "tie_word_embeddings" to false there'
            )
        weights["head.weight"] = weights["embedding.weight"]
    return weights


def _prefixed(tensors: Mapping[str, Fetch], prefix: str) -> Mapping[str, Fetch]:
    """The tensors by their full names, which files of a model without its head lack."""
    if any(name.startswith(prefix) for name in tensors):
        return tensors
    return {name if name == HEAD else prefix + name: fetch for name, fetch in tensors.items()}


def _converted(tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors:
        # Balancing biases decide between scores that differ by less than a half-precision step.
        yield name, tensor if dtype is None or name.endswith("e_score_correction_bias") else tensor.to(dtype)


def _roles(tokenizer: Tokenizer | None, roles: Mapping[str, str] | None) -> Mapping[str, str]:
    special = tokenizer.special_tokens if tokenizer else {}
    if roles is None:
        return ROLES if special.keys() >= set(SPECIAL_TOKENS) else {}
    for role, token in roles.items():
        if role not in ROLES or token not in special:
            raise UsageError(
                f"{role} {token!r} is no role of a special token; give {', '.join(ROLES)} and their tokens"
            )
    return roles


def _settings(config: ModelConfig, roles: Mapping[str, str], chat_template: str) -> dict[str, Any]:
    """The content of ``tokenizer_config.json``."""
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config.context, **roles}
    settings |= {"clean_up_tokenization_spaces": False}
    return settings | ({"chat_template": chat_template} if chat_template else {})


def _generation(ids: Mapping[str, int | None], roles: Mapping[str, str]) -> dict[str, Any]:
    """The content of ``generation_config.json``. A document of ours also ends where the next one begins."""
    settings: dict[str, Any] = {name: token_id for name, token_id in ids.items() if token_id is not None}
    return settings | ({"eos_token_id": [ids["eos_token_id"], ids["bos_token_id"]]} if roles == ROLES else {})


def _write_tokenizer(folder: Path, tokenizer: Tokenizer, vocab_size: int, family: Family, begin: str | None) -> None:
    """``tokenizer.json``, if other tools would read it as we do; with it they put ``begin`` before every text."""
    if tokenizer.vocab_size > vocab_size:
        raise UsageError(
            f"the tokenizer has {tokenizer.vocab_size:,} ids, the model only {vocab_size:,}; "
            "export it with the tokenizer that it was trained with"
        )
    tokenizer.save(folder)
    path = folder / tokenizer_json.FILE_NAME
    if not path.is_file():
        raise UsageError(
            f"the tokenizer is none that {path.name} can say; export the model without it, and put its own files beside"
        )
    if begin is not None:
        write_json(path, {**read_object(path), "post_processor": _beginning(begin, tokenizer.special_tokens[begin])})
    if family.model_type == "qwen2" and not _cuts_like_qwen(read_object(path), tokenizer):
        raise UsageError(
            "transformers cuts text for every qwen2 model as Qwen's own tokenizer does, whatever tokenizer.json says, "
            "and this one cuts otherwise; set model.bias to none, which makes it another architecture"
        )


def _beginning(token: str, token_id: int) -> dict[str, Any]:
    """What the library ``tokenizers`` calls a post-processor: the token stands before a text, and between two."""
    mark = {"SpecialToken": {"id": token, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    special = {token: {"id": token, "ids": [token_id], "tokens": [token]}}
    return {
        "type": "TemplateProcessing",
        "single": [mark, first],
        "pair": [mark, first, mark, second],
        "special_tokens": special,
    }


def _cuts_like_qwen(content: Mapping[str, Any], tokenizer: Tokenizer) -> bool:
    steps = content["pre_tokenizer"]["pretokenizers"]
    splits = [step["pattern"].get("Regex") for step in steps if step["type"] == "Split"]
    return (
        content["normalizer"] == {"type": "NFC"} and splits == [NAMED["qwen2"]] and QWEN_END in tokenizer.special_tokens
    )
