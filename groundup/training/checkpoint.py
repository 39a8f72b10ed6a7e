"""Checkpoints: a folder that alone suffices to resume, to sample or to evaluate.

    step-000400/
      model.safetensors        weights
      model.json               the model's configuration and vocabulary size
      optimizer.safetensors    the optimizers' tensors, named optimizer.parameter.key
      tokenizer.json           the tokenizer that the weights were trained with
      state.json               step, source position, the tokenizer's fingerprint, the hash of each file

Written to a temporary name and renamed: a checkpoint is whole or absent. Nothing is ever unpickled.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundup.core.errors import ArtifactError
from groundup.core.files import atomic_folder, read_json, sha256_of, storage_errors, write_json
from groundup.model import ModelConfig, Transformer
from groundup.tokenizer import BytePairTokenizer
from groundup.tokenizer import load as load_tokenizer

PREFIX = "step-"
STATE = "state.json"
#: The stages of a run that leave a model, in order.
TRAINED_STAGES = ("pretrain", "sft", "dpo", "grpo")


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: its folder, its state, and the tensors when asked for."""

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps done when it was written."""
        return int(self.state["step"])

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of ``name`` (a .safetensors file of the folder)."""
        try:
            return load_file(self.folder / name)
        except (SafetensorError, OSError) as error:
            raise ArtifactError(f"{self.folder / name} is damaged ({error}); delete {self.folder}") from error


def save_checkpoint(
    parent: Path,
    step: int,
    model: Transformer,
    optimizers: Sequence[torch.optim.Optimizer],
    tokenizer: BytePairTokenizer,
    state: dict[str, Any],
) -> Path:
    """Write ``parent/step-NNNNNN`` atomically, then remove the older ones; return its path."""
    target = parent / f"{PREFIX}{step:06d}"
    if not target.exists():
        with atomic_folder(target) as folder:
            save_file(_weights(model), folder / "model.safetensors")
            write_json(folder / "model.json", {"config": asdict(model.config), "vocab_size": model.vocab_size})
            save_file(_optimizer_tensors(optimizers), folder / "optimizer.safetensors")
            tokenizer.save(folder)
            files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
            state = {"step": step, "tokenizer": tokenizer.fingerprint, **state, "files": files}
            write_json(folder / STATE, state)
    with storage_errors(parent):
        for old in _folders(parent):
            if old != target:
                shutil.rmtree(old)
    return target


def find_checkpoint(parent: Path) -> Checkpoint | None:
    """The newest checkpoint below ``parent``, verified; None if there is none."""
    folders = _folders(parent)
    return open_checkpoint(folders[-1]) if folders else None


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a checkpoint folder and verify every file against its recorded hash.

    Raises:
        ArtifactError: a file is missing, truncated or foreign; the message names it.
    """
    state = read_json(folder / STATE)
    if not isinstance(state, dict) or not {"step", "tokenizer", "files"} <= state.keys():
        raise ArtifactError(f"{folder / STATE} is not that of a checkpoint; restore it, or delete {folder}")
    for name, expected in state["files"].items():
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; restore it, or delete {folder} to train again")
        if sha256_of(path) != expected:
            raise ArtifactError(
                f"{path} is truncated or was changed (its hash is not the recorded one); "
                f"restore it, or delete {folder} to train again"
            )
    return Checkpoint(folder, state)


def load_model(folder: Path, mapped: bool = False) -> tuple[Transformer, BytePairTokenizer]:
    """The model, in evaluation mode on the CPU, and the tokenizer of a checkpoint folder.

    With ``mapped`` the weights stay in the file until they are used: for models that are not trained further.

    Raises:
        ArtifactError: the folder is no whole checkpoint, or its tokenizer is not the weights' own.
    """
    checkpoint = open_checkpoint(folder)
    tokenizer = load_tokenizer(folder)
    check_tokenizer(checkpoint, tokenizer)
    shape = read_json(folder / "model.json")
    weights = checkpoint.tensors("model.safetensors")
    if not mapped:
        weights = {name: tensor.clone() for name, tensor in weights.items()}
    return Transformer.from_weights(ModelConfig.from_dict(shape["config"]), shape["vocab_size"], weights), tokenizer


def resolve_model(path: Path) -> Path:
    """The checkpoint folder that ``path`` means: itself, a stage's newest, or that of a run's last trained stage.

    Raises:
        ArtifactError: there is none.
    """
    if (path / STATE).is_file():
        return path
    for folder in (path, *(path / stage for stage in reversed(TRAINED_STAGES))):
        is_stage = folder.parent == path
        if is_stage and not (folder / "manifest.json").is_file():
            continue
        if folders := _folders(folder / "checkpoints"):
            return folders[-1]
    raise ArtifactError(f"{path} holds no trained model; give the directory of a run or a checkpoint folder")


def check_tokenizer(checkpoint: Checkpoint, tokenizer: BytePairTokenizer) -> None:
    """Refuse a tokenizer whose ids mean something else than those the weights were trained on."""
    if checkpoint.state["tokenizer"] != tokenizer.fingerprint:
        raise ArtifactError(
            f"the checkpoint {checkpoint.folder} was trained with another tokenizer "
            f"({checkpoint.state['tokenizer'][:12]}, not {tokenizer.fingerprint[:12]}); use the tokenizer in its folder"
        )


def restore_weights(model: Transformer, checkpoint: Checkpoint) -> None:
    """Load the checkpoint's weights into ``model``."""
    weights = checkpoint.tensors("model.safetensors")
    if model.config.tied:
        weights["head.weight"] = weights["embedding.weight"]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtifactError(
            f"{checkpoint.folder / 'model.safetensors'} holds a model of another shape than the recipe's; "
            "use its own recipe or another --out"
        ) from error


def restore_optimizers(optimizers: Sequence[torch.optim.Optimizer], checkpoint: Checkpoint) -> None:
    """Load the checkpoint's optimizer tensors; rates and decays come from the configuration."""
    tensors = checkpoint.tensors("optimizer.safetensors")
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            index, parameter, key = name.split(".", 2)
            if int(index) == number:
                state.setdefault(int(parameter), {})[key] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _weights(model: Transformer) -> dict[str, Tensor]:
    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tied:
        del weights["head.weight"]
    return weights


def _optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    return {
        f"{number}.{parameter}.{key}": tensor
        for number, optimizer in enumerate(optimizers)
        for parameter, entries in optimizer.state_dict()["state"].items()
        for key, tensor in entries.items()
    }


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob(f"{PREFIX}*") if path.is_dir())
