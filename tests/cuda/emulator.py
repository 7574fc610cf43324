"""A card that is not there: the code that kernels are compiled to, run by this machine's processor.

What LLVM is given for the device is compiled for the host instead, so that all but NVVM and the assembler takes part:
types, intrinsics, arguments of launches, the numbers of ``policy``. One thread runs at a time, until it has to wait.
Threads and blocks take turns in random order, copies onto the chip are made where they are waited for, what nobody has
written is NaN, and past an array's last 16 bytes nothing may be touched. Importing this lets ``numbabn`` find a card,
so that ``PYTHONPATH=tests:tests/cuda python -m pytest -p emulator -m gpu tests/test_gpu.py`` runs the tests for one.
All 2,500 take long, those of ``-k "NCL-pieces and float32 and all_ways"`` half a minute. It needs an x86-64 processor
and the C library of GNU.

What it cannot show: blocks that are no team run one after the other, memory has one order for all, a copy is never
early, and products are not contracted with sums where NVVM does so.
"""

import ctypes
import importlib
from collections import defaultdict
from functools import cache
from types import SimpleNamespace

import numpy as np
from guarded import PAGES, C, Pages
from on_host import AT_BARRIER, CHIP, COPIES, COPY, ENDED, FULL, POLLS, READY, SHARED_MEMORY, THREAD, Code

from numbabn.backends.cuda import counters, toolkit
from numbabn.backends.cuda.policy import BLOCKS_EACH

MULTIPROCESSORS = 8
"""Of the card, on each of which there are at most BLOCKS_EACH blocks."""

UNASKED = 48 << 10
"""Bytes of shared memory that a block may have without having asked for them."""

STACK, CONTEXT = 64 << 10, 1024
"""Bytes of a fiber's stack, and of its registers."""

C.getcontext.argtypes = (ctypes.c_void_p,)
C.makecontext.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int

RNG = np.random.default_rng(0)
SCHEDULER = Pages(CONTEXT)


class Fibers:
    """Stacks and registers of a block's threads, and what these know."""

    def __init__(self, threads):
        self.stacks, self.contexts = np.empty((threads, STACK), np.uint8), np.zeros((threads, CONTEXT), np.uint8)
        self.copies, self.threads = np.empty((threads, COPIES), COPY), np.zeros(threads, THREAD)
        self.threads["context"], self.threads["copies"] = _rows(self.contexts), _rows(self.copies)
        self.threads["number"] = np.arange(threads)
        for stack, context in zip(_rows(self.stacks), _rows(self.contexts), strict=True):
            C.getcontext(context)
            # ucontext_t: flags, what follows, and the stack's address, flags and size
            (ctypes.c_uint64 * 5).from_address(context)[1:] = 0, stack, 0, STACK


IDLE = defaultdict(list)
"""Fibers that no block needs any more, by their number."""


class Block:
    """A block that runs: its threads, and what they share."""

    def __init__(self, code, number, blocks, threads, shared_bytes):
        self.code = code
        self.memory = [*code.shared, CHIP.bytes[:shared_bytes]]
        self.images = [np.full(memory.size, 0xFF, np.uint8) for memory in self.memory]
        self.fibers = IDLE[threads].pop() if IDLE[threads] else Fibers(threads)
        self.threads = self.fibers.threads
        self.addresses = np.array(_rows(self.threads), np.uint64)
        self.threads["block"], self.threads["blocks"], self.threads["state"] = number, blocks, READY
        for context in self.threads["context"].tolist():
            C.makecontext(context, code.entry, 0)

    def advance(self):
        """Run until nothing is left but to poll; tell whether all threads have ended, and if any did more than poll."""
        for memory, image in zip(self.memory, self.images, strict=True):
            memory[:] = image
        state, more = self.threads["state"], False
        while True:
            more |= (state == READY).any()
            self._resume(np.flatnonzero((state == READY) | (state == POLLS)))
            if (state == FULL).any():
                raise RuntimeError(f"{self.code.name}: a thread begins more than {COPIES} copies before it waits")
            if (state == ENDED).all() or (state == POLLS).any():
                break
            if (state == ENDED).any():
                raise RuntimeError(f"{self.code.name}: threads wait for others of their block that have ended")
            assert (state == AT_BARRIER).all()
            state[:] = READY
        assert not self.threads["askew"].any(), "what is copied is not aligned"
        for memory, image in zip(self.memory, self.images, strict=True):
            image[:] = memory
        ended = (state == ENDED).all()
        if ended:
            self._leave()
        return ended, more

    def _resume(self, able):
        """Let threads run until they wait for others, in random order; after one that polls, the rest may be late."""
        waiting = self.addresses[RNG.permutation(able)]
        while waiting.size:
            waiting = waiting[self.code.resume(waiting.ctypes.data, waiting.size) :]
            if RNG.random() < 0.5:
                break

    def _leave(self):
        """Leave the fibers to other blocks."""
        if self.threads["begun"].any():
            raise RuntimeError(f"{self.code.name}: a thread has ended, and has not waited for what it copies")
        IDLE[self.threads.size].append(self.fibers)


def _rows(array):
    """The addresses of an array's rows."""
    return range(array.ctypes.data, array.ctypes.data + array.nbytes, array.strides[0])


