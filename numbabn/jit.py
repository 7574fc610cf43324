"""How this package uses Numba: flags, cache, threads. Importing it imports Numba; compiling waits for a first call.

``device`` compiles a helper that kernels call. ``kernel`` compiles a function whose ``prange`` loop is spread over
threads, in two versions: a parallel one, and a serial one for arrays too small to be worth waking threads for and for
the places where threads cannot be used. Both give bitwise the same results, since the shape alone decides which sums
are added in which order.
"""

import functools
import hashlib
import threading
from functools import partial
from pathlib import Path
from types import FunctionType

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from .forks import forked

FLAGS = {"nogil": True, "error_model": "numpy"}

SERIAL_BELOW = 65_536
"""Elements below which a call stays on one thread. Forward in training, float32, one thread against two (two cores of
an AVX-512 Xeon): (8, 16, 256) 18 and 19 us, (8, 32, 256) 33 and 25; (1024, 32) 26 and 34, (256, 256) 55 and 49."""


def _compile(function, **flags):
    """``numba.njit`` with this package's flags, cached."""
    return cached(partial(numba.njit, **FLAGS, **flags), function)


def cached(jit, function):
    """What a decorator of Numba's makes of a function, cached on disk where some folder can be written.

    Numba's cache notices changes in the file of a function, not in the files that it calls into. So these, the files
    beside it and those of the backends, become part of the function's name, by which the cache knows it.
    """
    function = _renamed(function, _digest(Path(function.__code__.co_filename).parent))
    try:
        return jit(cache=True)(function)
    except RuntimeError as error:  # Numba found no folder for its cache
        if "no locator available" not in str(error):
            raise
        return jit()(function)


@functools.cache
def _digest(folder):
    """Some letters that stand for the sources in a folder, this file and the backends (``cuda`` for its own alone)."""
    here = Path(__file__)
    sources = {*folder.glob("*.py"), here, *here.with_name("backends").rglob("*.py")}
    digest = hashlib.sha256()
    for source in sorted(source for source in sources if source.parent == folder or source.parent.name != "cuda"):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:8]


def device(function):
    """Compile a helper for use inside kernels, and only there: it has no way in from Python."""
    return numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **FLAGS)(function)


@intrinsic
def noinline(typingctx):
    """Said first in a device function: let it be machine code of its own, not a copy in each of its callers.

    Numba optimises a function with all that it calls, and each of those once more in their callers. For a loop that
    runs long, a call costs nothing beside it. It took a quarter off the time to compile the forward kernel of ``rows``.
    """

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


def shared(function):
    """Let kernels call ``function`` too; for Python it stays the plain function that it is."""
    return register_jitable(error_model="numpy")(function)


@device
def share(tasks, thread, threads):
    """First of a thread's tasks and the one behind its last: neighbours, which can hand data on in its caches."""
    thread = np.intp(thread)  # a prange index is unsigned, and would make these numbers float64
    return tasks * thread // threads, tasks * (thread + 1) // threads


@intrinsic
def _all_threads(typingctx):
    """What ``numba.get_num_threads`` gives, by the function that Numba's parallel loops ask: that can be cached."""

    def codegen(context, builder, signature, args):
        integer = context.get_value_type(types.intp)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(integer, []), "get_num_threads")
        return builder.call(function, [])

    return types.intp(), codegen


@device
def thread_count(threads):
    """Number of threads to use, where None is all that Numba has. Asked here, as Python takes microseconds for it."""
    return _all_threads() if threads is None else threads


@shared
def ceil_div(a, b):
    """``a / b``, rounded up."""
    return (a + b - 1) // b


class kernel:
    """A function with a ``prange`` loop, callable with arrays; the first argument's size tells the work.

    Where that misleads, a call says ``work=`` instead: how many elements of batch norm would take as long.

    A last parameter called ``threads`` is given 1 in the serial version, else None: see ``thread_count``.

    Examples
    --------
    >>> import numpy as np
    >>> from numba import prange
    >>> @kernel
    ... def double(x, out):
    ...     for i in prange(x.size):
    ...         out[i] = 2 * x[i]
    >>> x, out = np.arange(3.0), np.empty(3)
    >>> double(x, out)
    >>> out
    array([0., 2., 4.])
    """

    def __init__(self, function):
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.parallel = _compile(function, parallel=True)
        self.serial = _compile(_renamed(function, "serial"))
        self.takes_threads = function.__code__.co_varnames[function.__code__.co_argcount - 1] == "threads"

    def __call__(self, *args, work=None):
        if (args[0].size if work is None else work) < SERIAL_BELOW or not _threads.enter():
            return self.serial(*args, 1) if self.takes_threads else self.serial(*args)
        try:
            return self.parallel(*args, None) if self.takes_threads else self.parallel(*args)
        finally:
            _threads.leave()


def _renamed(function, suffix):
    """The same function under another name: Numba's cache tells functions apart by name, not by flags."""
    name = f"{function.__name__}_{suffix}"
    twin = FunctionType(function.__code__, function.__globals__, name, function.__defaults__, function.__closure__)
    twin.__module__ = function.__module__
    twin.__qualname__ = f"{function.__qualname__}_{suffix}"
    return twin


class _Threads:
    """Whether threads may be used now.

    Numba's ``workqueue`` layer aborts the process when two Python threads enter it at once, so there one caller at a
    time gets the threads and others run serially, as everyone does in a forked child.
    """

    def __init__(self):
        self.layer = None
        self.lock = threading.Lock()

    def enter(self):
        if forked():
            return False
        if self.layer is None:
            self._start()
        return self.layer != "workqueue" or self.lock.acquire(blocking=False)

    def leave(self):
        if self.layer == "workqueue":
            self.lock.release()

    def _start(self):
        with self.lock:
            numba.get_num_threads()  # starts the layer, so that it can be asked for
            self.layer = numba.threading_layer()


_threads = _Threads()


def most_threads() -> int:
    """Upper bound of thread numbers. Asking starts the threads: kernels loaded from the cache crash otherwise."""
    return max(numba.get_num_threads(), numba.config.NUMBA_NUM_THREADS)


def threading_layer():
    """Name of Numba's threading layer: ``"tbb"``, ``"omp"`` or ``"workqueue"``. Starts it if need be."""
    if _threads.layer is None:
        _threads._start()
    return _threads.layer
