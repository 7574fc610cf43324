"""BLAS on one thread, for kernels whose own threads call it.

Threads of BLAS and of Numba side by side wait for each other's time slices: a product of 2 ms right after a parallel
kernel took 10 ms and more on two cores. So layers call BLAS from inside Numba's threads, one product per thread, which
also makes results independent of the number of threads.
"""

import ctypes
import importlib
import threading

_NAMES = ("scipy_openblas_{}_num_threads", "openblas_{}_num_threads", "scipy_openblas_{}_num_threads64_")


class _OneThread:
    """Context manager: while anyone is inside, the BLAS that ``np.dot`` uses under Numba (SciPy's) has one thread.

    A BLAS other than OpenBLAS is left as it is: results are right then, just slower where it starts threads of its own.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._inside = 0
        self._threads = 1
        self._get = self._set = None

    def __enter__(self):
        with self._lock:
            if self._get is None:
                self._get, self._set = _controls()
            if self._inside == 0:
                self._threads = self._get()
                self._set(1)
            self._inside += 1

    def __exit__(self, *error):
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._set(self._threads)


def _controls():
    """The functions that get and set OpenBLAS's number of threads, or stand-ins where there is no OpenBLAS."""
    module = importlib.import_module("scipy.linalg.cython_blas")
    library = ctypes.CDLL(module.__file__)  # a symbol is looked for in the libraries it depends on, too
    for name in _NAMES:
        get, set_ = (getattr(library, name.format(verb), None) for verb in ("get", "set"))
        if get is not None and set_ is not None:
            return get, set_
    return (lambda: 1), (lambda threads: None)


one_thread = _OneThread()
