"""Results are bitwise the same for any number of threads, and BLAS gets its own back."""

import ctypes
import subprocess
import sys

import pytest
import scipy

from numbabn.nn import blas

PROGRAM = """
import hashlib, numpy as np
from numbabn import nn
rng = np.random.default_rng(0)
model = nn.Sequential(
    nn.Conv2d(3, 24, 3, padding=1, bias=False, rng=rng), nn.BatchNorm(24), nn.ReLU(),
    nn.MaxPool2d(3, stride=2, padding=1),
    nn.Residual(nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, rng=rng), nn.BatchNorm(24))),
    nn.Conv2d(24, 40, 1, stride=2, rng=rng), nn.ReLU(), nn.Flatten(), nn.Linear(40 * 8 * 8, 10, rng=rng),
)
loss, optimizer = nn.CrossEntropy(), nn.SGD(model, 0.01, momentum=0.9)
x, labels = rng.standard_normal((40, 3, 32, 32), dtype=np.float32), rng.integers(0, 10, 40)
digest = hashlib.sha256()
for _ in range(3):
    loss.forward(model.forward(x, training=True), labels)
    digest.update(np.ascontiguousarray(model.backward(loss.backward())).tobytes())
    optimizer.step()
for value in model.state_dict().values():
    digest.update(value.tobytes())
print(digest.hexdigest())
"""


def test_training_is_the_same_for_any_number_of_threads(monkeypatch):
    digests = set()
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
        digests.add(result.stdout)
    assert len(digests) == 1


def test_blas_gets_its_threads_back(monkeypatch):
    threads = [6]
    monkeypatch.setattr(blas, "_controls", lambda: (lambda: threads[-1], threads.append))
    one_thread = blas._OneThread()
    with one_thread, one_thread:
        assert threads == [6, 1]
    assert threads == [6, 1, 6]


def test_the_controls_found_are_those_of_openblas():
    name = scipy.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    if "openblas" not in name:
        pytest.skip(f"SciPy's BLAS is {name}, not OpenBLAS")
    get, set_ = blas._controls()
    assert isinstance(get, ctypes._CFuncPtr)
    assert isinstance(set_, ctypes._CFuncPtr)
    before = get()
    try:
        set_(3)
        assert get() == 3
        with blas.one_thread:
            assert get() == 1
        assert get() == 3
    finally:
        set_(before)
    assert get() == before


def test_a_small_layer_alone_in_a_fresh_process():
    """Its kernels come from the cache, and ask for the thread they run on before any threads were started."""
    call = "nn.Conv2d(3, 2, 3).forward(np.ones((1, 3, 4, 4), 'f4'), training=True)"
    code = f"import numpy as np; from numbabn import nn; {call}"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_without_spinning_unless_told_to(monkeypatch, before, after):
    if before:
        monkeypatch.setenv("OMP_WAIT_POLICY", before)
    else:
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    code = "import os, sys; import numbabn.nn; print(os.environ['OMP_WAIT_POLICY'], 'numba' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [after, "False"]
