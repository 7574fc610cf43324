"""The CUDA backend without a card: in numba-cuda's simulator, its LLVM code run by the processor, its machine code, and
as cut for cards that are not here. In processes of their own, since the simulator is chosen at import."""

import importlib.util
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "cuda"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")

EMULATED = platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"
PROCESSES = {
    # in one process, where what both need is compiled once
    "compiled, and run by the processor": ("0", *["emulated.py"] * EMULATED, "compiled.py"),
    "in the simulator": ("1", "simulated.py", "device_arrays.py"),
    "as cut for cards": ("0", "planned.py"),
}


def run(simulated, *files):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *(FOLDER / file for file in files)]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": simulated}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def processes():
    """All that is to run, as many at a time as there are cores: each keeps one busy for minutes."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(run, *arguments) for name, arguments in PROCESSES.items()}


@pytest.mark.parametrize("name", PROCESSES)
def test_without_a_card(name, processes):
    result = processes[name].result()
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
