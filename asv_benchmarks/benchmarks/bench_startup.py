"""What a user waits for before the arrays matter: importing, the first call of a process, the call itself."""

import numpy as np
from tolerance import check, tolerance

import numbabn as nbn

from .problems import TINY_CASES, checked

FIRST_CALL = """
import numpy as np
import numbabn as nbn
x = np.linspace(-1, 1, {size}, dtype=np.float32).reshape({shape})
y = nbn.batch_norm(x, training=True)
"""
SHAPES = {"one thread": (8, 16, 8, 8), "all threads": (32, 64, 28, 28)}


def timeraw_import():
    return "import numbabn"


timeraw_import.repeat = (3, 10, 5.0)


class FirstCall:
    """A new process: import NumPy and numbabn, load compiled kernels from Numba's cache on disk, call."""

    params = (list(SHAPES),)
    param_names = ("runs_on",)
    timeout = 300
    repeat = (3, 10, 10.0)

    def setup(self, runs_on):
        """Run it here first, which fills the cache."""
        scope = {}
        exec(self.timeraw_import_and_first_call(runs_on), scope)
        x, y = scope["x"], scope["y"]
        expected = nbn.batch_norm(x.astype(np.float64), training=True, backend="reference")
        check("first call: y", y, expected, np.max(np.abs(expected)), tolerance(x.dtype, x.size // x.shape[1]))

    def timeraw_import_and_first_call(self, runs_on):
        shape = SHAPES[runs_on]
        return FIRST_CALL.format(size=int(np.prod(shape)), shape=shape)


class _Tiny:
    """A whole public call, its results in fresh memory."""

    params = (list(TINY_CASES),)
    param_names = ("case",)
    timeout = 300
    repeat = (50, 2000, 1.0)


class TinyForward(_Tiny):
    def setup(self, case):
        self.problem = checked("forward", TINY_CASES[case], "float32", reuse=False)

    def time_forward(self, case):
        self.problem.forward()


class TinyInference(_Tiny):
    def setup(self, case):
        self.problem = checked("inference", TINY_CASES[case], "float32", reuse=False)

    def time_inference(self, case):
        self.problem.inference()


class TinyBackward(_Tiny):
    def setup(self, case):
        self.problem = checked("backward", TINY_CASES[case], "float32", reuse=False)

    def time_backward(self, case):
        self.problem.backward()
