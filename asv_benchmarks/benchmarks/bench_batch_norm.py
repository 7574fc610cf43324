"""Time, memory and bandwidth of batch normalization on arrays."""

from dataclasses import replace
from functools import partial

import numpy as np
from cases import Operands

import numbabn as nbn

from .measure import taking_turns
from .problems import CASES, EPILOGUES, Problem, checked

READS_AND_WRITES = {"forward": 2, "inference": 2, "backward": 3}
"""Times that a call must move an array of the data's size, at least."""


class _Grid:
    """One public call that writes where it wrote before."""

    params = (list(CASES), ["float32", "float64"], list(EPILOGUES))
    param_names = ("case", "dtype", "epilogue")
    skip_params = tuple((case, "float64", fused) for case in CASES for fused in EPILOGUES if fused != "plain")
    """Kernels get the epilogue as an argument: what float64 adds is seen without."""
    timeout = 300
    warmup_time = 0.1
    rounds = 1
    repeat = (5, 50, 0.5)


class Forward(_Grid):
    def setup(self, case, dtype, epilogue):
        self.problem = checked("forward", CASES[case], dtype, epilogue)

    def time_forward(self, case, dtype, epilogue):
        self.problem.forward()


class Inference(_Grid):
    def setup(self, case, dtype, epilogue):
        self.problem = checked("inference", CASES[case], dtype, epilogue)

    def time_inference(self, case, dtype, epilogue):
        self.problem.inference()


class Backward(_Grid):
    def setup(self, case, dtype, epilogue):
        self.problem = checked("backward", CASES[case], dtype, epilogue)

    def time_backward(self, case, dtype, epilogue):
        self.problem.backward()


class Bandwidth:
    """Least bytes of a call by its time, float32."""

    params = (list(READS_AND_WRITES), list(CASES))
    param_names = ("what", "case")
    timeout = 300

    def setup(self, what, case):
        self.problem = checked(what, CASES[case], "float32")

    def track_gigabytes_per_second(self, what, case):
        (seconds,) = taking_turns(getattr(self.problem, what))
        return READS_AND_WRITES[what] * self.problem.x.nbytes / seconds / 1e9

    track_gigabytes_per_second.unit = "GB/s"


class CopyLimit:
    """A call's time as a multiple of that of a loop that only streams the same bytes, float32."""

    params = (list(READS_AND_WRITES), list(CASES))
    param_names = ("what", "case")
    timeout = 300

    def setup(self, what, case):
        try:
            from numbabn.bench import limits
        except ModuleNotFoundError as error:
            raise NotImplementedError("this commit has no numbabn.bench.limits") from error
        problem = checked(what, CASES[case], "float32")
        arrays = (problem.dy, problem.x, problem.dx) if what == "backward" else (problem.x, problem.y)
        moved = [tuple(array.reshape(-1) for array in arrays)]
        self.call = getattr(problem, what)
        self.streams = [partial(limits.run, moved, streamed=streamed) for streamed in (False, True)]
        for stream in self.streams:
            stream()

    def track_times_the_limit(self, what, case):
        seconds, *limits = taking_turns(self.call, *self.streams)
        return seconds / min(limits)

    track_times_the_limit.unit = "times the copy limit"


class PeakMemory:
    """Peak of a process that makes float32 arrays and one call without ``out``."""

    params = (["NCHW-32x64x56x56", "NHWC-32x56x56x64"],)
    param_names = ("case",)
    timeout = 300

    def setup_cache(self):
        """Compile in another process: a compiler takes more memory than the arrays."""
        nbn.warmup()

    setup_cache.timeout = 600

    def setup(self, case):
        case = CASES[case]
        checked("backward", replace(case, shape=(2, *case.shape[1:])), "float32", reuse=False)
        self.problem = Problem(case, _operands(case), reuse=False)

    def peakmem_forward(self, case):
        self.problem.forward()

    def peakmem_forward_and_backward(self, case):
        self.problem.forward()
        self.problem.backward()


def _operands(case):
    """Float32 operands, made without larger arrays on the way."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(case.shape, dtype=np.float32) for _ in range(2))
    ones = np.ones(case.channels, np.float32)
    return Operands(x=x, gamma=ones, beta=ones, running_mean=ones, running_var=ones, residual=None, dy=dy)
