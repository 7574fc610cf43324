"""The CUDA backend without a card: in numba-cuda's simulator, compiled, and as cut for cards that are not
here. Each in a process of its own, since the simulator is chosen at import."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "cuda"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")


@pytest.mark.parametrize(
    ("file", "simulated"), [("simulated.py", "1"), ("device_arrays.py", "1"), ("compiled.py", "0"), ("planned.py", "0")]
)
def test_without_a_card(file, simulated):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", FOLDER / file]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": simulated}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
