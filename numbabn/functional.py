"""Batch normalization on arrays: pick a backend, check, view as (outer, channels, inner), call it, view back."""

import numpy as np

from . import checks, layout
from .backends import pick
from .backends.host import unfilled_table
from .places import where
from .results import Context, Gradients, Statistics


def batch_norm(
    x,
    gamma=None,
    beta=None,
    running_mean=None,
    running_var=None,
    *,
    training=False,
    momentum=0.1,
    eps=1e-5,
    axis=1,
    correction=1,
    activation=None,
    residual=None,
    out=None,
    backend=None,
):
    """Batch normalization, ``y = (x - mean) / sqrt(var + eps) * gamma + beta`` for each channel.

    Parameters
    ----------
    x : array of float32 or float64, shape (N, C, ...), or any with channels on ``axis``
        Input. Channels-last arrays, presented as such or transposed to look channels-first, are used where they lie.
        An array on a CUDA device (of CuPy, PyTorch, Numba, JAX, or any that has ``__cuda_array_interface__``) is used
        there, on its library's current stream, and may be of float16 or bfloat16, too; all arrays are then on that
        device, parameters and statistics float32 (float64 beside float64), and the results are of the same library.
    gamma, beta : array of float32 or float64, shape (C,), optional
        Scale and shift. None stands for 1 and 0. They come before the running statistics, unlike in PyTorch.
    running_mean, running_var : array of float32 or float64, shape (C,), optional
        With ``training=True``, updated in place as ``(1 - momentum) * running + momentum * batch``. With
        ``training=False``, required, and used instead of the batch's statistics; a variance below ``-eps`` gives NaN.
    training : bool
        Whether to normalise with the batch's own mean and biased variance.
    momentum : float in [0, 1]
        Weight of the new batch, as in PyTorch (Keras and ONNX state the weight of the old value).
    eps : float, at least 0
        Added to the variance.
    axis : int
        Where the channels are.
    correction : float, at least 0, less than the number of values per channel
        What is subtracted from that number for the running variance: 1 for the unbiased one (PyTorch), 0 for the
        biased one (Keras, Flax, ONNX).
    activation : {None, "relu"}
        Applied last, in the same pass over memory.
    residual : array like x, optional
        Added before the activation, in the same pass over memory.
    out : array like x, optional
        Where to write the result; may be ``x`` or ``residual`` itself. Fresh large arrays
        cost time: they are mapped page by page.
    backend : {"cpu", "reference", "cuda"}, optional
        Which code to run; by default the one for the place where ``x`` lives. ``"cuda"`` carries NumPy arrays to the
        device and back.

    Returns
    -------
    array like x
        ``out``, if given; else a new array with the memory order of ``x``.

    Raises
    ------
    TypeError, ValueError
        For an argument that does not fit; nothing has been written then.
    RuntimeError
        For a backend that cannot be used here.

    See Also
    --------
    batch_norm_forward : also returns what the backward pass needs.

    Notes
    -----
    Sums are taken about a guess of the mean, and again where that proves far off, and added up in float64: accuracy
    does not depend on the mean's size, nor any bit of the result on the number of threads. An empty ``x`` gives an
    empty result and leaves the running statistics alone.
    Source: S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
    Covariate Shift", 2015.

    Examples
    --------
    >>> import numpy as np
    >>> import numbabn as nbn
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> running_mean, running_var = np.zeros(2), np.ones(2)
    >>> nbn.batch_norm(x, None, None, running_mean, running_var, training=True).round(3)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> running_mean, running_var
    (array([0.2, 2. ]), array([ 1.1, 20.9]))
    >>> nbn.batch_norm(x, None, None, running_mean, running_var).round(3)
    array([[0.763, 1.75 ],
           [2.67 , 6.125]])
    """
    settings = checks.settings(training, momentum, eps, correction, activation)
    parameters = gamma, beta, running_mean, running_var
    return _forward(x, parameters, residual, out, settings, axis, backend, keep=False)[0]


