"""Whose arrays a call was given: their memory, the stream that their owner works on, and new arrays of the same kind.

Nothing here is imported that the caller has not imported.
"""

import sys

import numpy as np

from ...layout import strides_of
from ...places import dtype_name
from . import toolkit
from .memory import BYTES, DTYPES, Memory, new_memory


class Numba:
    """Arrays of Numba, and all others with ``__cuda_array_interface__``, which get Numba's as results."""

    kind = object
    """What its arrays are instances of."""

    def stream(self, array):
        """The stream that the array says it is in use on, or the default one."""
        return toolkit.interface(array).get("stream") or 0

    def read(self, space, name, array):
        """The memory of an argument; other streams' work on it is waited for."""
        try:
            known = toolkit.interface(array)
            dtype = np.dtype(known["typestr"])
        except AttributeError:
            raise _refusal(space, name, array) from None
        except TypeError as error:  # of a dtype that NumPy does not know
            raise TypeError(f"{name}: {error}") from None
        other = known.get("stream")
        if other and other != space.stream:
            toolkit.synchronize(other)
        address, readonly = known["data"]
        shape, strides = tuple(known["shape"]), known.get("strides")
        if strides is not None and tuple(strides) == strides_of(shape, range(len(shape)), dtype.itemsize):
            strides = None
        metadata = shape, strides and tuple(strides), dtype_name(dtype), readonly
        return _checked(space, name, Memory(array, address, metadata), toolkit.device_of(array, address))

    def new(self, shape, dtype, order, device):
        """A new array and its address; its axes are in this order in memory."""
        dtype = DTYPES[dtype]
        array = toolkit.device_array(shape, dtype, order and strides_of(shape, order, dtype.itemsize))
        return array, toolkit.interface(array)["data"][0]

    def new_like(self, memory, order, device):
        """The same, for an array like another that has no gaps."""
        return self.new(memory.shape, memory.dtype, order, device)

    def give(self, array, stream):
        """The array as the caller gets it, once the kernels that write it are launched."""
        return toolkit.on_stream(array, stream)


class CuPy(Numba):
    """Its arrays, on its current stream."""

    def __init__(self):
        self.cupy = sys.modules["cupy"]
        self.kind = self.cupy.ndarray

    def stream(self, array):
        return self.cupy.cuda.get_current_stream().ptr

    def read(self, space, name, array):
        if not isinstance(array, self.kind):
            raise _refusal(space, name, array)
        strides = None if array.flags.c_contiguous else array.strides
        metadata = array.shape, strides, dtype_name(array.dtype), False
        return _checked(space, name, Memory(array, array.data.ptr, metadata), array.device.id)

    def new(self, shape, dtype, order, device):
        dtype = sys.modules["ml_dtypes"].bfloat16 if dtype == "bfloat16" else dtype  # it came with the caller's array
        if order is None:
            array = self.cupy.empty(shape, dtype)
        else:
            array = self.cupy.empty([shape[axis] for axis in order], dtype).transpose(*np.argsort(order).tolist())
        return array, array.data.ptr


class Torch(Numba):
    """PyTorch's tensors, on its current stream."""

    def __init__(self):
        self.torch = sys.modules["torch"]
        self.kind, self.strided = self.torch.Tensor, self.torch.strided
        self.names = {getattr(self.torch, name): name for name in DTYPES}
        self.dtypes = {name: dtype for dtype, name in self.names.items()}
        # torch.cuda.current_stream would make an object of it
        self.current_stream = getattr(self.torch._C, "_cuda_getCurrentRawStream", self._current_stream)

    def _current_stream(self, device):
        return self.torch.cuda.current_stream(device).cuda_stream

    def stream(self, array):
        return 0 if toolkit.SIMULATED else self.current_stream(array.get_device())

    def read(self, space, name, array):
        if not isinstance(array, self.kind):
            raise _refusal(space, name, array)
        if array.requires_grad:
            raise TypeError(f"{name} requires a gradient, which is not recorded here; expected it detached: .detach()")
        if array.is_neg():
            raise TypeError(f"{name} is a view of another tensor's negative; expected its own numbers: .resolve_neg()")
        if array.layout is not self.strided:
            raise TypeError(f"{name} has layout {array.layout}; expected a strided tensor")
        dtype, address = self.names.get(array.dtype), array.data_ptr()
        device = 0 if toolkit.SIMULATED else array.get_device()
        # so are most tensors: ``_checked`` would find nothing wrong
        if dtype and address % BYTES == 0 and device == space.device and array.is_contiguous():
            return Memory(array, address, (array.shape, None, dtype, False))
        strides = None
        if not array.is_contiguous():
            size = array.element_size()
            strides = tuple(size * step for step in array.stride())
        memory = Memory(array, address, (array.shape, strides, dtype or str(array.dtype), False))
        return _checked(space, name, memory, device)

    def new(self, shape, dtype, order, device):
        device, dtype = None if toolkit.SIMULATED else device, self.dtypes[dtype]
        if order is None:
            array = self.torch.empty(shape, dtype=dtype, device=device)
        else:
            array = self.torch.empty_strided(shape, strides_of(shape, order, 1), dtype=dtype, device=device)
        return array, array.data_ptr()

    def new_like(self, memory, order, device):
        if type(memory.owner) is not self.torch.Tensor:  # results are plain tensors
            return self.new(memory.shape, memory.dtype, order, device)
        array = self.torch.empty_like(memory.owner)
        return array, array.data_ptr()

    def give(self, array, stream):
        return array


