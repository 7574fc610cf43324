"""What is timed: public calls on cases that tests and benchmarks share, compared with the reference beforehand."""

from functools import lru_cache

import numpy as np
from cases import BENCHMARKS, TINY, operands
from tolerance import check, tolerance

import numbabn as nbn

CASES = {case.name: case for case in BENCHMARKS}
TINY_CASES = {case.name: case for case in TINY}
EPILOGUES = {"plain": (None, False), "relu": ("relu", False), "residual+relu": ("relu", True)}
"""(activation, whether there is a residual), by the name that asv shows."""


class Problem:
    """The arguments of a call, and memory for its results where that is to be reused.

    Each method is one public call; what it returned is kept for `results`.
    """

    def __init__(self, case, given, epilogue="plain", *, reuse=True, backend=None):
        activation, with_residual = EPILOGUES[epilogue]
        self.x, self.dy = given.x, given.dy
        self.affine = given.gamma, given.beta
        self.running = given.running_mean.copy(), given.running_var.copy()
        residual = given.residual if with_residual else None
        self.options = {"axis": case.axis, "activation": activation, "residual": residual, "backend": backend}
        self.y = self.dx = None
        if reuse:  # filled, so that their pages are there
            self.y, self.dx = np.ones_like(self.x), np.ones_like(self.x)
            if with_residual:
                self.dx = self.dx, np.ones_like(self.x)
        self.result = self.context = self.gradients = None

    def forward(self):
        self.result, self.context = nbn.batch_norm_forward(
            self.x, *self.affine, *self.running, out=self.y, **self.options
        )

    def inference(self):
        self.result = nbn.batch_norm(self.x, *self.affine, *self.running, out=self.y, **self.options)

    def backward(self):
        self.gradients = nbn.batch_norm_backward(self.dy, self.context, out=self.dx)

    def results(self, what):
        """By name, what the last call gave."""
        if what == "backward":
            return {name: value for name, value in self.gradients._asdict().items() if value is not None}
        if what == "inference":
            return {"y": self.result}
        return {"y": self.result, "running_mean": self.running[0], "running_var": self.running[1]}


@lru_cache(maxsize=1)
def checked(what, case, dtype, epilogue="plain", *, reuse=True):
    """A problem whose call ``what`` is compiled and gave what the float64 reference gives.

    asv repeats ``setup`` before each sample, and gets the same problem again.

    Parameters
    ----------
    what : {"forward", "inference", "backward"}
    case : cases.Case
    dtype : {"float32", "float64"}
    epilogue : {"plain", "relu", "residual+relu"}
    reuse : bool
        Whether results are written where the last ones were, or into fresh memory.

    Raises
    ------
    AssertionError
        If a result differs by more than the tests' tolerance.
    """
    given = operands(case)
    if what == "backward" and epilogue != "plain":
        given.dy[_near_kink(case, given, epilogue)] = 0.0
    placed = given.astype(dtype)
    placed.x, placed.dy, placed.residual = map(case.place, (placed.x, placed.dy, placed.residual))
    problem = Problem(case, placed, epilogue, reuse=reuse)
    exact = Problem(case, given, epilogue, reuse=False, backend="reference")
    for each in (problem, exact):
        if what == "backward":
            each.forward()
        getattr(each, what)()
    expected = exact.results(what)
    for name, actual in problem.results(what).items():
        scale = np.max(np.abs(expected[name]))
        check(
            f"{what} {case.name} {dtype} {epilogue}: {name}",
            actual,
            expected[name],
            scale,
            tolerance(dtype, case.count),
        )
    return problem


def _near_kink(case, given, epilogue):
    """Where rounding may decide whether ReLU lets a gradient through; there it must be 0 to be compared."""
    residual = given.residual if EPILOGUES[epilogue][1] else None
    before = nbn.batch_norm(
        given.x, given.gamma, given.beta, training=True, axis=case.axis, residual=residual, backend="reference"
    )
    return np.abs(before) < tolerance("float32", case.count) * np.max(np.abs(before))
