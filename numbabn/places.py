"""Where an array lives, and what its dtype is called, told without importing the array's library."""

from functools import lru_cache

import numpy as np

CUDA_DLPACK_DEVICES = (2, 13)  # kDLCUDA and kDLCUDAManaged in dlpack.h

BFLOAT16 = np.dtype("V2")
"""How an array of bfloat16 looks where NumPy has no such dtype (it has one once ml_dtypes is imported)."""


def where(x) -> str:
    """``"cuda"`` for an array on a CUDA device, else ``"cpu"``."""
    if isinstance(x, np.ndarray):
        return "cpu"
    if hasattr(x, "is_cuda"):  # PyTorch's, faster than the protocols, which refuse tensors that require a gradient
        return "cuda" if x.is_cuda else "cpu"
    if hasattr(x, "__cuda_ndarray__"):  # Numba's, which has this in the simulator, too
        return "cuda"
    if hasattr(x, "__dlpack_device__"):
        return "cuda" if x.__dlpack_device__()[0] in CUDA_DLPACK_DEVICES else "cpu"
    return "cuda" if hasattr(x, "__cuda_array_interface__") else "cpu"


@lru_cache(maxsize=64)
def dtype_name(dtype: np.dtype) -> str:
    """Such as ``"float32"``, or ``"bfloat16"``. (Remembered: NumPy takes microseconds to put a name together.)"""
    return "bfloat16" if dtype == BFLOAT16 else dtype.name if dtype.isnative else str(dtype)