class Exchange(Numba):
    """Arrays of other libraries that speak DLPack and the array API standard (JAX), on the default stream.

    Their own streams are waited for when they hand an array out, and the default one is when results are handed in.
    What they handed out is not written to: JAX's arrays never change.
    """

    def __init__(self, kind, namespace):
        self.kind = kind
        self.namespace = namespace

    def stream(self, array):
        return toolkit.LEGACY_STREAM

    def read(self, space, name, array):
        if not isinstance(array, self.kind):
            raise _refusal(space, name, array)
        try:
            view = toolkit.from_dlpack(array, space.stream)
            dtype = view.dtype
        except TypeError as error:  # of a dtype that cuda.core does not know
            raise TypeError(f"{name}: {error}") from None
        shape, strides = tuple(view.shape), view.strides
        if strides is not None and tuple(strides) == strides_of(shape, range(len(shape)), 1):
            strides = None
        strides = strides and tuple(step * dtype.itemsize for step in strides)
        metadata = shape, strides, dtype_name(dtype), True
        device = 0 if toolkit.SIMULATED else view.device_id
        return _checked(space, name, Memory(array, view.ptr, metadata), device)

    def give(self, array, stream):
        if isinstance(array, self.kind):
            return array
        toolkit.synchronize(stream)
        return self.namespace.from_dlpack(toolkit.to_dlpack(array))


class Space:
    """Where a call takes place: the caller's library, its stream, the device."""

    __slots__ = ("device", "library", "stream")

    def __init__(self, library, stream, device):
        self.library = library
        self.stream = stream
        self.device = device

    def read(self, names, values):
        """The memory of each argument, or None; refused where the kernels cannot reach it."""
        read = self.library.read
        pairs = zip(names, values, strict=True)
        return [None if value is None else read(self, name, value) for name, value in pairs]

    def empty(self, shape, dtype, order=None):
        """Memory for a new array of the caller's kind; its axes are in this order in memory."""
        owner, address = self.library.new(shape, dtype, order, self.device)
        strides = order and strides_of(shape, order, DTYPES[dtype].itemsize)
        return new_memory(owner, address, shape, dtype, strides)

    def empty_like(self, memory, order):
        """The same, for an array like another that has no gaps."""
        owner, address = self.library.new_like(memory, order, self.device)
        return new_memory(owner, address, memory.shape, memory.dtype, memory.strides)

    def give(self, memory):
        """An array of the caller's kind."""
        memory.owner = self.library.give(memory.owner, self.stream)
        return memory.owner


def space_of(x):
    """Where a call on an array takes place."""
    library = _library(x)
    return Space(library, library.stream(x), toolkit.current_device())


def _refusal(space, name, value):
    """The error for an array that is not of x's library: its stream would not wait for this one."""
    kind, expected = type(value).__name__, space.library.kind
    if not toolkit.reachable(value):
        return TypeError(f"{name} ({kind}) is on the host, but x lives on a CUDA device: copy it there")
    such = "" if expected is object else f", a {expected.__name__}"
    return TypeError(f"{name} is a {kind}; expected an array of x's library{such}")


def _checked(space, name, memory, device):
    """Memory on a device; refused on another one, and dtypes that kernels do not take, and elements that lie where they
    cannot read them."""
    if device != space.device:
        place = "the host" if device < 0 else f"CUDA device {device}"
        expected = "the current one" if name == "x" else "it on x's"
        raise ValueError(f"{name} is on {place}; expected {expected}, CUDA device {space.device}")
    shape, strides, dtype, _ = memory.metadata
    if dtype not in DTYPES:
        raise TypeError(f"{name} has dtype {dtype}; expected {', '.join(DTYPES)}")
    if strides is None and memory.address % BYTES == 0:
        return memory
    size = DTYPES[dtype].itemsize
    steps = () if strides is None else zip(strides, shape, strict=True)
    if memory.address % size or any(step % size for step, count in steps if count > 1):
        raise ValueError(f"{name} is not aligned; expected elements at multiples of their {size} bytes")
    return memory


_LIBRARIES = {}


def _library(x):
    """The library of an array."""
    for module, name, library in (("torch", "Tensor", Torch), ("cupy", "ndarray", CuPy)):
        if module in sys.modules and isinstance(x, getattr(sys.modules[module], name)):
            if module not in _LIBRARIES:
                _LIBRARIES[module] = library()
            return _LIBRARIES[module]
    foreign = not hasattr(x, "__cuda_ndarray__")  # else it is Numba's
    if foreign and hasattr(x, "__dlpack__") and hasattr(x, "__array_namespace__"):
        return Exchange(type(x), x.__array_namespace__())
    return NUMBA


NUMBA = Numba()
