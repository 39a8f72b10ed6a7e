"""Checkpoints: a folder that alone suffices to resume, to sample or to evaluate.

    step-000400/
      model.safetensors        weights
      average.safetensors      their running mean, where the recipe asks for one
      model.json               the model's configuration and vocabulary size
      optimizer.safetensors    the optimizers' tensors, named parameter.key
      tokenizer.json           the tokenizer that the weights were trained with
      state.json               step, source position, the tokenizer's fingerprint, the hash of each file

Where many processes share the weights, each writes what it has, and instead of the .safetensors above there are

      shard-00000.safetensors  pieces of all these tensors, of the first process …
      shards.json              of each tensor the dtype, the shape, and which piece is in which file

Either is read by any number of processes, however they share the weights.

Written to a temporary name and renamed: a checkpoint is whole or absent. One that the disk damaged later is set aside
for the one before it. Nothing is ever unpickled.
"""

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.core.errors import ArtifactError, StorageError
from groundup.core.files import atomic_file, atomic_folder, read_json, sha256_of, storage_errors, write_json
from groundup.core.progress import say
from groundup.core.world import ALONE, World, world
from groundup.distributed.sharding import Sharding
from groundup.distributed.shards import Entry, Stored, write_file
from groundup.model import ModelConfig, Transformer
from groundup.tokenizer import BytePairTokenizer
from groundup.tokenizer import load as load_tokenizer

PREFIX = "step-"
STATE = "state.json"
#: What lies in which file of a checkpoint of many processes.
INDEX = "shards.json"
#: Of the tensors.
GROUPS = ("model", "optimizer", "average")
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

    @property
    def sharded(self) -> bool:
        """Whether it lies there as many processes wrote it."""
        return INDEX in self.state.get("files", ())

    def stored(self, group: str) -> Stored:
        """The tensors of a group: model, optimizer, average; none, if it has no such group.

        Raises:
            ArtifactError: a file is damaged.
        """
        if self.sharded:
            return Stored.in_pieces(self.folder / INDEX, group)
        path = self.folder / file_of(group)
        return Stored.in_file(path) if group == "model" or path.is_file() else Stored({}, {}, {})

    def write_whole(self, folder: Path) -> dict[str, str]:
        """Write its tensors to ``folder`` as one process would have; the hashes of the files, by name.

        Of all tensors, one is in memory at a time.
        """
        hashes = {}
        for group in GROUPS:
            stored = self.stored(group)
            if stored.shapes or group != "average":
                with atomic_file(folder / file_of(group)) as temporary:
                    hashes[file_of(group)] = write_file(temporary, _entries(stored))
        return hashes


@dataclass(frozen=True)
class Given(Checkpoint):
    """A state that was never on a disk: another process gave it."""

    tensors: Mapping[str, Mapping[str, Tensor]]

    def stored(self, group: str) -> Stored:
        """Its tensors of a group."""
        return Stored.in_memory(self.tensors.get(group, {}))


def file_of(group: str) -> str:
    """Where the whole tensors of a group are."""
    return f"{group}.safetensors"


def _entries(stored: Stored) -> Iterator[Entry]:
    for name, shape in stored.shapes.items():
        yield Entry(name, stored.dtypes[name], shape, partial(stored.read, name))


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
    ) -> "Snapshot":
        """The present state; its tensors are those of the model and the optimizers, not copies."""
        return cls(step, tensors_of(model, optimizers), shape_of(model), tokenizer, state)

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
            files = {}
            for group, tensors in self.tensors.items():
                entries = (Entry.of(name, tensor) for name, tensor in tensors.items())
                files[file_of(group)] = write_file(folder / file_of(group), entries)
            self.describe(folder, files)
        return target

    def describe(self, folder: Path, files: Mapping[str, str]) -> None:
        """Write what is no tensor, and the state, which has the hash of each file; those of ``files`` are known."""
        write_json(folder / "model.json", self.shape)
        self.tokenizer.save(folder)
        others = {path.name for path in folder.iterdir()} - files.keys()
        hashes = {**files, **{name: sha256_of(folder / name) for name in others}}
        state = {"step": self.step, "tokenizer": self.tokenizer.fingerprint, **self.state}
        write_json(folder / STATE, {**state, "files": dict(sorted(hashes.items()))})


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


