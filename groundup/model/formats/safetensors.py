"""Folders of safetensors: ``model.safetensors``, or shards with ``model.safetensors.index.json``.

Enters: a folder that anybody may have written. Leaves: its tensors by name, each mapped from the disk when it is asked
for and never copied; or the other way, a folder of shards that other tools read. Nothing is ever unpickled.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from groundup.core.errors import ArtifactError, DataError
from groundup.core.files import write_json
from groundup.tokenizer.formats.content import member, parse_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
#: Files of weights that only unpickling could read.
PICKLES = ("pytorch_model*.bin*", "*.pth", "*.pt", "*.ckpt")
#: The types of numbers that weights may have.
DTYPES = ("F64", "F32", "F16", "BF16")
#: A shard is at most so large unless a single tensor is larger.
MAX_SHARD_BYTES = 5 * 10**9
#: Larger JSON files are refused.
MOST_JSON_BYTES = 1 << 26

Fetch = Callable[[], Tensor]


def open_tensors(folder: Path) -> dict[str, Fetch]:
    """The tensors in ``folder``: name → what returns it, mapped from the file.

    Raises:
        ArtifactError: there are none, a file is damaged, or the index and the shards disagree.
    """
    if (folder / SINGLE).is_file():
        return _tensors_of(folder / SINGLE)
    if not (folder / INDEX).is_file():
        raise ArtifactError(_absent(folder))
    listed = _weight_map(folder / INDEX)
    tensors: dict[str, Fetch] = {}
    for shard in sorted(set(listed.values())):
        if not (folder / shard).is_file():
            raise ArtifactError(f"{folder / INDEX} names {shard!r}, which is missing; get the folder anew")
        for name, fetch in _tensors_of(folder / shard).items():
            if listed.get(name) != shard:
                where = f"in {listed[name]!r}" if name in listed else "nowhere"
                raise ArtifactError(f"{folder / shard} holds {name}, which {INDEX} has {where}; get the folder anew")
            tensors[name] = fetch
    if missing := sorted(listed.keys() - tensors.keys()):
        raise ArtifactError(f"{folder / listed[missing[0]]} lacks {missing[0]}, which {INDEX} has there")
    return tensors


def write_tensors(folder: Path, tensors: Iterable[tuple[str, Tensor]], max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write named tensors as one file, or as shards with an index; at most one shard is in memory at a time.

    The caller makes the folder whole or absent (``atomic_folder``).
    """
    shards: list[tuple[Path, list[str]]] = []
    total = 0
    for number, shard in enumerate(_shards(tensors, max_shard_bytes), start=1):
        path = folder / f"shard-{number:05d}"
        path.touch()
        mode = path.stat().st_mode
        save_file(shard, path, metadata={"format": "pt"})
        path.chmod(mode)  # what others may read is for the user's umask to say, not for the library
        shards.append((path, list(shard)))
        total += sum(tensor.nbytes for tensor in shard.values())
    if len(shards) == 1:
        shards[0][0].rename(folder / SINGLE)
        return
    listed: dict[str, str] = {}
    for number, (path, names) in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        path.rename(folder / name)
        listed.update(dict.fromkeys(names, name))
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": listed})


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a stranger.

    Raises:
        ArtifactError: there is no such file, it is too large, or no JSON object.
    """
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise DataError(f"it has more than {MOST_JSON_BYTES:,} bytes")
        return parse_object(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}; get the folder anew") from error
    except DataError as error:
        raise ArtifactError(f"{path} is damaged: {error}; get it anew") from error


def _shards(tensors: Iterable[tuple[str, Tensor]], most: int) -> Iterable[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors:
        if shard and size + tensor.nbytes > most:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor.contiguous()
        size += tensor.nbytes
    yield shard


def _tensors_of(path: Path) -> dict[str, Fetch]:
    """The tensors of one file. The library checks its header: sizes, offsets without gap or overlap, known types."""
    try:
        opened = safe_open(path, framework="pt")
        return {name: partial(_fetch, path, opened, name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is damaged ({_line(error)}); get it anew") from error


def _fetch(path: Path, opened: Any, name: str) -> Tensor:
    try:
        dtype = opened.get_slice(name).get_dtype()
        if dtype not in DTYPES:
            raise ArtifactError(f"{path} holds {name} as {dtype}; weights of {', '.join(DTYPES)} are supported")
        return opened.get_tensor(name)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ArtifactError(f"{path} is damaged at {name} ({_line(error)}); get it anew") from error


def _weight_map(path: Path) -> Mapping[str, str]:
    """Tensor → shard; a shard is a file beside the index."""
    try:
        listed = member(read_object(path), "weight_map", dict)
    except DataError as error:
        raise ArtifactError(f"{path} is damaged: {error}; get it anew") from error
    for name, shard in listed.items():
        plain = isinstance(shard, str) and shard == PurePosixPath(shard).name == PureWindowsPath(shard).name
        if not plain or not shard.endswith(".safetensors"):
            raise ArtifactError(f"{path} has {name} in {shard!r}, which is no .safetensors file beside it")
    if not listed:
        raise ArtifactError(f"{path} lists no tensors; get it anew")
    return listed


def _absent(folder: Path) -> str:
    if pickles := sorted(path.name for pattern in PICKLES for path in folder.glob(pattern)):
        return (
            f"{folder} has its weights in {pickles[0]}, a pickle, which could run any program; convert it to "
            "safetensors first (transformers: model.save_pretrained), or get the safetensors that most models have"
        )
    return f"{folder} has neither {SINGLE} nor {INDEX}; give the folder of a model"


def _line(error: Exception) -> str:
    """What a library complains about, as one short line."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:200] + "…"
