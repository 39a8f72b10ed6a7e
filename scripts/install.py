"""Set groundup up in its own virtual environment: what ``make quickstart`` and ``make test`` do first.

    python scripts/install.py [--dev] [--torch "PIP ARGUMENTS"] [--this-python]

What enters: the Python that runs this file, pyproject.toml, constraints.txt and pip's own settings.
What leaves, all below ``.venv``: groundup in editable form, ``install.log`` (what pip said) and
``groundup-setup.json``, by which the next call sees that there is nothing to do. An environment that
an interrupted call left unfinished is made anew. Standard library only; runs on Linux, macOS, Windows.

A step that fails ends with one line that says what to do.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
OLDEST_TORCH = (2, 6)

#: Runs inside the interpreter in question and prints one line of JSON. The version of torch is the one that
#: pip knows, which may lack the build's suffix (2.13.0 for 2.13.0+cu130); a torch unknown to pip is no torch.
PROBE = """
import importlib.metadata, importlib.util, json, sys
try:
    import torch
    version = importlib.metadata.version("torch")
except Exception:
    version = None
print(json.dumps({
    "python": "%d.%d" % sys.version_info[:2],
    "torch": version,
    "pip": importlib.util.find_spec("pip") is not None,
    "ensurepip": importlib.util.find_spec("ensurepip") is not None,
}))
"""


class SetupError(Exception):
    """A step failed; the message is the one line that the user sees.

    Attributes:
        harmless: pip stopped before it wrote anything, so the environment is as whole as before.
    """

    def __init__(self, message: str, harmless: bool = False) -> None:
        super().__init__(message)
        self.harmless = harmless


@dataclass(frozen=True)
class Interpreter:
    """What a Python has to offer."""

    python: str
    """Major and minor version, such as ``3.11``."""
    torch: str | None
    """The version of the torch it can import."""
    pip: bool
    ensurepip: bool


@dataclass(frozen=True)
class Record:
    """What is in ``.venv``, as the last set-up left it."""

    whole: bool
    """False from the moment something is written until pip has finished."""
    made_here: bool
    """False when the user brought the environment: it is then never deleted."""
    python: str
    """Major and minor version inside."""
    root: str
    """The checkout it was made for; a moved environment does not work."""
    fingerprint: str = ""
    dev: bool = False
    torch_arguments: str = ""


# --- What went wrong, in one line ---------------------------------------------------------------

#: First match wins; a lost registry also breaks source builds, so it is looked for before those.
FAILURES: tuple[tuple[str, str, bool], ...] = (
    (r"No space left on device|Errno 28\b|Disk quota exceeded|not enough space on the disk", "disk", False),
    (r"Errno 13\b|Errno 30\b|Permission denied|Read-only file system|WinError 5\b", "permission", False),
    (r"DO NOT MATCH THE HASHES|IncompleteRead|ended prematurely|incomplete-download", "damaged", True),
    (
        r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|CERTIFICATE_VERIFY|getaddrinfo failed"
        r"|Name or service not known|name resolution|Network is unreachable|Connection (?:refused|reset|aborted)",
        "registry",
        True,
    ),
    (r"No matching distribution found for (?P<name>[^\s(]+)", "missing", True),
    (
        r"command '?\S*(?:gcc|cc|clang|g\+\+|c\+\+|cl\.exe)'? failed|Microsoft Visual C\+\+ .* required"
        r"|[Uu]nknown compiler|Rust, and it is not installed|Failed building wheel for (?P<name>\S+)",
        "build",
        True,
    ),
    (r"ResolutionImpossible|conflicting dependencies", "conflict", True),
)


def diagnose(output: str, exit_code: int, folder: Path, log: Path) -> SetupError:
    """The error for a pip that printed ``output`` and stopped with ``exit_code``."""
    if exit_code < 0:
        return SetupError(f"pip was killed by signal {-exit_code} (often: out of memory); close programs and run again")
    for pattern, kind, harmless in FAILURES:
        if found := re.search(pattern, output):
            name = found.groupdict().get("name") or "a package"
            return SetupError(f"{_advice(kind, name, folder)} (details: {log})", harmless)
    errors = re.findall(r"^ERROR: (.+)$", output, flags=re.MULTILINE)
    return SetupError(f"pip failed: {errors[-1] if errors else f'exit code {exit_code}'} (details: {log})")


def _advice(kind: str, name: str, folder: Path) -> str:
    """What happened and the remedy, for one kind of failure."""
    if kind == "disk":
        return disk_full(folder)
    if kind == "build":
        return f"{name} has no ready-made build for this Python and compiling it failed; {compiler_advice()}"
    return {
        "permission": f"cannot write below {folder} or pip's cache; give yourself the right to, or copy the project",
        "damaged": "a download arrived damaged; run the same command again",
        "registry": "cannot reach the package registry; check the network, proxy and `pip config list`, then run again",
        "missing": f"the registry has no {name} for Python {platform.python_version()} on {platform.system()} "
        f"{platform.machine()}; try another Python (PYTHON=python3.12) or check `pip config list`",
        "conflict": "wanted versions contradict each other; look at your changes to pyproject.toml and constraints.txt",
    }[kind]


def disk_full(folder: Path) -> str:
    """The line for a full disk, with what is free where."""
    temporary = Path(tempfile.gettempdir())
    return (
        f"no space left: {_free(folder)} free in {folder}, {_free(temporary)} in {temporary}; groundup needs about "
        "2 GB (8 GB with CUDA): free some, or set TMPDIR to a larger disk, then run again"
    )


def _free(folder: Path) -> str:
    return f"{shutil.disk_usage(folder).free / 1e9:.1f} GB"


def compiler_advice() -> str:
    """How to get a C compiler on this system."""
    remedy = {
        "Linux": "install a C compiler (Debian, Ubuntu: sudo apt install build-essential)",
        "Darwin": "install a C compiler (xcode-select --install)",
    }.get(platform.system(), "install a C compiler (Windows: Visual Studio Build Tools)")
    return f"{remedy}, or use another Python (PYTHON=python3.12)"


# --- The two ways to run a program ---------------------------------------------------------------


class Shell:
    """Runs programs in ``folder``: ``ask`` for an answer, ``do`` for a step that the user watches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, command: list[str]) -> str | None:
        """Standard output of ``command``; None where it cannot run or fails."""
        try:
            done = subprocess.run(
                command, cwd=self.folder, capture_output=True, text=True, encoding="utf-8", errors="replace"
            )
        except OSError:
            return None
        return done.stdout if done.returncode == 0 else None

    def do(self, title: str, command: list[str], log: Path) -> tuple[int, str]:
        """Run ``command`` into ``log`` while a line shows the time; return its exit code and output."""
        environment = os.environ | {"PIP_NO_INPUT": "1", "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        with log.open("ab") as handle, stopwatch(title) as tick:
            handle.write(f"\n$ {shlex.join(command)}\n".encode())
            handle.flush()
            start = handle.tell()
            process = subprocess.Popen(
                command, cwd=self.folder, stdout=handle, stderr=subprocess.STDOUT, env=environment
            )
            try:
                while process.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=0.5)
                    tick()
            except KeyboardInterrupt:
                process.terminate()  # pip heard Ctrl-C too; this is for a pip that ignores it
                process.wait()
                raise
        with log.open("rb") as handle:
            handle.seek(start)
            return process.returncode, handle.read().decode("utf-8", errors="replace")


