"""The one import of numba-cuda: how its compiler is used, and memory on the device.

In the simulator (``NUMBA_ENABLE_CUDASIM=1``) kernels run as Python threads, and all memory is the host's.
"""

import numpy as np
from numba import cuda as numba_cuda

SIMULATED = bool(numba_cuda.config.ENABLE_CUDASIM)

if SIMULATED:
    from numba.cuda.simulator.kernel import _get_kernel_context

    class _Simulated:
        """The names in ``cuda`` that a running kernel sees.

        The simulator puts them into a helper's module while it runs, and takes them away under other threads in it.
        """

        def __getattr__(self, name):
            return getattr(_get_kernel_context(), name)

    cuda = _Simulated()
else:
    cuda = numba_cuda


def device(function):
    """Compile a helper that kernels call."""
    return function if SIMULATED else numba_cuda.jit(device=True)(function)


def kernel(function):
    """Compile a kernel for the types that it is launched with."""
    return numba_cuda.jit(function)


def empty(size, dtype):
    """Memory on the device for so many elements."""
    return np.full(size, np.nan, dtype) if SIMULATED else numba_cuda.device_array(size, dtype)


def upload(array):
    """A contiguous array's elements on the device."""
    return array.ravel().copy() if SIMULATED else numba_cuda.to_device(array.ravel())


def download(memory, out):
    """``out``, an array of the same size, with what ``upload`` or ``empty`` gave copied in."""
    out[...] = (memory if SIMULATED else memory.copy_to_host()).reshape(out.shape)
    return out
