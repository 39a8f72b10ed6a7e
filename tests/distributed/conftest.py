"""Several processes of one machine that compute together, as torchrun starts them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest


def start(processes: int, arguments: Sequence[str], **variables: str) -> list[subprocess.Popen[str]]:
    """The processes, by rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **variables}
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]


def run_together(processes: int, module: str, *arguments: str) -> Any:
    """``run_together(2, "tests.distributed.matrix")``: what the first of two processes prints, as JSON."""
    started = start(processes, ["-m", module, *arguments])
    with ThreadPoolExecutor(processes) as pool:  # all are listened to: who has too much to say would wait
        ended = list(pool.map(subprocess.Popen.communicate, started))
    for process, (_, errors) in zip(started, ended, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return json.loads(ended[0][0])


@pytest.fixture(scope="session")
def together() -> Callable[..., Any]:
    """See :func:`run_together`."""
    return run_together
