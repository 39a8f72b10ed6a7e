"""The set-up's decisions, on a machine that is only imagined: no network, nothing installed."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "scripts" / "install.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["install"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


install = _load()
HERE = "{}.{}".format(*sys.version_info[:2])


class Machine:
    """Stands in for ``install.Shell``: remembers what pip was asked and what is in the environment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.python = HERE
        self.system_torch: str | None = None
        self.system_ensurepip = True
        self.pip_torch: str | None = "2.13.0"
        self.pip_config = "global.index-url='somewhere'"
        self.inside: dict[str, Any] | None = None
        self.commands: list[list[str]] = []
        self.failure: tuple[str, int, str] | None = None
        """(word of the command, exit code, output)."""

    def ask(self, command: list[str]) -> str | None:
        ours = command[0].startswith(str(self.root))
        if ours and self.inside is None:
            return None
        if command[-1] == "list":
            return self.pip_config
        if command[-1] != install.PROBE:
            return f"{self.inside['python']}\n" if self.inside else None
        base = {"python": self.python, "torch": self.system_torch, "pip": True, "ensurepip": self.system_ensurepip}
        return "a warning of torch\n" + json.dumps(self.inside if ours else base) + "\n"

    def do(self, title: str, command: list[str], log: Path) -> tuple[int, str]:
        self.commands.append(command)
        if self.failure and self.failure[0] in command:
            return self.failure[1], self.failure[2]
        if "venv" in command:
            torch = self.system_torch if "--system-site-packages" in command else None
            self.inside = {"python": self.python, "torch": torch, "pip": True, "ensurepip": True}
        elif any(word.startswith("torch") for word in command):
            assert self.inside is not None
            self.inside["torch"] = self.pip_torch
        return 0, ""

    def taken(self) -> list[list[str]]:
        """The commands since the last call."""
        commands, self.commands = self.commands, []
        return commands


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return Machine(tmp_path)


def set_up(machine: Machine, dev: bool = False, torch: str = "", this_python: bool = False) -> list[list[str]]:
    """Run the set-up; return the commands it ran."""
    install.Setup(machine.root, dev, torch, this_python, machine)()
    return machine.taken()


