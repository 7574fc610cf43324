"""Which code runs a call: ``pick`` chooses by where the array lives, by ``backend=``, or by what is set around it.

A backend is a module of four functions, imported when it is first picked (see ``host.py`` for their signatures). Arrays
on a CUDA device go to ``cuda/on_device.py`` instead, which returns arrays of the caller's own library.
"""

import contextlib
import contextvars
import ctypes
import importlib
import importlib.util
import os
from typing import NamedTuple

NAMES = ("cpu", "cuda", "reference")
ON_DEVICE = "cuda.on_device"

ENVIRONMENT = os.environ.get("NUMBABN_BACKEND") or None
_chosen = contextvars.ContextVar("numbabn_backend", default=ENVIRONMENT)


class BackendStatus(NamedTuple):
    """Whether a backend can be used here, and why not where it cannot."""

    available: bool
    reason: str


def backends() -> dict[str, BackendStatus]:
    """Tell which backends can be used here, and why not where not.

    Returns
    -------
    dict of str to BackendStatus
        By name; each with ``available`` and ``reason``.

    Examples
    --------
    >>> import numbabn as nbn
    >>> nbn.backends()["reference"].available
    True
    """
    return {
        "cpu": BackendStatus(True, "Numba kernels for NumPy arrays"),
        "cuda": _cuda_status(),
        "reference": BackendStatus(True, "float64 NumPy, the specification: slow"),
    }


@contextlib.contextmanager
def use_backend(name: str):
    """In a ``with`` statement: let calls in it (of this thread or task) use one backend, unless they say ``backend=``.

    Parameters
    ----------
    name : {"cpu", "reference", "cuda"}
        The environment variable ``NUMBABN_BACKEND`` sets the same for a whole process.

    Raises
    ------
    ValueError
        If there is no such backend.
    RuntimeError
        If it cannot be used here; the message says why.

    Examples
    --------
    >>> import numpy as np
    >>> import numbabn as nbn
    >>> x = np.array([[1.0, 2.0], [3.0, 6.0]])
    >>> with nbn.use_backend("reference"):
    ...     nbn.batch_norm(x, training=True, eps=0.0)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    load(name)
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def pick(place: str, name: str | None = None):
    """The module for arrays in a place (see ``places``): the one named, or set around the call, or the place's."""
    name = name if name is not None else _chosen.get() or place
    if place == "cuda":
        if name != "cuda":
            raise ValueError(f"backend is {name!r}, but x lives on a CUDA device: copy it to the host first")
        name = ON_DEVICE
    return _loaded[name] if isinstance(name, str) and name in _loaded else load(name)


_loaded = {}


def load(name: str):
    """Import a backend by name."""
    if name not in (*NAMES, ON_DEVICE):
        source = "NUMBABN_BACKEND" if name is not None and name is ENVIRONMENT else "backend"
        raise ValueError(f"{source} is {name!r}; expected one of {', '.join(map(repr, NAMES))}")
    if name.startswith("cuda") and not (status := _cuda_status()).available:
        raise RuntimeError(f"backend 'cuda' cannot be used: {status.reason}")
    _loaded[name] = importlib.import_module(f"numbabn.backends.{name}")
    return _loaded[name]


def _cuda_status() -> BackendStatus:
    """Told without importing numba-cuda."""
    if importlib.util.find_spec("numba_cuda") is None:
        return BackendStatus(False, "not installed: pip install 'numbabn[cuda]' gets numba-cuda")
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        return BackendStatus(True, "numba-cuda's simulator, for tests: very slow")
    try:
        driver = ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
    except OSError:
        return BackendStatus(False, "no device: this machine has no CUDA driver")
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return BackendStatus(False, "no device: the CUDA driver finds none")
    return BackendStatus(True, "numba-cuda kernels for arrays on the device; NumPy arrays are carried there and back")