def run(code, blocks, threads, shared_bytes, together, arguments):
    """Run a kernel's blocks, so many at a time."""
    packed = np.zeros(len(arguments), np.uint64)
    for place, value in enumerate(arguments):
        value = {int: ctypes.c_int64, float: ctypes.c_double}[type(value)](value)  # as cuda.core takes these
        ctypes.memmove(packed[place:].ctypes.data, ctypes.byref(value), ctypes.sizeof(value))
    code.arguments.value, code.scheduler.value = packed.ctypes.data, SCHEDULER.address
    CHIP.bytes[:] = 0xFF
    numbers = RNG.permutation(blocks)
    for first in range(0, blocks, together):
        running = [Block(code, number, blocks, threads, shared_bytes) for number in numbers[first : first + together]]
        while running:
            ended, more = zip(*(block.advance() for block in running), strict=True)
            if not any(more):
                raise RuntimeError(f"{code.name}: blocks wait for others for ever")
            running = [block for block, done in zip(running, ended, strict=True) if not done]
            RNG.shuffle(running)
    for around in ((CHIP.bytes[shared_bytes:],), *(pages.around for pages in PAGES)):
        assert all((one == 0xFF).all() for one in around), f"{code.name} writes past an array, or what it has on chip"


class Function:
    """A kernel on the card, as cuda.core and the driver know it."""

    def __init__(self, code):
        self.code = code
        self.kernel = self.handle = self.occupancy = self
        self.attrs = SimpleNamespace(shared=sum(memory.size for memory in code.shared))
        self.allowed = UNASKED

    def max_active_blocks_per_multiprocessor(self, threads, shared_bytes):
        taken = 1024  # of each block's shared memory, by the system
        return min(BLOCKS_EACH, (SHARED_MEMORY + taken) // (self.attrs.shared + shared_bytes + taken))

    def launch(self, config, arguments):
        (blocks, *_), (threads, *_) = config.grid, config.block
        if self.attrs.shared + config.shmem_size > self.allowed:
            raise RuntimeError("a block may not have so much shared memory")
        resident = MULTIPROCESSORS * self.max_active_blocks_per_multiprocessor(threads, config.shmem_size)
        if config.is_cooperative and blocks > resident:
            raise RuntimeError("not all blocks are resident")
        try:
            run(self.code, blocks, threads, config.shmem_size, blocks if config.is_cooperative else 1, arguments)
        except BaseException:
            counters._KEPT.clear()  # a launch that stops half way leaves them as they are
            raise


@cache
def loaded(kernel, types):
    """What ``kernel.compile`` returns, as ``toolkit.prepared`` asks for it."""
    function = Function(Code(kernel, types))
    return SimpleNamespace(_codelibrary=SimpleNamespace(get_cufunc=lambda: function))


class Driver:
    """The driver, for one card."""

    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=9,
        CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH=1,
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN=SHARED_MEMORY,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT=MULTIPROCESSORS,
    )
    CUfunction_attribute = SimpleNamespace(
        CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="dynamic",
        CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT="carveout",
    )
    CUpointer_attribute = SimpleNamespace(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL="device")
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_RELAXED="relaxed")

    @staticmethod
    def cuDeviceGetAttribute(attribute, device):
        return 0, attribute  # here they are their own values

    @staticmethod
    def cuKernelSetAttribute(attribute, value, function, device):
        if attribute == "dynamic":
            function.allowed = function.attrs.shared + value
        return (0,)

    @staticmethod
    def cuMemsetD8Async(address, value, size, stream):
        ctypes.memset(address, value, size)
        return (0,)

    @staticmethod
    def cuStreamIsCapturing(stream):
        return 0, 0

    @staticmethod
    def cuThreadExchangeStreamCaptureMode(mode):
        return 0, "global"

    @staticmethod
    def cuStreamGetId(stream):
        return 0, stream

    @staticmethod
    def cuCtxGetDevice():
        return 0, 0

    @staticmethod
    def cuPointerGetAttribute(attribute, address):
        return 0, 0

    @staticmethod
    def cuStreamSynchronize(stream):
        return (0,)


class Array:
    """An array on the card, as if it were Numba's."""

    def __init__(self, array, pages):
        self.array, self.pages = array, pages
        self.shape, self.strides, self.dtype = array.shape, array.strides, array.dtype
        self.__cuda_array_interface__ = {**array.__array_interface__, "stream": None}

    def __getitem__(self, index):
        return Array(self.array[index], self.pages)

    def copy_to_host(self):
        return self.array.copy()


def device_array(shape, dtype, strides=None):
    """A new array; every bit is set."""
    pages = Pages(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
    return Array(np.ndarray(shape, dtype, pages.bytes, strides=strides), pages)


def upload(array):
    """A copy of an array on the card."""
    copy = device_array(array.shape, array.dtype)
    copy.array[...] = array
    return copy


prepared = toolkit.prepared


def prepared_for_the_host(kernel, types, *rest):
    """``toolkit.prepared``, of a kernel that is compiled for the host."""
    on_host = SimpleNamespace(compile=lambda types: loaded(kernel, types), __name__=kernel.__name__)
    return prepared(on_host, types, *rest)


toolkit.driver, toolkit.LaunchConfig = Driver, SimpleNamespace
toolkit.launch_on = lambda stream, config, function, *arguments: function.launch(config, arguments)
toolkit.device_array, toolkit.upload, toolkit.prepared = device_array, upload, prepared_for_the_host
backends = importlib.import_module("numbabn.backends")  # whose name is a function's in the package
backends._cuda_status = lambda: backends.BackendStatus(True, "emulated")
