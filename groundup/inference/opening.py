"""``open_model``: a model ready to use, whatever holds it.

Enters: a run directory, a checkpoint, a folder of Hugging Face, or a GGUF file. Leaves: the model, its tokenizer, its
chat template, and what begins and ends a text. Weights are mapped from the files: no second copy is in memory, unless
they are stored in a type that cannot be computed with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.core.errors import ArtifactError, DataError
from groundup.core.files import read_json
from groundup.model import Transformer
from groundup.model.formats.gguf import open_gguf
from groundup.model.formats.huggingface import CONFIG, open_huggingface
from groundup.tokenizer import ChatTemplate
from groundup.tokenizer.chat import JINJA_TEMPLATE, Template
from groundup.tokenizer.opening import open_tokenizer
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.templates import JinjaTemplate, open_template
from groundup.training.checkpoint import load_model, resolve_model

#: Computed in float32 whatever the other weights are, and kept as they are stored.
PRECISE = (".scale", "router.weight", "balancing_bias", "sinks")


@dataclass(frozen=True)
class OpenModel:
    """A model and all that it needs to read and write text."""

    model: Transformer
    """In evaluation mode, on the CPU."""
    tokenizer: Tokenizer
    begin: tuple[int, ...]
    """Ids that stand before every text."""
    end: frozenset[int]
    """Ids that end a text."""
    chat_template: str
    """Jinja source; empty: the model has none."""
    find_template: Callable[[], Template]
    """Makes :attr:`template`."""

    @property
    def template(self) -> Template:
        """The chat template.

        Raises:
            ArtifactError: the model has none, so that it can only continue text.
        """
        return self.find_template()

    def ids(self, text: str) -> list[int]:
        """The ids that the model reads for ``text``."""
        return [*self.begin, *self.tokenizer.encode(text)]


def open_model(path: str | Path, dtype: torch.dtype | None = None) -> OpenModel:
    """The model at ``path``: a run directory, a checkpoint, a Hugging Face folder, or a GGUF file.

    Args:
        path: where it is.
        dtype: of the weights; None: as they are stored, but float32 for half precision, in which a CPU cannot compute,
            and for quantised weights.

    Raises:
        ArtifactError: there is no model, or it is damaged, or none that we can compute.
    """
    path = Path(path)
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; give a run directory, a Hugging Face folder or a GGUF file")
    if path.is_file():
        return _of_gguf(path, dtype)
    return _of_folder(path, dtype) if (path / CONFIG).is_file() else _of_run(path, dtype)


def _of_run(path: Path, dtype: torch.dtype | None) -> OpenModel:
    model, tokenizer = load_model(resolve_model(path), mapped=True)
    document = tokenizer.special_tokens["<|document|>"]
    template = ChatTemplate(tokenizer)
    return OpenModel(
        model.to(dtype or torch.float32),
        tokenizer,
        (document,),
        frozenset({document}),
        JINJA_TEMPLATE,
        lambda: template,
    )


def _of_folder(path: Path, dtype: torch.dtype | None) -> OpenModel:
    config, vocab_size, weights = open_huggingface(path)
    tokenizer = open_tokenizer(path)
    _check_vocabulary(path, tokenizer, vocab_size)
    settings = _object(path / "tokenizer_config.json")
    ends = _object(path / "generation_config.json").get("eos_token_id", read_json(path / CONFIG).get("eos_token_id"))
    source = path / "chat_template.jinja"
    given = source.read_text(encoding="utf-8") if source.is_file() else settings.get("chat_template", "")
    return OpenModel(
        Transformer.from_weights(config, vocab_size, _computable(weights, dtype)),
        tokenizer,
        _begin(path, tokenizer, settings),
        frozenset(end for end in (ends if isinstance(ends, list) else [ends]) if isinstance(end, int)),
        given if isinstance(given, str) else "",
        lambda: open_template(path, tokenizer),
    )


def _of_gguf(path: Path, dtype: torch.dtype | None) -> OpenModel:
    opened = open_gguf(path)
    tokenizer = open_tokenizer(path)
    _check_vocabulary(path, tokenizer, opened.vocab_size)
    marks = opened.marks

    def template() -> Template:
        if not opened.chat_template:
            raise ArtifactError(f"{path} has no chat template; use `groundup generate` to continue a text")
        names = {token_id: name for name, token_id in tokenizer.special_tokens.items()}
        tokens = {"bos_token": names.get(marks.begin or 0), "eos_token": names.get(marks.end or 0)}
        stop = [names[end] for end in (marks.end, marks.end_of_turn) if end in names]
        return JinjaTemplate(tokenizer, opened.chat_template, tokens, (), stop, f"the chat template of {path}")

    return OpenModel(
        Transformer.from_weights(opened.config, opened.vocab_size, _computable(opened.weights, dtype)),
        tokenizer,
        (marks.begin,) if marks.add_begin and marks.begin is not None else (),
        frozenset(end for end in (marks.end, marks.end_of_turn) if end is not None),
        opened.chat_template,
        template,
    )


def _computable(weights: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The weights in one type, the precise ones aside; nothing is copied that has it already."""
    stored = weights["embedding.weight"].dtype
    wanted = dtype or (torch.float32 if stored == torch.float16 else stored)
    return {
        name: tensor if name.endswith(PRECISE) and tensor.dtype == torch.float32 else tensor.to(wanted)
        for name, tensor in weights.items()
    }


def _check_vocabulary(path: Path, tokenizer: Tokenizer, vocab_size: int) -> None:
    """An embedding may have more rows than the tokenizer has ids (they are padded), but not fewer."""
    if tokenizer.vocab_size > vocab_size:
        raise ArtifactError(
            f"{path}: its tokenizer has {tokenizer.vocab_size:,} ids, its embedding only {vocab_size:,} rows; "
            "they do not belong together"
        )


def _begin(folder: Path, tokenizer: Tokenizer, settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Ids that the folder's tokenizer puts before every text: by its post-processor, or by its settings."""
    processor = _object(folder / "tokenizer.json").get("post_processor") or {}
    for step in processor.get("processors", [processor]):
        if step.get("type") == "TemplateProcessing":
            names = []
            for piece in step.get("single", []):
                if "Sequence" in piece:
                    break
                names.append(piece.get("SpecialToken", {}).get("id"))
            return tuple(tokenizer.special_tokens[name] for name in names if name in tokenizer.special_tokens)
    token = settings.get("bos_token")
    token = token.get("content") if isinstance(token, dict) else token
    wanted = settings.get("add_bos_token", False) and token in tokenizer.special_tokens
    return (tokenizer.special_tokens[token],) if wanted and isinstance(token, str) else ()


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty when there is no file."""
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} is damaged: no JSON object")
    return content