def batch_norm_forward(
    x,
    gamma=None,
    beta=None,
    running_mean=None,
    running_var=None,
    *,
    training=True,
    momentum=0.1,
    eps=1e-5,
    axis=1,
    correction=1,
    activation=None,
    residual=None,
    out=None,
    backend=None,
):
    """Batch normalization that also returns what :func:`batch_norm_backward` needs.

    Parameters
    ----------
    x, gamma, beta, running_mean, running_var, momentum, eps, axis, correction, activation, residual, backend
        As for :func:`batch_norm`.
    training : bool
        As for :func:`batch_norm`, but True by default. The backward pass through ``training=False`` takes the running
        statistics as constants ("frozen" batch normalization).
    out : array like x, optional
        As for :func:`batch_norm`, except that it must not be ``x``, which the backward pass reads.

    Returns
    -------
    y : array like x
    context : Context
        Refers to ``x`` (and to ``y``, if both ``residual`` and ``activation`` are given), copying neither.

    Raises
    ------
    TypeError, ValueError
        For an argument that does not fit; nothing has been written then.
    RuntimeError
        For a backend that cannot be used here.

    Examples
    --------
    >>> import numpy as np
    >>> import numbabn as nbn
    >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> y, context = nbn.batch_norm_forward(x, activation="relu", eps=0.0)
    >>> y
    array([[0., 0.],
           [1., 1.]])
    >>> context.mean, context.invstd
    (array([ 2., 20.]), array([1. , 0.1]))
    """
    settings = checks.settings(training, momentum, eps, correction, activation)
    parameters = gamma, beta, running_mean, running_var
    return _forward(x, parameters, residual, out, settings, axis, backend, keep=True)


def batch_norm_backward(dy, context, *, out=None):
    """Gradients of a loss with respect to what :func:`batch_norm_forward` was given.

    Parameters
    ----------
    dy : array like y
        Gradient with respect to the result of the forward call.
    context : Context
        From that call. It can be used again.
    out : array like x, or a pair of arrays, optional
        Where to write ``dx``, or ``(dx, dresidual)``; one of them may be ``dy`` itself.

    Returns
    -------
    Gradients
        ``dx`` and ``dresidual`` like ``x``; ``dgamma`` and ``dbeta`` of shape (C,) with the parameters' dtypes. Without
        a fused activation ``dresidual`` is ``dy`` itself. None for what the forward call did not have.

    Raises
    ------
    TypeError, ValueError
        For an argument that does not fit; nothing has been written then.

    Notes
    -----
    With ``xhat = (x - mean) * invstd`` and means over the values of a channel::

        dbeta = sum(dy)        dgamma = sum(dy * xhat)
        dx = gamma * invstd * (dy - mean(dy) - xhat * mean(dy * xhat))      in training
        dx = gamma * invstd * dy                                            through running statistics

    Examples
    --------
    >>> import numpy as np
    >>> import numbabn as nbn
    >>> x = np.array([[1.0], [2.0], [6.0]])
    >>> y, context = nbn.batch_norm_forward(x, gamma=np.ones(1), eps=0.0)
    >>> grads = nbn.batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), context)
    >>> grads.dx.round(3)
    array([[ 0.176],
           [-0.22 ],
           [ 0.044]])
    >>> grads.dgamma.round(3), grads.dbeta
    (array([-0.926]), None)
    """
    if not isinstance(context, Context):
        raise TypeError(f"context is {type(context).__name__}; expected the Context of a batch_norm_forward call")
    if not isinstance(context.x, np.ndarray):
        return context.backend.backward(dy, context, out)
    view = context.view
    x = view.back(context.x)
    dy = checks.like("dy", dy, "x", x)
    dx_out, dresidual_out = checks.gradient_outputs(checks.gradient_pair(out, context), dy, x, context.y)

    dx = _canonical_result(dx_out, view, x.dtype)
    masked = context.has_residual and context.relu
    dresidual_view = _canonical_result(dresidual_out, view, x.dtype) if masked else None
    dresidual = _pass_on(dy, dresidual_out, dx_out) if context.has_residual and not masked else None
    if x.size:
        dgamma, dbeta = context.backend.backward(view.of(dy), context, dx, dresidual_view)
    else:
        dgamma, dbeta = np.zeros((2, context.x.shape[1]))
    dx = _deliver(dx, dx_out, view)
    if masked:
        dresidual = _deliver(dresidual_view, dresidual_out, view)
    gamma_dtype, beta_dtype = context.dtypes
    return Gradients(
        dx,
        None if gamma_dtype is None else dgamma.astype(gamma_dtype),
        None if beta_dtype is None else dbeta.astype(beta_dtype),
        dresidual,
    )


