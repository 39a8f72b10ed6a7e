"""Checkpoints: a folder that alone suffices to resume, to sample or to evaluate.

    step-000400/
      model.safetensors        weights
      average.safetensors      their running mean, where the recipe asks for one
      model.json               the model's configuration and vocabulary size
      optimizer.safetensors    the optimizers' tensors, named optimizer.parameter.key
      tokenizer.json           the tokenizer that the weights were trained with
      state.json               step, source position, the tokenizer's fingerprint, the hash of each file

Written to a temporary name and renamed: a checkpoint is whole or absent. One that the disk damaged later is set aside
for the one before it. Nothing is ever unpickled.
"""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundup.core.errors import ArtifactError
from groundup.core.files import atomic_folder, read_json, sha256_of, storage_errors, write_json
from groundup.core.progress import say
from groundup.distributed.sharding import Sharding, part_of, parts_of
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


@dataclass(frozen=True)
class Snapshot:
    """All that a checkpoint will hold, as it is at one moment."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    """By file name without ending, then by tensor name."""
    shape: dict[str, Any]
    """The model's configuration and the size of its vocabulary."""
    tokenizer: BytePairTokenizer
    state: dict[str, Any]
    own: bool = False
    """Whether the tensors are copies in the CPU's memory already."""

    @classmethod
    def of(
        cls,
        step: int,
        model: Transformer,
        optimizers: Sequence[torch.optim.Optimizer],
        tokenizer: BytePairTokenizer,
        state: dict[str, Any],
        average: dict[str, Tensor] | None = None,
    ) -> "Snapshot":
        """The present state; its tensors are those of the model and the optimizers, not copies."""
        tensors = {"model": _weights(model), "optimizer": _optimizer_tensors(optimizers)}
        if average is not None:
            tensors["average"] = average
        shape = {"config": asdict(model.config), "vocab_size": model.vocab_size}
        return cls(step, tensors, shape, tokenizer, state)

    def copied(self) -> "Snapshot":
        """With tensors of its own in the CPU's memory, which a training that goes on does not change."""
        if self.own:
            return self
        tensors = {
            name: {key: tensor.to("cpu", copy=True) for key, tensor in group.items()}
            for name, group in self.tensors.items()
        }
        return replace(self, tensors=tensors, own=True)

    def gathered(self, sharding: Sharding) -> "Snapshot":
        """With whole tensors, in the memory of the first process; the others have none. All processes call this."""
        return replace(self, tensors={name: sharding.whole(group) for name, group in self.tensors.items()}, own=True)

    def write(self, parent: Path) -> Path:
        """Write ``parent/step-NNNNNN`` atomically; return its path."""
        target = parent / folder_name(self.step)
        if target.exists():
            return target
        with atomic_folder(target) as folder:
            for name, tensors in self.tensors.items():
                save_file(tensors, folder / f"{name}.safetensors")
            write_json(folder / "model.json", self.shape)
            self.tokenizer.save(folder)
            files = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
            state = {"step": self.step, "tokenizer": self.tokenizer.fingerprint, **self.state, "files": files}
            write_json(folder / STATE, state)
        return target


def save_checkpoint(
    parent: Path,
    step: int,
    model: Transformer,
    optimizers: Sequence[torch.optim.Optimizer],
    tokenizer: BytePairTokenizer,
    state: dict[str, Any],
) -> Path:
    """Write ``parent/step-NNNNNN`` atomically, then remove the older ones; return its path."""
    target = Snapshot.of(step, model, optimizers, tokenizer, state).write(parent)
    prune(parent, {step})
    return target


def prune(parent: Path, keep: Collection[int]) -> None:
    """Remove the checkpoints of all steps but these."""
    with storage_errors(parent):
        for folder in checkpoints_in(parent):
            if step_of(folder) not in keep:
                shutil.rmtree(folder)


def checkpoints_in(parent: Path) -> list[Path]:
    """The checkpoint folders below ``parent``, by step."""
    folders = (path for path in parent.glob(f"{PREFIX}*") if path.is_dir() and path.name[len(PREFIX) :].isdigit())
    return sorted(folders, key=step_of)


def folder_name(step: int) -> str:
    """Of the checkpoint of a step."""
    return f"{PREFIX}{step:06d}"


def step_of(folder: Path) -> int:
    """The number in a checkpoint folder's name."""
    return int(folder.name.removeprefix(PREFIX))


def find_checkpoint(parent: Path) -> Checkpoint | None:
    """The newest whole checkpoint below ``parent``; None if there is no checkpoint.

    Newer ones that are damaged are set aside, if an older one is whole.

    Raises:
        ArtifactError: all are damaged; the message names what is wrong with the newest.
    """
    damaged: dict[Path, ArtifactError] = {}
    for folder in reversed(checkpoints_in(parent)):
        try:
            checkpoint = open_checkpoint(folder)
        except ArtifactError as error:
            damaged[folder] = error
            continue
        for path, reason in damaged.items():
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            say(f"warning: {reason}; going on from {folder.name}, the damaged one is kept as {aside.name}")
        return checkpoint
    if damaged:
        raise next(iter(damaged.values()))
    return None


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
    averaged = (folder / "average.safetensors").is_file()
    weights = checkpoint.tensors("model.safetensors")
    if averaged:  # buffers, such as the biases of routers, have no mean
        weights |= checkpoint.tensors("average.safetensors")
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
        if folders := checkpoints_in(folder / "checkpoints"):
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
        model.load_state_dict(parts_of(weights, model.state_dict()))
    except RuntimeError as error:
        raise ArtifactError(
            f"{checkpoint.folder / 'model.safetensors'} holds a model of another shape than the recipe's; "
            "use its own recipe or another --out"
        ) from error


def restore_optimizers(optimizers: Sequence[torch.optim.Optimizer], checkpoint: Checkpoint) -> None:
    """Load the checkpoint's optimizer tensors; rates and decays come from the configuration."""
    tensors = checkpoint.tensors("optimizer.safetensors")
    for number, optimizer in enumerate(optimizers):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            index, parameter, key = name.split(".", 2)
            if int(index) == number:
                state.setdefault(int(parameter), {})[key] = part_of(tensor, parameters[int(parameter)])
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
