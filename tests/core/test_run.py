"""What runs again and what does not; what is verified; who may work in a run directory."""

import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from groundup.core import run
from groundup.core.errors import ArtifactError, RunLockedError, StorageError
from groundup.core.files import read_json, write_json, write_text
from groundup.core.run import Stage, code_version, execute, is_running, locked, read_manifest


@dataclass(frozen=True)
class Part:
    """One number."""

    value: int = 1


@dataclass(frozen=True)
class Recipe:
    """A recipe of three stages."""

    seed: int = 0
    corpus: Part = field(default_factory=Part)
    model: Part = field(default_factory=Part)
    evaluate: Part = field(default_factory=Part)
    text: Path | None = None


class Pipeline:
    """corpus → model → evaluate (which needs both), each writing one file; remembers what ran."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.ran: list[str] = []
        self.fail: str | None = None

    def stages(self) -> list[Stage]:
        needs = {"corpus": (), "model": ("corpus",), "evaluate": ("corpus", "model")}
        return [
            Stage(
                name,
                needs=needed,
                code="groundup.core.errors",
                settings=lambda recipe, name=name: getattr(recipe, name),
                run=lambda recipe, out, name=name: self.work(name, recipe, out),
                files=lambda recipe, name=name: [recipe.text] if recipe.text and name == "corpus" else [],
            )
            for name, needed in needs.items()
        ]

    def work(self, name: str, recipe: Recipe, out: Path) -> dict[str, float]:
        self.ran.append(name)
        write_text(out / name / "half.txt", "half")
        if self.fail == name:
            raise KeyboardInterrupt
        write_text(out / name / "result.txt", f"{name} {getattr(recipe, name).value}")
        return {"value": getattr(recipe, name).value}

    def __call__(self, recipe: Recipe = Recipe(), only: str | None = None) -> list[str]:
        """Bring the run up to date; the stages that ran."""
        self.ran = []
        execute(self.stages(), recipe, recipe.seed, self.out, only)
        return self.ran


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path / "run")


@pytest.fixture
def finished(pipeline: Pipeline) -> Pipeline:
    assert pipeline() == ["corpus", "model", "evaluate"]
    return pipeline


ALL = ["corpus", "model", "evaluate"]


def test_a_finished_run_does_nothing_again(finished: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in finished.out.rglob("*") if path.is_file()}
    assert finished() == []
    assert {path: path.read_bytes() for path in finished.out.rglob("*") if path.is_file()} == before
    assert capsys.readouterr().err.count("up to date") == 3


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"evaluate": Part(2)}, ["evaluate"]),
        ({"model": Part(2)}, ["model", "evaluate"]),
        ({"corpus": Part(2)}, ALL),
        ({"seed": 2}, ALL),
    ],
)
def test_a_change_runs_its_stage_and_what_follows(
    change: dict[str, object], again: list[str], finished: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert finished(dataclasses.replace(Recipe(), **change)) == again
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("↻")]
    assert [line.split()[1].rstrip(":") for line in told] == again
    reason = "the seed changed from 0 to 2" if "seed" in change else "value changed from 1 to 2"
    assert reason in told[0]
    # The earlier results are kept, whole.
    kept = {path.name.rsplit("-", 2)[0]: path for path in (finished.out / "superseded").iterdir()}
    assert sorted(kept) == sorted(again)
    for name, folder in kept.items():
        assert (folder / "result.txt").read_text(encoding="utf-8") == f"{name} 1"
        run.verify_artifacts(folder, read_json(folder / "manifest.json"))
    assert finished(dataclasses.replace(Recipe(), **change)) == []


def test_results_superseded_within_a_second_are_all_kept(finished: Pipeline) -> None:
    for value in (2, 3, 4):
        assert finished(Recipe(evaluate=Part(value))) == ["evaluate"]
    kept = sorted((path / "result.txt").read_text(encoding="utf-8") for path in (finished.out / "superseded").iterdir())
    assert kept == ["evaluate 1", "evaluate 2", "evaluate 3"]


def test_the_users_own_text_counts(pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("one", encoding="utf-8")
    assert pipeline(Recipe(text=text)) == ALL
    assert pipeline(Recipe(text=text)) == []
    text.write_text("two", encoding="utf-8")
    assert pipeline(Recipe(text=text)) == ALL
    assert f"because {text} changed" in capsys.readouterr().err
    assert pipeline(Recipe()) == ALL  # a file that is gone is a change as well
    assert f"because {text} changed" in capsys.readouterr().err


def test_changed_code_runs_again(
    finished: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "code_version", lambda module: "another")
    assert finished() == ALL
    assert "corpus: runs again because the program changed" in capsys.readouterr().err


def test_the_code_version_sees_everything_that_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "groundup"
    sources = {
        "__init__.py": "",
        "stage/__init__.py": "from groundup.used import helper",
        "stage/build.py": "import groundup.deep.inner\nfrom groundup.stage import template",
        "stage/page.typ": "#let x = 1",
        "deep/__init__.py": "",
        "deep/inner.py": "",
        "used.py": "",
        "unused.py": "",
        "other/__init__.py": "",
        "other/data.toml": "",
    }
    for name, source in sources.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(source, encoding="utf-8")
    monkeypatch.setattr(run, "__file__", str(package / "core" / "run.py"))
    version = code_version.__wrapped__
    before = version("groundup.stage.build")
    for name, source in sources.items():
        (package / name).write_text(source + "\n# edited", encoding="utf-8")
        used = name.startswith(("stage", "deep", "used"))
        assert (version("groundup.stage.build") != before) == used, name
        (package / name).write_text(source, encoding="utf-8")
    assert version("groundup.stage.build") == before


def test_an_interrupted_stage_continues_in_its_folder(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.fail = "model"
    with pytest.raises(KeyboardInterrupt):
        pipeline()
    assert read_manifest(pipeline.out / "model") is None
    pipeline.fail = None
    (pipeline.out / "model" / ".incomplete-123-weights").write_text("half", encoding="utf-8")
    capsys.readouterr()
    assert pipeline() == ["model", "evaluate"]
    assert "model: continues where it was interrupted" in capsys.readouterr().err
    assert not (pipeline.out / "superseded").exists()
    assert sorted(path.name for path in (pipeline.out / "model").iterdir()) == [
        "half.txt",
        "manifest.json",
        "result.txt",
    ]


def test_an_interrupted_stage_of_other_settings_is_put_aside(pipeline: Pipeline) -> None:
    pipeline.fail = "model"
    with pytest.raises(KeyboardInterrupt):
        pipeline()
    pipeline.fail = None
    assert pipeline(Recipe(model=Part(2))) == ["model", "evaluate"]
    [kept] = (pipeline.out / "superseded").iterdir()
    assert (kept / "half.txt").exists()


def test_files_of_unknown_origin_are_put_aside(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(pipeline.out / "model" / "checkpoint", "somebody's")
    assert pipeline() == ALL
    [kept] = (pipeline.out / "superseded").iterdir()
    assert (kept / "checkpoint").read_text(encoding="utf-8") == "somebody's"
    assert "files of unknown origin; they are kept in" in capsys.readouterr().err


def test_the_manifest_tells_what_was_done(finished: Pipeline) -> None:
    manifest = read_manifest(finished.out / "evaluate")
    assert manifest is not None
    assert manifest["metrics"] == {"value": 1}
    assert manifest["seed"] == 0
    assert manifest["config"] == {"value": 1}
    assert set(manifest["inputs"]) == {"corpus", "model"}
    assert set(manifest["artifacts"]) == {"half.txt", "result.txt"}
    assert manifest["seconds"] >= 0
    assert manifest["peak_memory_bytes"] > 1e6
    assert manifest["environment"]["python"] == platform.python_version()
    assert "value = 1" in (finished.out / "recipe.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_text("mod", encoding="utf-8"), "has 3 bytes instead of 7"),
        (lambda path: path.write_text("MODEL 1", encoding="utf-8"), "was changed after the run wrote it"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
@pytest.mark.parametrize("only", [None, "evaluate"])
def test_a_damaged_artifact_is_named(
    damage: Callable[[Path], object], words: str, only: str | None, finished: Pipeline
) -> None:
    path = finished.out / "model" / "result.txt"
    damage(path)
    with pytest.raises(ArtifactError, match=words) as caught:
        finished(only=only)
    assert str(path) in str(caught.value)
    assert f"delete {path.parent} and run again" in str(caught.value)
    # The remedy works.
    for inner in path.parent.iterdir():
        inner.unlink()
    path.parent.rmdir()
    assert finished() == ["model"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"identity": "x"}', "\x00\xff"])
@pytest.mark.parametrize("name", ["manifest.json", "started.json"])
def test_a_foreign_manifest_is_named(content: str, name: str, finished: Pipeline) -> None:
    (finished.out / "model" / "manifest.json").unlink()
    path = finished.out / "model" / name
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ArtifactError, match="delete it and run again") as caught:
        finished()
    assert str(path) in str(caught.value)
    path.unlink()
    assert finished() == ["model"]


def test_one_stage_alone(pipeline: Pipeline) -> None:
    with pytest.raises(ArtifactError, match="evaluate needs the results of corpus; run `groundup run` first"):
        pipeline(only="evaluate")
    assert pipeline(only="corpus") == ["corpus"]
    assert pipeline(only="corpus") == []
    assert pipeline(only="model") == ["model"]
    assert pipeline() == ["evaluate"]


def test_one_stage_alone_does_not_work_on_results_of_other_settings(finished: Pipeline) -> None:
    recipe = (finished.out / "recipe.toml").read_text(encoding="utf-8")
    with pytest.raises(ArtifactError, match="evaluate needs corpus, which must run again because value changed"):
        finished(Recipe(corpus=Part(2)), only="evaluate")
    assert finished.ran == []
    assert (finished.out / "recipe.toml").read_text(encoding="utf-8") == recipe
    assert finished(Recipe(corpus=Part(2))) == ALL


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match=r"cannot write .*choose another place with --out"):
        Pipeline(tmp_path / "file" / "run")()


HOLDER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from groundup.core.run import locked
    with locked(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(1e6)
    """
)


def test_a_second_process_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            assert is_running(out)
            with (
                pytest.raises(RunLockedError, match=f"in use by process {holder.pid} on {platform.node()}"),
                locked(out),
            ):
                raise AssertionError("two at once")
            with pytest.raises(RunLockedError):
                Pipeline(out)()
            assert not (out / "corpus").exists()
        finally:
            if os.name == "posix":
                holder.send_signal(signal.SIGKILL)
            else:
                holder.kill()
    assert not is_running(out)
    assert Pipeline(out)() == ALL


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(RunLockedError, match=f"process {os.getpid()}"), locked(tmp_path):
            raise AssertionError("two at once")
        raise ZeroDivisionError
    assert not is_running(tmp_path)
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"host": 1}', '{"host": "nowhere", "pid": 1}'])
def test_a_stale_owner_means_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / run.OWNER).write_text(content, encoding="utf-8")
    assert not is_running(tmp_path)
    with locked(tmp_path):
        assert json.loads((tmp_path / run.OWNER).read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_leaves_of_a_manifest_survive_a_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {"identity": "x"})
    with pytest.raises(ArtifactError, match=r"manifest.json was not written by a run"):
        read_manifest(tmp_path)
    assert read_manifest(tmp_path / "absent") is None
