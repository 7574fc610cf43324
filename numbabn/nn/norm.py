"""Batch normalization as a layer."""

import numpy as np

from ..functional import batch_norm_backward, batch_norm_forward
from . import checks
from .memory import gradients
from .module import Fusing, Parameter


class BatchNorm(Fusing):
    """Batch normalization of each channel, over all other axes.

    Parameters
    ----------
    num_features : int
        Number of channels.
    axis : int
        Where they are.
    eps : float
        Added to the variance.
    momentum : float in [0, 1], or None
        Weight of the new batch in the running statistics; None weighs all batches so far alike.
    affine : bool
        Whether to learn a scale ``gamma`` and a shift ``beta``.
    track_running_stats : bool
        Whether to keep running statistics and normalise with them when not training; else always with the batch's.
    dtype : {float32, float64}
        Of parameters and running statistics; the input may be either.

    Attributes
    ----------
    gamma, beta : Parameter, shape (num_features,), or None
    running_mean, running_var : array, shape (num_features,), or None
    num_batches_tracked : array of int64, shape (), or None
        How many batches that were not empty have entered the running statistics.
    dresidual : array like x, or None
        After ``backward``: gradient by ``residual``.

    See Also
    --------
    numbabn.batch_norm : the function behind it, with the formulas.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> norm = nn.BatchNorm(2, dtype=np.float64)
    >>> norm.forward(np.array([[1.0, 10.0], [3.0, 30.0]]), training=True).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> norm.running_mean
    array([0.2, 2. ])
    """

    buffer_names = ("running_mean", "running_var", "num_batches_tracked")

    def __init__(
        self, num_features, *, axis=1, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, dtype=np.float32
    ):
        super().__init__()
        dtype = checks.float_dtype(dtype)
        self.num_features = checks.whole("num_features", num_features, 1)
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
            raise TypeError(f"axis is {axis!r}; expected an integer")
        self.axis = int(axis)
        self.eps = checks.number("eps", eps, 0, np.inf)
        self.momentum = None if momentum is None else checks.number("momentum", momentum, 0, 1)
        self.gamma = Parameter(np.ones(num_features, dtype), "norm") if affine else None
        self.beta = Parameter(np.zeros(num_features, dtype), "norm") if affine else None
        self.running_mean = np.zeros(num_features, dtype) if track_running_stats else None
        self.running_var = np.ones(num_features, dtype) if track_running_stats else None
        self.num_batches_tracked = np.zeros((), np.int64) if track_running_stats else None

    def forward(self, x: np.ndarray, *, training: bool, activation=None, residual=None) -> np.ndarray:
        """Normalise x, then add ``residual`` (like x) and apply ``activation`` (None or "relu") in the same pass."""
        x = checks.data_array("x", x)
        if not -x.ndim <= self.axis < x.ndim or x.shape[self.axis] != self.num_features:
            raise ValueError(f"x has shape {x.shape}; expected {self.num_features} channels on axis {self.axis}")
        tracked = self.num_batches_tracked is not None
        y, context = batch_norm_forward(
            x,
            None if self.gamma is None else self.gamma.value,
            None if self.beta is None else self.beta.value,
            self.running_mean,
            self.running_var,
            training=training or not tracked,
            momentum=self._momentum(),
            eps=self.eps,
            axis=self.axis,
            activation=activation,
            residual=residual,
            out=self._buffers.like("y", x, residual),
        )
        if training and tracked and x.size:
            self.num_batches_tracked += 1
        self._saved = context, x
        return y

    def backward(self, dy: np.ndarray, *, need_dx: bool = True) -> np.ndarray | None:
        """Gradient by x; fills those of ``gamma`` and ``beta``, and ``dresidual``.

        Works after ``forward(training=False)``, too: the running statistics are constants then.
        """
        context, x = self._recall()
        dx = gradients.like(x)
        fused_sum = context.has_residual and context.relu
        out = (dx, gradients.like(x)) if fused_sum else dx
        grads = batch_norm_backward(dy, context, out=out)
        for parameter, gradient in ((self.gamma, grads.dgamma), (self.beta, grads.dbeta)):
            if parameter is not None:
                parameter.grad_array()[...] = gradient
        self.dresidual = grads.dresidual
        return grads.dx

    def _momentum(self):
        if self.momentum is not None:
            return self.momentum
        return 1 / (int(self.num_batches_tracked) + 1) if self.num_batches_tracked is not None else 0.0
