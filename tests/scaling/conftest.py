"""Ways to call the commands of scaling."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from groundup.core.errors import GroundupError


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``call(run, "word", …)``: what the command printed, and its exit code."""

    def calling(run: Callable[[list[str]], int], *words: str) -> Outcome:
        capsys.readouterr()
        try:
            code, complaint = run(list(words)), ""
        except GroundupError as error:
            code, complaint = error.exit_code, str(error)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err + complaint)

    return calling