def batch_stats(x, *, axis=1, backend=None):
    """Mean and biased variance of each channel.

    Parameters
    ----------
    x : array of float32 or float64, shape (N, C, ...), or any with channels on ``axis``
    axis : int
        Where the channels are.
    backend : {"cpu", "reference", "cuda"}, optional
        Which code to run; by default the one for the place where ``x`` lives.

    Returns
    -------
    Statistics
        ``mean`` and ``var``: float64 whatever the dtype of ``x``, since a float32 mean would round away what
        ``x - mean`` is made of (on a CUDA device float32, unless ``x`` is float64). ``count``: the values per channel.
        NaN where that is 0.

    Raises
    ------
    TypeError, ValueError
        For an argument that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import numbabn as nbn
    >>> nbn.batch_stats(np.array([[1.0, 10.0], [3.0, 30.0]]))
    Statistics(mean=array([ 2., 20.]), var=array([  1., 100.]), count=2)
    """
    place = where(x)
    module = pick(place, backend)
    if place == "cuda":
        return module.statistics(x, axis)
    x = checks.data_array("x", x, halves=module.HALVES)
    view = layout.view(x, checks.channel_axis(axis, x.ndim))
    outer, channels, inner = view.canonical
    if x.size == 0:
        return Statistics(np.full(channels, np.nan), np.full(channels, np.nan), outer * inner)
    return Statistics(*module.statistics(view.of(x)), outer * inner)


def _forward(x, parameters, residual, out, settings, axis, backend, *, keep):
    """Both forward functions; with ``keep`` the result's context is made, and ``x`` must outlive the call."""
    place = where(x)
    module = pick(place, backend)
    if place == "cuda":
        return module.forward(x, parameters, residual, out, settings, axis, keep=keep)
    x = checks.data_array("x", x, halves=module.HALVES)
    view = layout.view(x, checks.channel_axis(axis, x.ndim))
    parameters = checks.parameters(parameters, view.canonical, settings)
    residual = checks.outputs_apart(x, residual, out, parameters, settings, keep)

    x_view = view.of(x)
    y_view = _canonical_result(out, view, x.dtype)
    if x.size:
        run = module.forward_training if settings.training else module.forward_inference
        table = run(x_view, y_view, parameters, None if residual is None else view.of(residual), settings)
    else:
        table = np.full_like(unfilled_table(view.canonical[1]), np.nan)
    y = _deliver(y_view, out, view)
    if not keep:
        return y, None
    kept_y = y_view if settings.relu and residual is not None else None
    dtypes = tuple(None if parameter is None else parameter.dtype for parameter in parameters[:2])
    has_residual = residual is not None
    return y, Context(x_view, kept_y, table, settings.training, settings.relu, has_residual, view, dtypes, module)


def _canonical_result(out, view, dtype):
    """The canonical array for a kernel to write: a view of the caller's where one fits, else fresh memory."""
    if out is not None and view.fits(out):
        return view.of(np.asarray(out))
    return np.empty(view.canonical, dtype)


def _deliver(canonical, out, view):
    """The result as its owner sees it, copied into ``out`` where that could not be written directly."""
    if out is None:
        return view.back(canonical)
    if not view.fits(out):
        np.copyto(out, view.back(canonical))
    return out


def _pass_on(dy, dresidual_out, dx_out):
    """``dresidual`` where no activation is fused: ``dy``, copied if wanted elsewhere or about to be overwritten."""
    if dresidual_out is not None:
        np.copyto(dresidual_out, dy)
        return dresidual_out
    return dy.copy() if dx_out is not None and checks.overlap(dx_out, dy) else dy