@contextlib.contextmanager
def stopwatch(title: str) -> Iterator[Callable[[], None]]:
    """Show ``title ... 12 s`` on stderr: redrawn by the yielded function on a terminal, else completed at the end."""
    start = time.monotonic()
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    def line() -> str:
        return f"\r  {title} ... {time.monotonic() - start:.0f} s"

    write(f"  {title} ...")
    try:
        yield lambda: write(line()) if terminal else None
    finally:
        write(f"{line()}\n" if terminal else f" {time.monotonic() - start:.0f} s\n")


def say(text: str) -> None:
    """Print one line on stderr."""
    print(text, file=sys.stderr, flush=True)


# --- The set-up -----------------------------------------------------------------------------------


def suitable(torch: str | None) -> bool:
    """Whether groundup runs with this version of torch; the pre-releases of the oldest one do not count."""
    found = re.match(r"(\d+)\.(\d+)(?:\.0)?(a|b|rc|\.dev)?", torch or "")
    if not found:
        return False
    release = (int(found[1]), int(found[2]))
    return release > OLDEST_TORCH or (release == OLDEST_TORCH and not found[3])


class Setup:
    """Brings ``root/.venv`` to what pyproject.toml and constraints.txt ask for.

    Args:
        root: the checkout.
        dev: also install the development tools.
        torch_arguments: pip arguments that choose a build of torch; empty for pip's own choice.
        this_python: make the environment anew if it holds another Python version than the running one.
        shell: how programs are run.
    """

    def __init__(self, root: Path, dev: bool, torch_arguments: str, this_python: bool, shell: Shell) -> None:
        self.root = root
        self.dev = dev
        self.torch_arguments = torch_arguments
        self.this_python = this_python
        self.shell = shell
        self.folder = root / ".venv"
        self.log = self.folder / "install.log"
        self.record_file = self.folder / "groundup-setup.json"
        self.python = str(self.folder.joinpath(*(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python"))))

    def __call__(self) -> None:
        """Do what is missing, which may be nothing.

        Raises:
            SetupError: a step failed.
            OSError: something cannot be written.
        """
        record = self.read_record()
        version = self.shell.ask([self.python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        version = version and version.strip()
        if self.usable(record, version) and record and self.satisfied_by(record):
            say("set-up: nothing to install")
            return
        say(f"set-up in {self.folder}")
        if not self.usable(record, version):
            record = self.create(record, version)
        elif record is None:
            record = Record(whole=True, made_here=False, python=str(version), root=str(self.root))
        self.install(record)

    # What is there

    def usable(self, record: Record | None, version: str | None) -> bool:
        """Whether pip can work in the environment as it stands, whose Python says it is ``version``."""
        if version is None or _release(version) < OLDEST_PYTHON:
            return False
        if self.this_python and _release(version) != sys.version_info[:2]:
            return False
        if record is None:
            return True
        moved = record.root != str(self.root) or record.python != version
        return not (record.made_here and (moved or not record.whole))

    def satisfied_by(self, record: Record) -> bool:
        """Whether nothing needs to be installed."""
        return (
            record.whole
            and record.fingerprint == self.fingerprint()
            and (record.dev or not self.dev)
            and self.torch_arguments in ("", record.torch_arguments)
        )

    def fingerprint(self) -> str:
        """SHA-256 of the two files that say what to install."""
        files = (self.root / "pyproject.toml", self.root / "constraints.txt")
        return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()

    def read_record(self) -> Record | None:
        """The record of the last set-up; None where there is none that can be read."""
        try:
            return Record(**json.loads(self.record_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write_record(self, record: Record) -> None:
        """Replace the record in one step."""
        temporary = self.record_file.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.record_file)

    @contextlib.contextmanager
    def writing(self, record: Record) -> Iterator[None]:
        """Mark the environment as unfinished until the block ends well, or fails before it wrote anything."""
        self.folder.mkdir(exist_ok=True)
        self.write_record(replace(record, whole=False))
        try:
            yield
        except SetupError as error:
            if error.harmless:
                self.write_record(record)
            raise
        self.write_record(record)

    # The steps

    def create(self, old: Record | None, version: str | None) -> Record:
        """Make the environment, in place of an old one that this set-up made itself."""
        empty = not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir()))
        if not empty and not (old and old.made_here):
            holds = f"Python {version}" if version else "no working Python"
            raise SetupError(f"{self.folder} holds {holds} and was not made by this set-up; move it away and run again")
        # An environment cannot be built on another one, only on the Python below it.
        base = getattr(sys, "_base_executable", None) or sys.executable
        below = self.probe(base)
        if below is None or not below.ensurepip:
            raise SetupError(
                f"{base} cannot make virtual environments: its venv module is incomplete; "
                f"Debian, Ubuntu: sudo apt install python{below.python if below else 3}-venv; then run again"
            )
        sees_torch = suitable(below.torch) and not self.torch_arguments
        record = Record(whole=True, made_here=True, python=below.python, root=str(self.root))
        with self.writing(record):
            for entry in self.folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry != self.record_file:
                    entry.unlink()
            self.step(
                f"virtual environment, Python {below.python}" + (f", sees torch {below.torch}" if sees_torch else ""),
                [base, "-m", "venv", *(["--system-site-packages"] if sees_torch else []), str(self.folder)],
            )
        return record

    def install(self, record: Record) -> None:
        """Install torch unless a suitable one is there, then groundup and everything else around it."""
        inside = self.probe(self.python)
        if inside is None or not inside.pip:
            raise SetupError(f"{self.folder} has no pip; move it away and run again")
        done = replace(
            record,
            fingerprint=self.fingerprint(),
            dev=self.dev or record.dev,
            torch_arguments=self.torch_arguments or record.torch_arguments,
        )
        keep = suitable(inside.torch) and self.torch_arguments in ("", record.torch_arguments)
        with self.writing(record):
            torch = inside.torch if keep else self.install_torch(inside)
        with self.writing(record):
            extras = "[dev]" if done.dev else "[fast]"
            self.pip(f"groundup{extras} around torch {torch}", "-c", self.constraints(torch), "-e", f".{extras}")
        self.write_record(done)

    def install_torch(self, inside: Interpreter) -> str:
        """Install the torch that the user or pip chooses; return its version."""
        words = shlex.split(self.torch_arguments)
        named = any(word.startswith("torch") or word.endswith(".whl") for word in words)
        if inside.torch:
            words.append("--force-reinstall")  # pip would be content with the build that is there
        if not self.torch_arguments and self.brings_cuda_in_vain():
            say("  note: pip's usual torch for Linux brings several GB of CUDA, and no NVIDIA GPU is visible;")
            say("  for a small one stop here and add TORCH='--index-url <an index of CPU builds>' to the make command")
        pinned = self.root / "constraints.txt"
        constraints = self.constraints(None) if named else str(pinned)
        self.pip("torch", "-c", constraints, *([] if named else ["torch"]), *words)
        after = self.probe(self.python)
        if after is None or not suitable(after.torch):
            found = f"is {after.torch}" if after and after.torch else "does not start"
            raise SetupError(
                f"the installed torch {found}, and groundup needs {'.'.join(map(str, OLDEST_TORCH))} or newer; "
                f"choose another build with TORCH (details: {self.python} -c 'import torch')"
            )
        return str(after.torch)

    def brings_cuda_in_vain(self) -> bool:
        """Whether pip, left alone, would fetch the CUDA build for a machine without an NVIDIA GPU."""
        if (platform.system(), platform.machine()) != ("Linux", "x86_64") or shutil.which("nvidia-smi"):
            return False
        settings = self.shell.ask([self.python, "-m", "pip", "config", "list"]) or ""
        return not re.search(r"index-url|find-links", settings)

    def constraints(self, torch: str | None) -> str:
        """Path of constraints.txt with ``torch`` in place of its own pin (None: without one)."""
        lines = (self.root / "constraints.txt").read_text(encoding="utf-8").splitlines()
        lines = [line for line in lines if not line.startswith("torch==")]
        path = self.folder / "constraints.txt"
        path.write_text("\n".join([*lines, *([f"torch=={torch}"] if torch else []), ""]), encoding="utf-8")
        return str(path)

    def pip(self, title: str, *arguments: str) -> None:
        """One ``pip install``, as a step."""
        self.step(title, [self.python, "-m", "pip", "install", "--progress-bar", "off", *arguments])

    def step(self, title: str, command: list[str]) -> None:
        """Run ``command`` while the user watches; a failure becomes one line."""
        code, output = self.shell.do(title, command, self.log)
        if code != 0:
            raise diagnose(output, code, self.folder, self.log)

    def probe(self, python: str) -> Interpreter | None:
        """What the interpreter ``python`` has to offer; None where it does not run."""
        answer = self.shell.ask([python, "-c", PROBE])
        return Interpreter(**json.loads(answer.splitlines()[-1])) if answer else None


def _release(version: str) -> tuple[int, int]:
    """``"3.11"`` → ``(3, 11)``."""
    major, minor = version.split(".")
    return int(major), int(minor)


# --- The command ----------------------------------------------------------------------------------


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Hold a lock on ``file`` so that two set-ups never write one environment; the system drops it with the process."""
    with file.open("rb") as handle:
        try:
            if sys.platform == "win32":
                import msvcrt

                handle.seek(1 << 30)  # Windows keeps others from the locked bytes: take one beyond the end
                msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
                raise SetupError("another set-up works in this folder; wait for it, then run again") from error
            # Some network file systems know no locks: go on without.
        yield


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Parse the command line, set up, and return the exit code."""
    parser = argparse.ArgumentParser(description="Set groundup up in .venv; a second call does nothing.")
    parser.add_argument("--dev", action="store_true", help="also install the development tools")
    parser.add_argument("--torch", default="", help="pip arguments that choose a build of torch")
    parser.add_argument("--this-python", action="store_true", help="rebuild a .venv of another Python version")
    options = parser.parse_args(arguments)
    try:
        if sys.version_info[:2] < OLDEST_PYTHON:
            raise SetupError(
                f"{sys.executable} is Python {platform.python_version()}, and groundup needs "
                f"{'.'.join(map(str, OLDEST_PYTHON))} or newer; run this with a newer one"
            )
        with alone(root / "pyproject.toml"):
            Setup(root, options.dev, options.torch.strip(), options.this_python, Shell(root))()
    except SetupError as error:
        say(f"error: {error}")
        return 1
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        say(
            f"error: {disk_full(root)}"
            if full
            else f"error: cannot write {error.filename}: {error.strerror}; copy the project to a folder of your own"
        )
        return 1
    except KeyboardInterrupt:
        say("\ninterrupted; run the same command again to continue")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
