"""What all benchmarks share."""

import signal
import subprocess
import sys

import psutil
import pytest

PROGRAM = """
import subprocess, sys
from benchmarks._common import Recorded, main

def run(settings):
    child = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
    subprocess.run(child, check=False)
    return {}

main(Recorded, "nothing", run)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there a process that is terminated cannot do anything any more")
def test_a_benchmark_that_is_terminated_ends_what_it_started() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as benchmark:
        assert benchmark.stdout is not None
        child = psutil.Process(int(benchmark.stdout.readline()))
        benchmark.terminate()
        assert benchmark.wait() == 128 + signal.SIGTERM
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
