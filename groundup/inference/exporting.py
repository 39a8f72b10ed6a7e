"""``groundup export``: a model that was opened → a folder of Hugging Face or a GGUF file, with its tokenizer inside; or
a checkpoint that many processes wrote → one as of one process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from groundup.core.errors import UsageError
from groundup.core.progress import say
from groundup.inference.opening import OpenModel, open_model
from groundup.model.formats.gguf import write_gguf
from groundup.model.formats.huggingface import write_huggingface
from groundup.tokenizer.formats.gguf import Marks
from groundup.tokenizer.protocol import SPECIAL_TOKENS
from groundup.training.checkpoint import copy_whole, resolve_model

Kind = Literal["F32", "F16", "BF16", "Q8_0"]
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class ExportOptions:
    """Write a model so that other tools run it."""

    to: Literal["hf", "gguf", "checkpoint"] = "hf"
    """hf: a folder for transformers, vLLM and others; gguf: a file for llama.cpp, Ollama and others; checkpoint: one of
    ours with whole tensors, whoever wrote it, optimizer's state included."""
    out: Path | None = None
    """The folder, or the file; by default export/hf, export/model.gguf or export/checkpoint in the run directory."""
    type: Kind | None = None
    """Of the written weights: F32, F16, BF16, and for gguf Q8_0. Default: as they are for hf, F16 for gguf."""

    def __post_init__(self) -> None:
        if self.to == "checkpoint" and self.type is not None:
            raise UsageError("--type is not for --to checkpoint, which keeps every number as it is")
        if self.to == "hf" and self.type == "Q8_0":
            raise UsageError("--type Q8_0 is of GGUF files; use --to gguf, or F32, F16 or BF16")


def export(path: Path, options: ExportOptions) -> Path:
    """Write the model at ``path`` as ``options`` say; returns where it is.

    Raises:
        UsageError: the other format has no such model, or the place is taken.
        ArtifactError: there is no model at ``path``.
    """
    out = options.out or _beside(path, options.to)
    if out.exists():
        raise UsageError(f"{out} exists; choose another --out, or remove it")
    if options.to == "checkpoint":
        copy_whole(resolve_model(path), out)
        return out
    opened = open_model(path)
    model = opened.model
    parts = (model.config, model.vocab_size, model.state_dict(), opened.tokenizer, opened.chat_template)
    if options.to == "hf":
        dtype = DTYPES[options.type] if options.type else None
        write_huggingface(out, *parts, roles=_roles(opened), add_begin=bool(opened.begin), dtype=dtype)
    else:
        name = path.resolve().name
        notes = write_gguf(out, *parts, kind=options.type or "F16", marks=_marks(opened), name=name)
        for note in notes:
            say(f"note: {note}")
    return out


def _beside(path: Path, to: str) -> Path:
    """Where a run keeps its exports; what is no run keeps nothing."""
    if not (path / "recipe.toml").is_file():
        raise UsageError(f"{path} is not a run directory; say with --out where to write")
    return path / "export" / ("model.gguf" if to == "gguf" else to)


def _is_ours(opened: OpenModel) -> bool:
    return opened.tokenizer.special_tokens.keys() >= set(SPECIAL_TOKENS)


def _roles(opened: OpenModel) -> dict[str, str] | None:
    """Special tokens that begin and end a text; None: those that our own tokenizers always have."""
    if _is_ours(opened):
        return None
    names = {token_id: name for name, token_id in opened.tokenizer.special_tokens.items()}
    ids = {"bos_token": opened.begin[:1], "eos_token": sorted(opened.end)[:1]}
    return {role: names[found[0]] for role, found in ids.items() if found and found[0] in names}


def _marks(opened: OpenModel) -> Marks | None:
    """The same for GGUF."""
    if _is_ours(opened):
        return None
    end = sorted(opened.end)
    begin = opened.begin[0] if opened.begin else None
    return Marks(begin, end[0] if end else None, end[1] if len(end) > 1 else None, add_begin=begin is not None)
