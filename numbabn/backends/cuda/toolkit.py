"""What the backend needs of numba-cuda: how its compiler is used, kernels are launched, and memory is had.

In the simulator (``NUMBA_ENABLE_CUDASIM=1``) kernels run as Python threads, and the device's memory is the host's.
"""

import functools
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from cuda.core.utils import StridedMemoryView
from numba import cuda as numba_cuda

from ...jit import cached
from ...places import BFLOAT16, where

SIMULATED = bool(numba_cuda.config.ENABLE_CUDASIM)
LEGACY_STREAM = 1
"""The handle of the default stream where one must be named."""

PER_THREAD = {2, 0} if int(os.environ.get("CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM") or 0) else {2}
"""Handles of the default stream that each thread has for itself: CU_STREAM_PER_THREAD, and 0 where that variable lets
cuda.bindings take it for that one."""


class Card(NamedTuple):
    """What launches depend on. Teams are cut by it, so that last bits may differ between kinds of cards; on one they
    never do."""

    shared_memory: int
    """Bytes of it that a block may ask for."""
    multiprocessors: int
    """Most blocks of a team: 1 where blocks cannot be launched so as to run at the same time."""


def device(function):
    """Compile a helper that kernels call."""
    return function if SIMULATED else numba_cuda.jit(device=True)(function)


def kernel(function):
    """Compile a kernel for the types that it is launched with, or load it from Numba's cache."""
    from .policy import BLOCKS_EACH, THREADS  # which asks whether this is the simulator

    if SIMULATED:
        return numba_cuda.jit(function)
    return cached(functools.partial(numba_cuda.jit, launch_bounds=(THREADS, BLOCKS_EACH)), function)


def upload(array):
    """A copy of a contiguous array on the device."""
    return numba_cuda.to_device(array)


def reachable(value):
    """Whether kernels can read an object's memory. (All but NumPy's arrays play device arrays in the simulator.)"""
    return not isinstance(value, np.ndarray) if SIMULATED else where(value) == "cuda"


def from_dlpack(array, stream):
    """A view with ``ptr``, ``shape``, ``strides`` in elements, ``dtype`` and ``device_id``."""
    return StridedMemoryView.from_dlpack(array, stream_ptr=-1 if SIMULATED else stream)


if SIMULATED:
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray
    from numba.cuda.simulator.kernel import BlockManager, _get_kernel_context, _push_kernel_context
    from numba.cuda.simulator.kernelapi import FakeCUDAModule

    class _Simulated:
        """The names in ``cuda`` that a running kernel sees.

        The simulator puts them into a helper's module while it runs, and takes them away under other threads in it.
        """

        def __getattr__(self, name):
            return getattr(_get_kernel_context(), name)

    cuda = _Simulated()

    class Block(BlockManager):
        """A block that runs, and what its threads share."""

        def __init__(self, kernel, grid, threads, shared_bytes):
            super().__init__(kernel, grid, threads, False)
            self.shared_bytes = shared_bytes
            self.arrays = {}
            self.waits_since = None

    def current_block():
        """The block that the current thread belongs to."""
        return threading.current_thread()._manager

    def simulated(kernel, blocks, threads, shared_bytes, team):
        """A function of the arguments that runs a kernel: one block after the other, or two teams at a time."""
        together = 2 * team if team > 1 else 1
        grid = (min(blocks, together) if team > 1 else blocks), 1, 1
        silent = np.errstate(all="ignore")(kernel.py_func)  # as a card is

        def run(block, arguments):
            Block(silent, grid, (threads, 1, 1), shared_bytes).run((block, 0, 0), *arguments)

        def launch(*arguments):
            context = _push_kernel_context(FakeCUDAModule(grid, (threads, 1, 1), 0))
            with context, quick_turns(), ThreadPoolExecutor(together) as pool:
                for finished in [pool.submit(run, block, arguments) for block in range(grid[0])]:
                    finished.result()

        return launch

    @contextmanager
    def quick_turns():
        """Let threads take turns more often than every 5 ms, as much as all of them have to do."""
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            yield
        finally:
            sys.setswitchinterval(before)

    def zero(memory, stream):
        """Let all bits of an array be 0."""
        np.asarray(memory).view(np.uint8)[...] = 0

    def lasting_number(stream):
        """A stream's number."""
        return stream

    def lasting_array(shape, dtype):
        """A new array that stays where it is for good."""
        return device_array(shape, dtype)

    def interface(array):
        """What ``__cuda_array_interface__`` tells; AttributeError if there is none."""
        if hasattr(array, "__cuda_array_interface__") or isinstance(array, np.ndarray):
            return array.__cuda_array_interface__
        return array.__array_interface__

    def device_array(shape, dtype, strides=None):
        """A new array; every bit is set, which is a NaN in all dtypes."""
        memory = np.full(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, 0xFF, np.uint8)
        return FakeCUDAArray(np.ndarray(shape, dtype, memory, strides=strides))

    def on_stream(array, stream):
        """A new array of Numba's that tells on which stream it is written."""
        return array

    def to_dlpack(array):
        """Something whose ``__dlpack__`` hands out a device array."""
        return array._ary

    def device_of(array, address):
        """Number of the device that an array is on."""
        return getattr(array, "device_number", 0)

    def current_device():
        """Number of the device that this thread uses."""
        return 0

    def card(device):
        """What launches on a device depend on."""
        return Card(shared_memory=1 << 20, multiprocessors=8)

    def synchronize(stream):
        """Wait for all that was launched on a stream."""

