"""Processes of a Ray cluster: a local one, of two."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.distributed.test_agent import begin, said, slow


@slow  # Ray gives its own parts a minute to start: on a busy machine they do not
def test_two_actors_are_started_again_when_one_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    code, out, told = said(begin("killed", tmp_path, "--ray", "local", "--nproc", 2))
    assert code == 0, told
    assert "done, after a restart" in out
    assert told == [
        "groundup: process 1 was killed (SIGKILL; was the memory full?) in toy step 5; restart 1 of 3, from the last "
        "checkpoint"
    ]


def test_without_ray_the_extra_is_named(command: Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = command("launch", "--ray", "local", "--nproc", "2", "pretrain", "smoke")
    assert outcome.code == 2  # type: ignore[attr-defined]
    assert "pip install 'groundup[ray]'" in outcome.complaint  # type: ignore[attr-defined]
