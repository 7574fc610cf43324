"""Which backend runs a call, and what is said of those that cannot."""

import concurrent.futures
import os
import subprocess
import sys

import numpy as np
import pytest

import numbabn as nbn
from numbabn.backends import pick
from numbabn.places import where

X = np.random.default_rng(0).normal(size=(4, 3))


class OnDevice:
    """Just enough of a CUDA array to be told by."""

    def __init__(self):
        self.__cuda_array_interface__ = {"shape": (4, 3), "typestr": "<f4", "data": (0, False), "version": 3}


class OnDLPackDevice:
    def __dlpack_device__(self):
        return (2, 0)


def name(module):
    return module.__name__.rpartition(".")[2]


def test_numpy_goes_to_the_cpu():
    assert name(pick("cpu")) == "cpu"


@pytest.mark.parametrize("x", [OnDevice(), OnDLPackDevice()])
def test_device_arrays_go_to_cuda(x):
    assert where(x) == "cuda"
    with pytest.raises(RuntimeError, match=r"backend 'cuda' cannot be used: (not installed|no device)"):
        nbn.batch_norm(x, training=True)
    with pytest.raises(ValueError, match="backend is 'cpu', but x lives on a CUDA device"):
        nbn.batch_norm(x, training=True, backend="cpu")


def test_explicit_backend_wins():
    with nbn.use_backend("reference"):
        assert name(pick("cpu")) == "reference"
        assert name(pick("cpu", "cpu")) == "cpu"
        with nbn.use_backend("cpu"):
            assert name(pick("cpu")) == "cpu"
        assert name(pick("cpu")) == "reference"
    assert name(pick("cpu")) == "cpu"


def test_context_remembers_its_backend():
    with nbn.use_backend("reference"):
        _, context = nbn.batch_norm_forward(X)
    assert name(context.backend) == "reference"


def test_use_backend_wants_a_name():
    with pytest.raises(ValueError, match="backend is None; expected one of"), nbn.use_backend(None):
        pass


def test_use_backend_is_undone_by_an_error():
    with pytest.raises(KeyError), nbn.use_backend("reference"):
        raise KeyError
    assert name(pick("cpu")) == "cpu"


@pytest.mark.parametrize(("wrong", "error"), [("gpu", ValueError), ("cuda", RuntimeError)])
def test_use_backend_checks_at_once(wrong, error):
    with pytest.raises(error, match="backend"), nbn.use_backend(wrong):
        pass


def test_use_backend_stays_in_its_thread():
    with nbn.use_backend("reference"), concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert name(pool.submit(pick, "cpu").result()) == "cpu"


def test_backends_say_why_not():
    status = nbn.backends()
    assert list(status) == ["cpu", "cuda", "reference"]
    assert status["cpu"].available
    assert status["reference"].available
    assert not status["cuda"].available
    assert status["cuda"].reason.startswith(("not installed", "no device"))


@pytest.mark.parametrize(("value", "expected"), [("reference", "reference"), ("", "cpu")])
def test_environment(value, expected):
    code = "from numbabn.backends import pick; print(pick('cpu').__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "NUMBABN_BACKEND": value}, capture_output=True, text=True
    )
    assert done.stdout.strip() == f"numbabn.backends.{expected}", done.stderr


def test_wrong_environment():
    code = "import numpy as np, numbabn; numbabn.batch_stats(np.ones((2, 2)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "NUMBABN_BACKEND": "gpu"}, capture_output=True, text=True
    )
    assert "NUMBABN_BACKEND is 'gpu'; expected one of" in done.stderr