else:
    from cuda.bindings import driver
    from cuda.core import LaunchConfig, Stream
    from cuda.core import launch as launch_on

    cuda = numba_cuda

    def interface(array):
        """What ``__cuda_array_interface__`` tells; AttributeError if there is none."""
        return array.__cuda_array_interface__

    def device_array(shape, dtype, strides=None):
        """A new array."""
        return numba_cuda.device_array(shape, dtype, strides=strides)

    def on_stream(array, stream):
        """A new array of Numba's that tells on which stream it is written."""
        silent = isinstance(array, numba_cuda.devicearray.DeviceNDArray) and not array.stream
        return array.bind(numba_cuda.external_stream(stream)) if stream and silent else array

    def to_dlpack(array):
        """Something whose ``__dlpack__`` hands out a device array."""
        view = StridedMemoryView.from_cuda_array_interface(array, stream_ptr=-1)
        return view.view(dtype=np.dtype("bfloat16")) if array.dtype == BFLOAT16 else view

    def device_of(array, address):
        """Number of the device that an array is on."""
        if not address:
            return current_device()  # of an array without elements
        return _asked(
            driver.cuPointerGetAttribute, driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address
        )

    def current_device():
        """Number of the device that this thread uses; the first one if it has used none."""
        status, number = driver.cuCtxGetDevice()
        return numba_cuda.get_current_device().id if status else int(number)

    @functools.cache
    def card(device):
        """What launches on a device depend on."""

        def ask(name):
            attribute = getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
            return _asked(driver.cuDeviceGetAttribute, attribute, device)

        copies = ask("COMPUTE_CAPABILITY_MAJOR") >= 8  # past the registers; without them, nothing is held on chip
        together = ask("COOPERATIVE_LAUNCH")
        return Card(
            shared_memory=ask("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN") if copies else 0,
            multiprocessors=ask("MULTIPROCESSOR_COUNT") if together else 1,
        )

    def zero(memory, stream):
        """Let all bits of an array be 0."""
        _asked(driver.cuMemsetD8Async, memory.address, 0, memory.nbytes, stream)

    def lasting_number(stream):
        """The number of a stream, which is another one's at no time, where its launches run on it, one after the other.

        None of a handle that each thread knows another stream by, and of a stream that is being recorded, to be played
        on others.
        """
        if stream in PER_THREAD or _asked(driver.cuStreamIsCapturing, stream):
            return None
        return int(_asked(driver.cuStreamGetId, stream))

    def lasting_array(shape, dtype):
        """A new array that stays where it is for good, even if other threads' streams are being recorded meanwhile."""
        relaxed = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        before = _asked(driver.cuThreadExchangeStreamCaptureMode, relaxed)
        try:
            return device_array(shape, dtype)
        finally:
            _asked(driver.cuThreadExchangeStreamCaptureMode, before)

    def synchronize(stream):
        """Wait for all that was launched on a stream."""
        _asked(driver.cuStreamSynchronize, stream)

    def _asked(function, *arguments):
        """The answer of the driver, whose errors become exceptions."""
        status, *answer = function(*arguments)
        if status:
            raise RuntimeError(f"{function.__name__} failed: {status.name}")
        return answer[0] if answer else None

    def prepared(kernel, types, blocks, threads, shared_bytes, team):
        """A function of the stream, the memory and the numbers that launches a kernel on the current device.

        Compiling it, or loading it from the cache, is done before. What blocks hold on chip must be allowed for, for
        all the shapes that a kernel is launched for: as much as there is, the L1 cache's share, too. Of teams as many
        are launched as can be resident, with all their blocks, so that none waits for a block that has not begun; they
        then take turns with the channels.
        """
        known, device = kernel.compile(types)._codelibrary.get_cufunc(), current_device()
        if shared_bytes:
            rest = card(device).shared_memory - known.attrs.shared
            for name, value in (("MAX_DYNAMIC_SHARED_SIZE_BYTES", rest), ("PREFERRED_SHARED_MEMORY_CARVEOUT", 100)):
                attribute = getattr(driver.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
                _asked(driver.cuKernelSetAttribute, attribute, value, known.handle, device)
        if team > 1:
            resident = known.kernel.occupancy.max_active_blocks_per_multiprocessor(threads, shared_bytes)
            resident *= card(device).multiprocessors
            if resident < team:
                raise RuntimeError(f"only {resident} blocks of {kernel.__name__} are resident; a team has {team}")
            blocks = min(blocks, resident // team * team)
        config = LaunchConfig(
            grid=(blocks, 1, 1), block=(threads, 1, 1), shmem_size=shared_bytes, is_cooperative=team > 1
        )

        def launch(stream, memories, numbers):
            addresses = [memory.address for memory in memories]
            launch_on(_stream(stream, device), config, known.kernel, *addresses, *numbers)

        return launch

    @functools.lru_cache(maxsize=64)
    def _stream(handle, device):
        """A stream, which remembers its device: the default ones are of each."""
        return Stream.from_handle(handle)
