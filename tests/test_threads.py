"""The same bits whatever the number of threads, in any thread, in a forked child and without a cache."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import CASES, operands

import numbabn as nbn
from numbabn import jit

BITS = """
import hashlib, sys
import numba, numpy as np
sys.path.insert(0, {tests!r})
from cases import CASES, EPILOGUES, operands
import numbabn as nbn
from numbabn import jit

def bits(case, dtype):
    given = operands(case).astype(dtype)
    x, dy, residual = (case.place(a) for a in (given.x, given.dy, given.residual))
    digest = hashlib.sha256()
    for training in (True, False):
        for activation, with_residual in EPILOGUES:
            running = given.running_mean.copy(), given.running_var.copy()
            y, context = nbn.batch_norm_forward(
                x, given.gamma, given.beta, *running, training=training, axis=case.axis, activation=activation,
                residual=residual if with_residual else None,
            )
            grads = nbn.batch_norm_backward(dy, context)
            for a in (y, *running, context.mean, context.var, *grads):
                digest.update(b"" if a is None else a.tobytes())
    for a in nbn.batch_stats(x, axis=case.axis)[:2]:
        digest.update(a.tobytes())
    return digest.hexdigest()

jit.SERIAL_BELOW = 0
for case in CASES:
    for dtype in ("float32", "float64"):
        seen = set()
        for threads in (1, 2, 5):
            numba.set_num_threads(threads)
            seen.add(bits(case, dtype))
        print(case.name, dtype, len(seen), seen.pop())
"""


def run_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def five_threads():
    return run_python(BITS.format(tests=os.path.dirname(__file__)), NUMBA_NUM_THREADS="5")


def test_bits_do_not_depend_on_the_number_of_threads(five_threads):
    counts = {line.split()[2] for line in five_threads.splitlines()}
    assert len(five_threads.splitlines()) == 2 * len(CASES)
    assert counts == {"1"}, five_threads


def test_serial_kernels_give_the_same_bits(five_threads, monkeypatch):
    """Each kernel is compiled twice, with and without threads."""
    monkeypatch.setattr(jit, "SERIAL_BELOW", sys.maxsize)
    namespace = {}
    exec(BITS.format(tests=os.path.dirname(__file__)).partition("\njit.SERIAL")[0], namespace)
    expected = {tuple(line.split()[:2]): line.split()[3] for line in five_threads.splitlines()}
    actual = {(c.name, d): namespace["bits"](c, d) for c in CASES for d in ("float32", "float64")}
    assert actual == expected


def test_many_python_threads_at_once():
    given = operands(next(case for case in CASES if case.name == "NCHW-parallel")).astype("float32")
    expected = nbn.batch_norm(given.x, training=True)
    with ThreadPoolExecutor(8) as pool:
        for y in pool.map(lambda _: nbn.batch_norm(given.x, training=True), range(200)):
            np.testing.assert_array_equal(y, expected)


CONCURRENT = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import numbabn as nbn
from numbabn import jit
x = np.random.default_rng(0).normal(size=(32, 16, 20, 20))
expected = nbn.batch_norm(x, training=True)
with ThreadPoolExecutor(8) as pool:
    same = [np.array_equal(y, expected) for y in pool.map(lambda _: nbn.batch_norm(x, training=True), range(100))]
print(jit.threading_layer(), all(same))
"""


def test_workqueue_survives_concurrent_callers():
    """Numba's workqueue layer aborts the process when two threads enter it: one must go serial."""
    assert run_python(CONCURRENT, NUMBA_THREADING_LAYER="workqueue").split() == ["workqueue", "True"]


FIRST_CALLS = """
import threading
import numpy as np
import numbabn as nbn
x = np.random.default_rng(0).normal(size=(32, 16, 20, 20))
together = threading.Barrier(4)
def call():
    together.wait()
    nbn.batch_stats(x)
threads = [threading.Thread(target=call) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("alive")
"""


def test_workqueue_survives_concurrent_first_calls():
    assert run_python(FIRST_CALLS, NUMBA_THREADING_LAYER="workqueue").strip() == "alive"


FORK_AFTER_OTHERS = """
import os
import numba, numpy as np
@numba.njit(parallel=True)
def somebody_elses(x):
    for i in numba.prange(x.size):
        x[i] = i
somebody_elses(np.zeros(100))
import numbabn as nbn
child = os.fork()
if child == 0:
    os._exit(0 if nbn.batch_norm(np.ones((9000, 8)), training=True).any() else 0)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_child_of_a_process_whose_threads_others_started():
    assert run_python(FORK_AFTER_OTHERS).strip() == "0"


FORK = """
import os, sys
import numpy as np
import numbabn as nbn
x = np.random.default_rng(0).normal(size=(32, 16, 20, 20))
expected = nbn.batch_norm(x, training=True)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(nbn.batch_norm(x, training=True), expected) else 3)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_forked_child(layer):
    if layer == "omp":
        pytest.importorskip("numba.np.ufunc.omppool")
    assert run_python(FORK, NUMBA_THREADING_LAYER=layer).strip() == "0"


WARM = """
import numpy as np
import numbabn as nbn
from numbabn import jit
from numbabn.backends.cpu import few, planes, rows
nbn.warmup()
def compiled():
    functions = [f for module in (few, planes, rows) for f in vars(module).values()]
    kernels = [f for f in functions if isinstance(f, jit.kernel)]
    return sum(len(k.serial.signatures) + len(k.parallel.signatures) for k in kernels)
before = compiled()
shapes = (4, 10), (2, 9000), (2, 9000, 2, 2), (8, 16, 8, 8), (8, 16, 3, 3), (32, 10), (3, 1, 300, 300), (9000, 8)
for shape in (*shapes, (64, 16, 28, 28), (64, 64, 3, 3)):
    x = np.random.default_rng(0).normal(size=shape).astype("f4")
    for training in (True, False):
        _, context = nbn.batch_norm_forward(x, None, None, np.zeros(shape[1]), np.ones(shape[1]), training=training)
        nbn.batch_norm_backward(x, context)
    nbn.batch_stats(x)
print(before > 0, compiled() - before)
"""


def test_after_warmup_nothing_is_left_to_compile():
    assert run_python(WARM).split() == ["True", "0"]


UNCACHED = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
import numpy as np
import numbabn as nbn
print(nbn.batch_norm(np.array([[1.0], [3.0]]), training=True, eps=0.0).ravel())
"""


def test_without_any_cache_folder():
    assert run_python(UNCACHED).strip() == "[-1.  1.]"