def record(machine: Machine) -> dict[str, Any]:
    text = (machine.root / ".venv" / "groundup-setup.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


# --- What is installed ----------------------------------------------------------------------------


def test_a_fresh_machine_gets_an_environment_then_torch_then_groundup(machine: Machine) -> None:
    venv, torch, package = set_up(machine)
    assert venv[1:3] == ["-m", "venv"] and "--system-site-packages" not in venv
    assert torch[-1] == "torch" and str(machine.root / "constraints.txt") in torch
    assert package[-2:] == ["-e", ".[fast]"]


def test_a_second_call_runs_nothing(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    set_up(machine, dev=True)
    assert set_up(machine, dev=True) == []
    assert set_up(machine) == []
    assert "nothing to install" in capsys.readouterr().err


def test_development_tools_are_added_to_an_environment_without_them(machine: Machine) -> None:
    set_up(machine)
    (package,) = set_up(machine, dev=True)
    assert package[-1] == ".[dev]"


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_installs_again_with_the_tools_that_were_there(machine: Machine, name: str) -> None:
    set_up(machine, dev=True)
    with (machine.root / name).open("a", encoding="utf-8") as handle:
        handle.write("# changed\n")
    (package,) = set_up(machine)
    assert package[-1] == ".[dev]"
    assert set_up(machine) == []


def test_a_suitable_torch_of_the_system_is_kept(machine: Machine) -> None:
    machine.system_torch = "2.7.1+local"
    venv, package = set_up(machine)
    assert "--system-site-packages" in venv
    constraints = Path(package[package.index("-c") + 1]).read_text(encoding="utf-8")
    assert "torch==2.7.1+local\n" in constraints and constraints.count("torch==") == 1


@pytest.mark.parametrize("version", ["2.5.1", "1.13.0", "2.6.0rc1", "2.6.0a0+git1"])
def test_an_unsuitable_torch_of_the_system_is_left_alone(machine: Machine, version: str) -> None:
    machine.system_torch = version
    venv, torch, _ = set_up(machine)
    assert "--system-site-packages" not in venv and torch[-1] == "torch"


@given(major=st.integers(0, 9), minor=st.integers(0, 99), patch=st.integers(0, 9), build=st.sampled_from(["", "+cpu"]))
def test_torch_is_suitable_exactly_from_the_oldest_version(major: int, minor: int, patch: int, build: str) -> None:
    assert install.suitable(f"{major}.{minor}.{patch}{build}") == ((major, minor) >= install.OLDEST_TORCH)


def test_the_user_chooses_an_index_for_torch(machine: Machine) -> None:
    machine.system_torch = "2.13.0"
    venv, torch, _ = set_up(machine, torch="--index-url 'an index'")
    assert "--system-site-packages" not in venv
    assert torch[-3:] == ["torch", "--index-url", "an index"]
    assert str(machine.root / "constraints.txt") in torch
    assert set_up(machine) == []


def test_the_user_chooses_a_version_of_torch_against_the_pin(machine: Machine) -> None:
    machine.pip_torch = "2.9.0"
    _, torch, package = set_up(machine, torch="torch==2.9.0")
    assert [word for word in torch if word.startswith("torch")] == ["torch==2.9.0"]
    assert "torch==2.9.0" in Path(package[package.index("-c") + 1]).read_text(encoding="utf-8")


def test_another_choice_of_torch_replaces_the_one_that_is_there(machine: Machine) -> None:
    set_up(machine)
    torch, _ = set_up(machine, torch="--index-url other")
    assert "--force-reinstall" in torch


def test_a_torch_that_does_not_start_is_named(machine: Machine) -> None:
    machine.pip_torch = None
    with pytest.raises(install.SetupError, match=r"torch does not start.*TORCH"):
        set_up(machine)


@pytest.mark.parametrize(
    ("system", "settings", "gpu", "warned"),
    [
        ("Linux", "", None, True),
        ("Linux", "global.extra-index-url='x'", None, False),
        ("Linux", "", "/usr/bin/nvidia-smi", False),
        ("Darwin", "", None, False),
    ],
)
def test_a_download_of_cuda_for_nothing_is_announced(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    system: str,
    settings: str,
    gpu: str | None,
    warned: bool,
) -> None:
    monkeypatch.setattr(install.platform, "system", lambda: system)
    monkeypatch.setattr(install.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(install.shutil, "which", lambda name: gpu)
    machine.pip_config = settings
    set_up(machine)
    assert ("TORCH=" in capsys.readouterr().err) == warned


# --- What is made anew, and what is never touched --------------------------------------------------


@pytest.mark.parametrize("word", ["venv", "torch", "-e"])
def test_an_interrupted_step_makes_the_environment_anew(machine: Machine, word: str) -> None:
    machine.failure = (word, -9, "")
    with pytest.raises(install.SetupError, match="killed by signal 9"):
        set_up(machine)
    assert record(machine)["whole"] is False
    machine.failure = None
    machine.taken()
    (machine.root / ".venv" / "half-written").touch()
    assert len(set_up(machine)) == 3
    assert not (machine.root / ".venv" / "half-written").exists()
    assert set_up(machine) == []


def test_a_failure_before_anything_was_written_keeps_the_environment(machine: Machine) -> None:
    machine.failure = ("-e", 1, "WARNING: Retrying ... NewConnectionError('refused')\nERROR: No matching distribution")
    with pytest.raises(install.SetupError, match="registry"):
        set_up(machine)
    machine.failure = None
    machine.taken()
    (package,) = set_up(machine)
    assert package[-1] == ".[fast]"


def test_a_moved_checkout_gets_a_new_environment(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> None:
    set_up(machine)
    moved = tmp_path_factory.mktemp("moved") / "checkout"
    shutil.copytree(machine.root, moved)
    machine.root = moved
    assert len(set_up(machine)) == 3


def test_a_python_that_no_longer_runs_gives_a_new_environment(machine: Machine) -> None:
    set_up(machine)
    machine.inside = None
    assert len(set_up(machine)) == 3


def test_another_python_counts_only_when_it_was_asked_for(machine: Machine) -> None:
    machine.python = "3.99"
    set_up(machine)
    machine.python = HERE
    assert set_up(machine) == []
    assert len(set_up(machine, this_python=True)) == 3
    assert set_up(machine, this_python=True) == []


def test_an_environment_of_the_user_is_used_and_never_deleted(machine: Machine) -> None:
    (machine.root / ".venv").mkdir()
    (machine.root / ".venv" / "mine").touch()
    machine.inside = {"python": HERE, "torch": "2.10.0", "pip": True, "ensurepip": True}
    machine.failure = ("-e", 1, "OSError: [Errno 28] No space left on device")
    with pytest.raises(install.SetupError):
        set_up(machine)
    machine.failure = None
    machine.taken()
    assert len(set_up(machine)) == 1
    machine.inside = None
    with pytest.raises(install.SetupError, match="was not made by this set-up; move it away"):
        set_up(machine)
    assert (machine.root / ".venv" / "mine").exists()


def test_an_environment_without_pip_is_named(machine: Machine) -> None:
    (machine.root / ".venv").mkdir()
    machine.inside = {"python": HERE, "torch": None, "pip": False, "ensurepip": True}
    with pytest.raises(install.SetupError, match="no pip"):
        set_up(machine)


def test_a_python_without_ensurepip_says_which_package_is_missing(machine: Machine) -> None:
    machine.system_ensurepip = False
    with pytest.raises(install.SetupError, match=f"python{re.escape(HERE)}-venv"):
        set_up(machine)


# --- One line that says what to do -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "no space left"),
        ("ERROR: Could not install ...: [Errno 13] Permission denied: '/x'", "cannot write"),
        ("WARNING: Retrying: ConnectTimeoutError\nERROR: No matching distribution found for rich", "network"),
        ("ERROR: No matching distribution found for torch==2.13.0", "no torch==2.13.0 for Python"),
        ("error: command 'gcc' failed: No such file\nERROR: Failed building wheel for x", "install a C compiler"),
        ("error: Microsoft Visual C++ 14.0 or greater is required", "install a C compiler"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "run the same command again"),
        ("ERROR: ResolutionImpossible", "constraints.txt"),
        ("ERROR: first\nERROR: the moon is in the wrong phase", "the moon is in the wrong phase"),
        ("", "exit code 1"),
    ],
)
def test_what_pip_says_becomes_one_line_with_a_remedy(tmp_path: Path, output: str, advice: str) -> None:
    message = str(install.diagnose(output, 1, tmp_path, tmp_path / "install.log"))
    assert advice in message and "install.log" in message
    assert "\n" not in message


def test_a_place_that_cannot_be_written_is_one_line(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    (machine.root / ".venv").touch()
    assert install.main([], machine.root) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and str(machine.root) in error


def test_a_python_that_is_too_old_is_one_line(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "OLDEST_PYTHON", (99, 0))
    assert install.main([], machine.root) == 1
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert "needs 99.0 or newer" in error


def test_two_set_ups_in_one_folder_are_refused(machine: Machine) -> None:
    file = machine.root / "pyproject.toml"
    with install.alone(file), pytest.raises(install.SetupError, match="another set-up"), install.alone(file):
        pass
    with install.alone(file):
        pass


def test_the_shell_logs_what_a_program_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell, log = install.Shell(tmp_path), tmp_path / "log"
    program = "import os, sys; print(os.getcwd()); sys.exit(3)"
    code, output = shell.do("a step", [sys.executable, "-c", program], log)
    assert code == 3 and Path(output.strip()) == tmp_path.resolve()
    assert output.strip() in log.read_text(encoding="utf-8")
    assert re.fullmatch(r"  a step \.\.\. \d+ s\n", capsys.readouterr().err)
    assert shell.ask([sys.executable, "-c", program]) is None
    assert shell.ask([str(tmp_path / "no-such-program")]) is None


def test_the_probe_runs_in_a_real_interpreter() -> None:
    program = "import sys; sys.modules['torch'] = None\n" + install.PROBE  # importing torch now fails, and fast
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = install.Interpreter(**json.loads(done.stdout))
    assert found.python == HERE and found.torch is None


@pytest.mark.skipif(os.name == "nt" or not shutil.which("make"), reason="needs make and a POSIX shell")
@pytest.mark.parametrize("target", ["quickstart", "test"])
def test_make_names_a_python_that_will_not_do(target: str, tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    # Without the variables by which an outer make talks to an inner one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", target, f"PYTHON={old}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode != 0
    (error,) = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert error == (
        f"error: {old} is not Python 3.11 or newer; install one, or name one: make {target} PYTHON=/path/to/python3"
    )


# --- The files around it ---------------------------------------------------------------------------


def test_every_requirement_is_pinned_to_a_version_it_accepts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    extras = project["optional-dependencies"]
    optional = [text for extra in ("fast", "data", "ray", "dev") for text in extras[extra]]
    wanted = [Requirement(text) for text in project["dependencies"] + optional]
    wanted = [requirement for requirement in wanted if requirement.name != "groundup"]
    assert {requirement.name for requirement in wanted} == set(pins)
    assert all(requirement.specifier.contains(pins[requirement.name]) for requirement in wanted)


def test_every_place_agrees_on_the_oldest_python() -> None:
    oldest = ".".join(map(str, install.OLDEST_PYTHON))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["requires-python"] == f">={oldest}"
    assert project["tool"]["mypy"]["python_version"] == oldest
    assert f"({oldest.replace('.', ', ')})" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f'"{oldest}"' in (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")


def test_the_workflow_and_the_gate_run_the_same_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "run: .ci/run" in (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
