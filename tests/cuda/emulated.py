"""The CUDA kernels' LLVM code, compiled for the processor (see ``emulator``), against the specification."""

import emulator
import pytest
from cases import CASES, EPILOGUES, Case
from device_arrays import *  # noqa: F403 (the same tests as in the simulator)
from kinds import Interface
from test_backends import check_against_specification

from numbabn.backends.cuda import toolkit

OTHERS = [
    Case("NC-wide", (3, 1031)),  # narrower than elsewhere, which takes less time
    Case("NC-wider", (5, 2001)),
    Case("NCL-short-rows", (700, 3, 5)),
    Case("NCHW-turns", (10, 9, 28, 28)),  # more teams than there is room for at a time
    Case("NHWC-turns", (3, 14, 14, 152), axis=-1),
]
CASES = [case for case in CASES if not case.name.startswith("NC-wide")] + OTHERS
FORMS = [(training, *epilogue) for epilogue in EPILOGUES for training in (True, False)]
DTYPES = ["float32", "float64", "float16", "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES)), ids=lambda value: getattr(value, "name", ""))
def test_matches_specification(number, case, dtype, way):
    """Not every case in every form: cases are alike enough to take turns."""
    turn = number + DTYPES.index(dtype) + ["as planned", "in teams", "in parts"].index(way)
    training, activation, with_residual = FORMS[turn % len(FORMS)]
    form = {"training": training, "activation": activation, "with_residual": with_residual}
    check_against_specification(case, dtype, kind=Interface(), **form)


def test_streams_with_a_number_of_their_own(monkeypatch):
    assert toolkit.lasting_number(7) == 7
    assert toolkit.lasting_number(2) is None  # each thread's own default stream
    monkeypatch.setattr(emulator.Driver, "cuStreamIsCapturing", lambda stream: (0, 1))
    assert toolkit.lasting_number(7) is None