def find_checkpoint(parent: Path, here: World = ALONE) -> Checkpoint | None:
    """The newest whole checkpoint below ``parent``; None if there is no checkpoint.

    Newer ones that are damaged are set aside, if an older one is whole. Several processes find it together.

    Raises:
        ArtifactError: all are damaged; the message names what is wrong with the newest.
    """
    damaged: list[tuple[str, ArtifactError]] = []
    for name in here.first(lambda: [folder.name for folder in reversed(checkpoints_in(parent))]):
        try:
            checkpoint = open_checkpoint(parent / name, here)
        except ArtifactError as error:
            damaged.append((name, error))
            continue
        if here.leads:
            for name_, reason in damaged:
                aside = parent / f"damaged-{name_}"
                shutil.rmtree(aside, ignore_errors=True)
                (parent / name_).rename(aside)
                say(f"warning: {reason}; going on from {name}, the damaged one is kept as {aside.name}")
        return checkpoint
    if damaged:
        raise damaged[0][1]
    return None


def open_checkpoint(folder: Path, here: World = ALONE) -> Checkpoint:
    """Open a checkpoint folder and verify every file against its recorded hash; several processes share the files.

    Raises:
        ArtifactError: a file is missing, truncated or foreign; the message names it.
    """
    state, wrong = here.first(lambda: _state_of(folder))
    if not wrong:
        mine = list(state["files"].items())[here.rank :: here.size]
        found = next((told for name, expected in mine if (told := _wrong_with(folder / name, expected))), "")
        wrong = next(filter(None, here.gathered(found, patiently=True)), "")
    if wrong:
        raise ArtifactError(wrong)
    return Checkpoint(folder, state)


def _state_of(folder: Path) -> tuple[dict[str, Any], str]:
    """What the folder says of itself, and what is wrong with that."""
    try:
        state = read_json(folder / STATE)
    except ArtifactError as error:
        return {}, str(error)
    if not isinstance(state, dict) or not {"step", "tokenizer", "files"} <= state.keys():
        return {}, f"{folder / STATE} is not that of a checkpoint; restore it, or delete {folder}"
    return state, ""


def _wrong_with(path: Path, expected: str) -> str:
    """What is wrong with a file of a checkpoint; nothing, if it has the hash that it had."""
    if not path.is_file():
        return f"{path} is missing; restore it, or delete {path.parent} to train again"
    if sha256_of(path) != expected:
        return (
            f"{path} is truncated or was changed (its hash is not the recorded one); "
            f"restore it, or delete {path.parent} to train again"
        )
    return ""


def make_whole(checkpoint: Checkpoint) -> None:
    """Turn a checkpoint that many processes wrote into one as of one process, in its place.

    Killed at any instant it is the one or the other: it is what its ``state.json`` says, which is replaced in one step.

    Raises:
        ArtifactError: a file of it is damaged.
        StorageError: the disk has no room for both at once; then it stays as it was.
    """
    folder = checkpoint.folder
    if checkpoint.sharded:
        try:
            files = checkpoint.write_whole(folder)
            files |= {name: told for name, told in checkpoint.state["files"].items() if not _is_shard(name)}
            write_json(folder / STATE, {**checkpoint.state, "files": dict(sorted(files.items()))})
        except StorageError:
            for group in GROUPS:
                (folder / file_of(group)).unlink(missing_ok=True)
            raise
    for path in folder.iterdir():
        if _is_shard(path.name):
            path.unlink()


def copy_whole(folder: Path, target: Path) -> None:
    """Write a checkpoint to the folder ``target`` as of one process, whoever wrote it.

    Raises:
        ArtifactError: the folder is no whole checkpoint.
        StorageError: the target cannot be written.
    """
    checkpoint = open_checkpoint(folder)
    with atomic_folder(target) as temporary:
        files = checkpoint.write_whole(temporary)
        for name, told in checkpoint.state["files"].items():
            if not _is_shard(name) and name not in files:
                shutil.copyfile(folder / name, temporary / name)
                files[name] = told
        write_json(temporary / STATE, {**checkpoint.state, "files": dict(sorted(files.items()))})


