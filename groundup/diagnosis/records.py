"""What a run left, read leniently: the doctor is called when something is broken.

Enters: a run directory, the folder of a stage, or a checkpoint. Leaves: a ``Stage`` for each trained stage, whose parts
are read when they are asked for and None where the run has none.
"""

import json
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.core.errors import ArtifactError, UsageError
from groundup.core.files import read_json
from groundup.core.run import is_running
from groundup.corpus import Document, read_documents
from groundup.dataloader import Tokens, open_tokens
from groundup.dataloader.shards import INDEX
from groundup.model import ModelConfig, Transformer
from groundup.tokenizer import BytePairTokenizer
from groundup.tokenizer import load as load_tokenizer
from groundup.training.checkpoint import TRAINED_STAGES, Checkpoint

Numbers = NDArray[np.float64]
Ids = NDArray[np.int64]
LOG, CHECKPOINTS, STATE = "metrics.jsonl", "checkpoints", "state.json"
DOCUMENT = "<|document|>"
#: Tokens of a split whose statistics are taken.
HEAD = 1 << 21
#: Validation figures, the better the lower, in the order in which they are looked for.
VALIDATIONS = ("validation_bits_per_byte", "validation_loss")


class Stage:
    """One trained stage.

    ``run`` is the run directory, None where a stage stands alone; ``checkpoint`` the one to look at, by default the
    newest.
    """

    def __init__(self, folder: Path, run: Path | None = None, checkpoint: Path | None = None) -> None:
        self.folder = folder
        self.name = folder.name
        self.run = run
        self._chosen = checkpoint

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, without those that a kill cut."""
        return [row for row in _lines(self.folder / LOG) if isinstance(row.get("step"), int)]

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """The lines of ``events.jsonl``."""
        return _lines(self.folder / "events.jsonl")

    @cached_property
    def samples(self) -> list[str]:
        """The texts that were sampled last."""
        rows = [row for row in _lines(self.folder / "samples.jsonl") if isinstance(row.get("text"), str)]
        return [row["text"] for row in rows if row.get("step") == rows[-1].get("step")]

    def series(self, key: str) -> tuple[Ids, Numbers]:
        """The steps that have a finite number called ``key``, and the numbers."""
        found = {row["step"]: row[key] for row in self.rows if isinstance(row.get(key), int | float)}
        finite = [(step, value) for step, value in found.items() if np.isfinite(value)]
        return np.array([step for step, _ in finite], np.int64), np.array([value for _, value in finite], np.float64)

    @property
    def last_step(self) -> int:
        """The last step that was logged."""
        return max((row["step"] for row in self.rows), default=0)

    def steps(self, first: float, last: float) -> str:
        """Where in the stage, in words."""
        return f"{self.name}, step {last:.0f}" if first == last else f"{self.name}, steps {first:.0f} to {last:.0f}"

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The run's recipe as nested tables; empty where there is none."""
        for folder in (self.run, self.folder):
            with suppress(OSError, tomllib.TOMLDecodeError):
                if folder is not None:
                    return tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
        return {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The stage's own section of the recipe."""
        section = self.recipe.get(self.name, {})
        return section if isinstance(section, dict) else {}

    def setting(self, *names: str, default: Any) -> Any:
        """A value of the stage's section, by its nested name."""
        value: Any = self.config
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return default if value is None else value

    @cached_property
    def checkpoint(self) -> Path | None:
        """The checkpoint to look at."""
        if self._chosen is not None:
            return self._chosen
        folders = [path for path in (self.folder / CHECKPOINTS).glob("step-*") if (path / STATE).is_file()]
        return max(folders, key=lambda path: path.name) if folders else None

    @cached_property
    def state(self) -> dict[str, Any]:
        """What the checkpoint says of itself."""
        return {} if self.checkpoint is None else dict(read_json(self.checkpoint / STATE))

    @cached_property
    def model(self) -> Transformer | None:
        """The checkpoint's model, in evaluation mode on the CPU."""
        return self.opened(Transformer)

    def opened(self, kind: type[Transformer]) -> Transformer | None:
        """The checkpoint's weights as a model of this kind."""
        if self.checkpoint is None:
            return None
        shape = read_json(self.checkpoint / "model.json")
        stored = Checkpoint(self.checkpoint, self.state).stored("model")
        weights = {name: stored.read(name) for name in stored.shapes}
        return kind.from_weights(ModelConfig.from_dict(shape["config"]), shape["vocab_size"], weights)

    @cached_property
    def tokenizer(self) -> BytePairTokenizer | None:
        """The tokenizer that lies in the checkpoint; else the run's."""
        for folder in (self.checkpoint, self.run and self.run / "tokenizer"):
            if folder is not None and (folder / "tokenizer.json").is_file():
                return load_tokenizer(folder)
        return None

    @cached_property
    def run_tokenizer(self) -> BytePairTokenizer | None:
        """The tokenizer of the run directory."""
        folder = self.run and self.run / "tokenizer"
        return load_tokenizer(folder) if folder and (folder / "tokenizer.json").is_file() else None

    def tokens(self, split: str) -> Tokens | None:
        """The tokens of a split, of all parts of its mixture if it is one, mapped from the disk."""
        folder = self.folder / "tokens" / split
        single = folder.with_suffix(".npy")  # as runs of earlier versions kept it
        if self.in_order(split):
            places = [single if single.is_file() else folder]
        else:
            places = sorted(index.parent for index in folder.glob(f"*/{INDEX}"))
        tokens = open_tokens(*places) if places else None
        return tokens if tokens is not None and len(tokens) else None

    def in_order(self, split: str) -> bool:
        """Whether the tokens of a split are those of the corpus in its order, not in the parts of a mixture."""
        folder = self.folder / "tokens" / split
        return (folder / INDEX).is_file() or folder.with_suffix(".npy").is_file()

    def head(self, split: str) -> Ids | None:
        """The first tokens of a split, enough for statistics."""
        tokens = self.tokens(split)
        return None if tokens is None else tokens.read(0, min(len(tokens), HEAD))

    @cached_property
    def mark(self) -> int | None:
        """The document token, where rows are packed with documents that do not see each other; else None."""
        packed = self.setting("data", "packing", default="windows") == "documents"
        return self.tokenizer.special_tokens[DOCUMENT] if packed and self.tokenizer is not None else None

    def documents(self, split: str) -> Iterator[Document]:
        """The documents of a split of the corpus; none where it is not there."""
        path = self.run / "corpus" / f"{split}.jsonl" if self.run is not None else None
        return read_documents(path) if path is not None and path.is_file() else iter(())

    @property
    def finished(self) -> bool:
        """Whether the stage says that it is done."""
        return (self.folder / "manifest.json").is_file()

    @property
    def interrupted(self) -> bool:
        """Whether the stage was begun, is not done, and nobody works on it."""
        begun = (self.folder / "started.json").is_file() and not self.finished
        return begun and not (self.run is not None and is_running(self.run))


def open_stages(path: Path) -> list[Stage]:
    """The trained stages that ``path`` means: those of a run directory, one stage, or that of one checkpoint.

    Raises:
        UsageError: it is none of these.
    """
    path = path.resolve()
    if (path / STATE).is_file():
        folder = path.parent.parent if path.parent.name == CHECKPOINTS else path
        return [Stage(folder, _run_of(folder), checkpoint=path)]
    if _is_stage(path):
        return [Stage(path, _run_of(path))]
    if found := [Stage(path / name, path) for name in TRAINED_STAGES if _is_stage(path / name)]:
        return found
    if (path / "recipe.toml").is_file():
        raise UsageError(f"{path} has not trained anything yet; `groundup run` with this --out goes on with it")
    raise UsageError(f"{path} holds no records of a run; give a run directory, the folder of a stage, or a checkpoint")


def _is_stage(path: Path) -> bool:
    return (path / LOG).is_file() or (path / CHECKPOINTS).is_dir()


def _run_of(stage: Path) -> Path | None:
    """The run directory of a stage's folder."""
    return stage.parent if (stage.parent / "recipe.toml").is_file() else None


def _lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, line by line; a line cut by a kill is left out.

    Raises:
        ArtifactError: the file is there and cannot be read.
    """
    if not path.is_file():
        return []
    found = []
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror}); restore it") from error
    for line in text.splitlines():
        with suppress(json.JSONDecodeError):
            if isinstance(row := json.loads(line), dict):
                found.append(row)
    return found
