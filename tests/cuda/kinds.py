"""Arrays on a device, of each library: how tests make them of NumPy's, and read them.

In the simulator the device's memory is the host's, so that NumPy's arrays can play the device's, told by their
interface, and PyTorch's and JAX's of the CPU theirs.
"""

import importlib.util

import numpy as np
from cases import decoded

from numbabn.backends.cuda import toolkit

TYPESTR = {"float32": "<f4", "float64": "<f8", "float16": "<f2", "bfloat16": "<V2", "int32": "<i4"}


class Array:
    """Memory that only an interface tells of."""

    def __init__(self, array, dtype, device=0):
        self.array = array
        self.device_number = device
        self.__cuda_array_interface__ = {
            "typestr": TYPESTR[dtype], "shape": array.shape, "strides": array.strides,
            "data": (array.ctypes.data, not array.flags.writeable), "version": 3, "stream": None,
        }  # fmt: skip


class Interface:
    """Arrays that only an interface tells of; results are Numba's."""

    results = type(toolkit.device_array((1,), np.dtype(np.float32)))

    def send(self, array, dtype):
        """An array on the device that lies in memory as one of NumPy's does, which holds bfloat16 by its bits."""
        return Array(array, dtype)

    def fetch(self, array):
        """A NumPy array of its values."""
        values = array.array if isinstance(array, Array) else array.copy_to_host()
        return decoded(values.view(np.uint16) if values.dtype == np.dtype("V2") else values)

    def windows(self, base, firsts, shape):
        """Arrays of a shape that begin at some elements of one copy of a float32 array."""
        size = int(np.prod(shape))
        return [Array(base[first : first + size].reshape(shape), "float32") for first in firsts]

    def strided(self, pairs):
        """The first column of a float32 array's copy."""
        return Array(pairs[:, 0], "float32")


class Torch:
    """PyTorch's tensors: of the CPU in the simulator, and said to be on a device."""

    def __init__(self):
        self.torch = importlib.import_module("torch")
        self.results = self.torch.Tensor
        self.given = type("OnDevice", (self.torch.Tensor,), {"is_cuda": True})

    def _placed(self, array):
        tensor = self.torch.from_numpy(np.ascontiguousarray(array).copy())
        return tensor.as_subclass(self.given) if toolkit.SIMULATED else tensor.cuda()

    def send(self, array, dtype):
        if dtype == "bfloat16":
            array = array.view(np.int16)  # PyTorch's uint16 lacks most operations
        lowest = array if array.base is None else array.base
        whole = self._placed(lowest)
        steps = [step // array.itemsize for step in array.strides]
        first = (array.ctypes.data - lowest.ctypes.data) // array.itemsize
        tensor = self.torch.as_strided(whole, array.shape, steps, first)
        return tensor.view(self.torch.bfloat16) if dtype == "bfloat16" else tensor

    def fetch(self, array):
        return array.as_subclass(self.torch.Tensor).cpu().double().numpy()

    def windows(self, base, firsts, shape):
        whole, size = self._placed(base), int(np.prod(shape))
        return [whole[first : first + size].reshape(shape) for first in firsts]

    def strided(self, pairs):
        return self._placed(pairs)[:, 0]


KINDS = [Interface()]
if importlib.util.find_spec("torch"):
    KINDS.append(Torch())