def _is_shard(name: str) -> bool:
    return name == INDEX or (name.startswith("shard-") and name.endswith(".safetensors"))


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
    weights: dict[str, Tensor] = {}
    for group in ("model", "average"):  # buffers, such as the biases of routers, have no mean
        stored = checkpoint.stored(group)
        weights |= {name: stored.read(name) for name in stored.shapes}
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


def stored_weights(checkpoint: Checkpoint, shapes: Mapping[str, Sequence[int]]) -> Stored:
    """What a checkpoint has of the weights, for a model whose tensors, of all processes together, have these shapes.

    Raises:
        ArtifactError: it has others.
    """
    stored = checkpoint.stored("model")
    held = {name for names in world().gathered(sorted(shapes)) for name in names}
    if held != stored.shapes.keys() or any(tuple(shape) != stored.shapes[name] for name, shape in shapes.items()):
        raise ArtifactError(
            f"{checkpoint.folder / (INDEX if checkpoint.sharded else file_of('model'))} holds a model of another shape "
            "than the recipe's; use its own recipe or another --out"
        )
    return stored


def restore_weights(model: Transformer, checkpoint: Checkpoint) -> None:
    """Load the checkpoint's weights into ``model``; of one that is divided, each process reads its own part."""
    own = _weights(model)
    stored = stored_weights(checkpoint, {name: tensor.shape for name, tensor in own.items()})
    with torch.no_grad():
        for name, tensor in own.items():
            stored.fill(name, tensor)


def restore_optimizers(model: Transformer, optimizers: Sequence[torch.optim.Optimizer], checkpoint: Checkpoint) -> None:
    """Load the checkpoint's optimizer tensors, each process its own part; rates and decays come from the configuration.

    Raises:
        ArtifactError: an earlier version wrote them by the numbers of parameters, which this plan divides.
    """
    stored = checkpoint.stored("optimizer")
    keys: dict[str, list[str]] = {}
    for name in stored.shapes:
        parameter, _, key = name.rpartition(".")
        keys.setdefault(parameter, []).append(key)
    numbered = any(parameter.replace(".", "").isdigit() for parameter in keys)  # optimizer.parameter, not names
    plan = world().parallel
    if numbered and (plan.pipeline > 1 or plan.expert > 1 or plan.zero):
        raise ArtifactError(
            f"{checkpoint.folder} is of an earlier version; continue it without --parallel.pipeline, --parallel.expert "
            "and --parallel.zero until it is saved again"
        )
    names = _names(model)
    for which, optimizer in enumerate(optimizers):
        state = {}
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        for number, parameter in enumerate(parameters):
            known = f"{which}.{number}" if numbered else names[parameter]
            state[number] = {key: stored.part(f"{known}.{key}", parameter) for key in keys.get(known, ())}
        state = {number: tensors for number, tensors in state.items() if tensors}
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def shape_of(model: Transformer) -> dict[str, Any]:
    """What makes a model of the same shape."""
    return {"config": asdict(model.config), "vocab_size": model.vocab_size}


def tensors_of(model: Transformer, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, dict[str, Tensor]]:
    """Those of a checkpoint: the very ones of model and optimizers, not copies."""
    return {"model": _weights(model), "optimizer": _optimizer_tensors(model, optimizers)}


def _weights(model: Transformer) -> dict[str, Tensor]:
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if model.config.tied:
        weights.pop("head.weight", None)
    return weights


def _names(model: Transformer) -> dict[Tensor, str]:
    """Of the parameters."""
    return {parameter: name for name, parameter in model.named_parameters()}


def _optimizer_tensors(model: Transformer, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    names = _names(model)
    return {
        f"{names[parameter]}.{key}": tensor
        for optimizer in optimizers
        for parameter, entries in optimizer.state.items()
        for key, tensor in entries.items()
    }
