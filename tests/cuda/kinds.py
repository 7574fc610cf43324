"""Arrays on a device, of each library: how tests make them of NumPy's, and read them.

In the simulator the device's memory is the host's, so that PyTorch's tensors of the CPU can play the device's.
"""

import importlib.util
import sys
from itertools import zip_longest

import numpy as np
from cases import decoded

from numbabn.backends.cuda import cut, toolkit

TYPESTR = {"float32": "<f4", "float64": "<f8", "float16": "<f2", "bfloat16": "<V2", "int32": "<i4"}


def whole(array):
    """All that an array is a window of (or it itself) as it lies in memory, and the bytes to its first element."""
    base = array if array.base is None else array.base
    return base.ravel(order="K"), array.ctypes.data - base.ctypes.data


def windows_of(array, firsts, shapes):
    """Views of a flat array."""
    for first, shape in zip_longest(firsts, shapes, fillvalue=shapes[-1]):
        yield array[first : first + int(np.prod(shape))].reshape(shape)


class Array:
    """Memory on the device that only an interface tells of."""

    def __init__(self, array, dtype, buffer=None, device=0):
        base, self.offset = whole(array)
        self.buffer = buffer or toolkit.upload(np.frombuffer(base.tobytes() or bytes(16), np.uint8))
        self.shape, self.strides, self.dtype, self.device_number = array.shape, array.strides, array.dtype, device
        self.__cuda_array_interface__ = {
            "typestr": TYPESTR[dtype], "shape": array.shape, "strides": array.strides, "version": 3, "stream": None,
            "data": (toolkit.interface(self.buffer)["data"][0] + self.offset, not array.flags.writeable),
        }  # fmt: skip

    def fetch(self):
        return np.ndarray(self.shape, self.dtype, self.buffer.copy_to_host(), self.offset, self.strides)


class Interface:
    """Arrays that only an interface tells of; results are Numba's."""

    def __init__(self):
        self.results = type(toolkit.device_array((1,), np.dtype(np.float32)))

    def send(self, array, dtype):
        """An array on the device that lies in memory as one of NumPy's does, which holds bfloat16 by its bits."""
        return Array(array, dtype)

    def fetch(self, array):
        """A NumPy array of its values."""
        values = array.fetch() if isinstance(array, Array) else array.copy_to_host()
        return decoded(values.view(np.uint16) if values.dtype == np.dtype("V2") else values)

    def windows(self, base, firsts, *shapes):
        """Arrays of some shapes, the last of which counts for others, at elements of one copy of a float32 array."""
        views = list(windows_of(base, firsts, shapes))
        first = Array(views[0], "float32")
        return [first, *(Array(view, "float32", first.buffer) for view in views[1:])]

    def strided(self, pairs):
        """The first column of a float32 array's copy."""
        return Array(pairs[:, 0], "float32")


class Torch:
    """PyTorch's tensors: of the CPU in the simulator, and said to be on a device."""

    def __init__(self):
        self.torch = importlib.import_module("torch")
        self.results = self.torch.Tensor
        self.given = type("OnDevice", (self.torch.Tensor,), {"is_cuda": True})
        self.device = "cpu" if toolkit.SIMULATED else "cuda"

    def claim(self, tensor):
        """The tensor, said to be on a device."""
        return tensor.as_subclass(self.given) if toolkit.SIMULATED else tensor

    def _placed(self, array):
        return self.claim(self.torch.from_numpy(array.copy()).to(self.device))

    def send(self, array, dtype):
        if dtype == "bfloat16":
            array = array.view(np.int16)  # PyTorch's uint16 lacks most operations
        base, offset = whole(array)
        steps = [step // array.itemsize for step in array.strides]
        tensor = self.torch.as_strided(self._placed(base), array.shape, steps, offset // array.itemsize)
        return tensor.view(self.torch.bfloat16) if dtype == "bfloat16" else tensor

    def fetch(self, array):
        return array.as_subclass(self.torch.Tensor).cpu().double().numpy()

    def windows(self, base, firsts, *shapes):
        return list(windows_of(self._placed(base), firsts, shapes))

    def strided(self, pairs):
        return self._placed(pairs)[:, 0]


class CuPy:
    """CuPy's arrays, on a card."""

    def __init__(self):
        self.cupy = importlib.import_module("cupy")
        self.results = self.cupy.ndarray

    def send(self, array, dtype):
        base, offset = whole(array)
        flat = self.cupy.asarray(base)[offset // array.itemsize :]
        placed = self.cupy.lib.stride_tricks.as_strided(flat, array.shape, array.strides)
        return placed.view(importlib.import_module("ml_dtypes").bfloat16) if dtype == "bfloat16" else placed

    def fetch(self, array):
        return array.get().astype(np.float64)

    def windows(self, base, firsts, *shapes):
        return list(windows_of(self.cupy.asarray(base), firsts, shapes))

    def strided(self, pairs):
        return self.cupy.asarray(pairs)[:, 0]


KINDS = [Interface()]
if "emulator" not in sys.modules:  # whose card other libraries do not know
    if importlib.util.find_spec("torch"):
        KINDS.append(Torch())
    if importlib.util.find_spec("cupy") and not toolkit.SIMULATED:
        KINDS.append(CuPy())


def ways_met(cases):
    """How calls on some cases in float32 are launched: for each family, vectors, whether they are held on chip both
    forward and backward, and whether several blocks take a channel."""
    met = {"planes": set(), "rows": set()}
    for case in cases:
        outer = int(np.prod(case.shape[: case.axis]))
        shape = outer, case.channels, int(np.prod(case.shape)) // (outer * case.channels)
        forward, backward = (cut.launch_for(shape, "float32", 16, True, inputs, toolkit.card(0)) for inputs in (1, 2))
        width = "ragged" if forward.words.ragged else "wide" if forward.words.lanes == 4 else "narrow"
        held = "held" if forward.shared_bytes and backward.shared_bytes else "read"
        met[forward.family.__name__.split(".")[-1]].add((width, held, forward.count > 1))
    return met
