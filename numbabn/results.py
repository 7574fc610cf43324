"""What the functions return, and what a forward call leaves for its backward."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .backends.host import INVSTD, MEAN, VAR
from .layout import View


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What a forward call leaves for its backward: arrays by reference, and a small table of per-channel values.

    The arrays must hold what they held in the forward call; parameters and running statistics may change. One context
    serves any number of backward calls. Of arrays on a device, all that is here is on the device and of their library,
    and the statistics are float32 unless data is float64.
    """

    x: np.ndarray
    """Input, canonical view ``(outer, channels, inner)``; on a device, as it was given (or a copy of such a shape)."""
    y: np.ndarray | None
    """Output, alike; kept only where ReLU follows a residual, to see which elements passed."""
    table: np.ndarray
    """``(6, channels)``, float64: gamma, beta, mean and what rounding it lost, var, invstd."""
    training: bool
    relu: bool
    has_residual: bool
    view: View
    dtypes: tuple
    """Those of gamma and beta, None where absent."""
    backend: object

    def __repr__(self) -> str:
        """In a line, without the arrays."""
        fused = " + residual" * self.has_residual + " + relu" * self.relu
        statistics = "the batch's" if self.training else "running"
        dtype = getattr(self.x, "dtype", type(self.x).__name__)
        return f"Context({self.view.shape} {dtype}{fused}, {statistics} statistics)"

    @property
    def mean(self) -> np.ndarray:
        """Mean used for each channel, float64: the batch's in training, else the running one."""
        return self.table[MEAN]

    @property
    def var(self) -> np.ndarray:
        """Variance used for each channel, float64: the batch's biased one in training, else the running one."""
        return self.table[VAR]

    @property
    def invstd(self) -> np.ndarray:
        """``1 / sqrt(var + eps)`` for each channel, float64."""
        return self.table[INVSTD]


class Gradients(NamedTuple):
    """Gradients of a loss; None for a parameter or residual that the forward call did not have."""

    dx: np.ndarray
    dgamma: np.ndarray | None
    dbeta: np.ndarray | None
    dresidual: np.ndarray | None


class Statistics(NamedTuple):
    """Statistics of each channel, float64, and the number of values that each was computed from."""

    mean: np.ndarray
    var: np.ndarray
    count: int
