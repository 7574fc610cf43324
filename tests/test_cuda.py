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
COMPILED = ["emulated.py"] * EMULATED + ["compiled.py"]
"""In one process, where what both need is compiled once: each dtype has kernels of its own."""

SIMULATED = ["simulated.py", "device_arrays.py"]

# about as long as each other, for each core to have as much to do
PROCESSES = {
    "compiled, and run by the processor, 16 bits": ("0", *COMPILED, "-k", "float16"),
    "compiled, and run by the processor, 32 and 64 bits": ("0", *COMPILED, "-k", "not float16"),
    "in the simulator, 32 and 64 bits": ("1", *SIMULATED, "-k", "not float16"),
    "in the simulator, 16 bits": ("1", *SIMULATED, "-k", "float16"),
    "as cut for cards": ("0", "planned.py"),
}


def run(simulated, *arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": simulated}
    return subprocess.run(command, env=environment, cwd=FOLDER, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def processes():
    """All that is to run, as many at a time as there are cores: each keeps one busy for minutes."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(run, *arguments) for name, arguments in PROCESSES.items()}


@pytest.mark.parametrize("name", PROCESSES)
def test_without_a_card(name, processes):
    result = processes[name].result()
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
