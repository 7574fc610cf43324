"""Batch normalization for NumPy arrays in parallel Numba kernels.

Three families: ``planes`` where a channel's values lie in long contiguous rows, ``rows`` where channels lie side by
side, or where their rows are short, and ``few`` for those of the latter that have very few values, in training. Each is
two kernels, ``forward`` and ``backward``. Their words:

walk      one pass over memory: the first takes sums, the second writes; inference has one
row       contiguous elements that a walk takes together
lane      a column of rows that lie side by side: one channel's, as long as rows are
run       what is summed in the dtype of the data
part      runs that are added up in float64
tile      some neighbouring lanes of all rows
group     neighbouring channels taken together: of short rows, or of few values
span      neighbouring elements of several channels, written in one loop
source    where the second walk reads: the arrays, or copies
task      what a thread takes at a time: a channel, a tile, or a part of one

What is where, in the order of a call::

    policy, machine, flags      numbers that work is cut by; the caches; what a kernel is asked for
    ..host                      the table: numbers of each channel that forward leaves for backward
    parameters                  its rows that are given; running statistics
    few                         kernels of that family, whole
    planes, rows                the kernels, and their second walks over one part; ``jit.kernel`` picks their parallel
                                or serial version, and adds ``threads``
    planes_cut, rows_cut        how work is cut
    planes_sums, rows_sums      the first walks
    planes_source               what the second walk of planes reads
    planes_outputs              what it does with one vector
    planes_spans, rows_spans    the second walks over neighbouring channels
    planes_statistics, ...      mean and variance from these sums, by ``moments``
    constants, epilogue, lanes  numbers for each channel; what is fused; memory for numbers of each lane
    walks, memory, simd         threads and phases; loads and stores; vectors
"""

import numpy as np

from .. import reference
from ..flags import ADDS, CLIPS, FILLS, FROM_X, FROM_Y, FROZEN, MEASURES, WRITES
from ..host import MEAN, VAR, inference_table, training_table, unfilled_table
from . import few, planes, rows
from .machine import fast_third_level_cache, second_level_cache
from .policy import CHANNEL_WORK, FEW_IN_ROWS, FEW_SIDE_BY_SIDE, PLANES_FROM, STREAM_FROM, STREAM_INFERENCE_FROM

HALVES = False
"""Whether data may be float16 or bfloat16: Numba has no arithmetic for them on the CPU."""

NO_PARAMETERS = {dtype: (np.empty(0, dtype),) * 4 for dtype in map(np.dtype, (np.float32, np.float64))}
"""Empty arrays stand for None, for whose type kernels would be compiled once more."""


def statistics(x):
    """Mean and biased variance of each channel. Nothing is written: x stands in for what the kernel could write."""
    table = unfilled_table(x.shape[1])
    x = _writeable(x)
    given = NO_PARAMETERS[x.dtype]
    run = _family(x, training=True).forward
    run(x, x, x, *given, table, (0.0, 0.0, 0.0), MEASURES, _machine(), work=_work(x))
    return table[MEAN], table[VAR]


def forward_training(x, y, parameters, residual, settings):
    """Normalise with the batch's own statistics; let them enter the running ones."""
    taken = _for_kernel(parameters, x.dtype)
    if taken:
        return _forward(x, y, taken, unfilled_table(x.shape[1]), residual, settings, MEASURES | WRITES | FILLS)
    table = training_table(x.shape[1], parameters)
    _forward(x, y, NO_PARAMETERS[x.dtype], table, residual, settings, MEASURES | WRITES)
    reference.update_running(parameters, table, settings, count=x.shape[0] * x.shape[2])
    return table


def forward_inference(x, y, parameters, residual, settings):
    """Normalise with the running statistics, which are constants here."""
    taken = _for_kernel(parameters, x.dtype)
    if taken:
        return _forward(x, y, taken, unfilled_table(x.shape[1]), residual, settings, WRITES | FILLS)
    table = inference_table(x.shape[1], parameters)
    return _forward(x, y, NO_PARAMETERS[x.dtype], table, residual, settings, WRITES)


def backward(dy, context, dx, dresidual):
    """Gradients with respect to x, gamma, beta and the residual."""
    flags = 0 if context.training else FROZEN
    if context.relu:
        flags |= FROM_X if context.y is None else FROM_Y
    x = _writeable(context.x)
    y = x if context.y is None else context.y
    outputs = dx, dx if dresidual is None else dresidual
    run = _family(x, training=context.training).backward
    dbeta, dgamma = run(_writeable(dy), x, y, outputs, context.table, flags, _machine(), work=_work(x))
    return dgamma, dbeta


def _for_kernel(parameters, dtype):
    """The parameters as kernels are compiled for: of the data's dtype, contiguous, writeable. False where some are not.

    Those, which are rare, NumPy handles: kernels for them would take as long to compile as those for the usual ones.
    """
    none = NO_PARAMETERS[dtype][0]
    taken = [none if parameter is None else parameter for parameter in parameters]
    for parameter in taken:
        if parameter.dtype != dtype or not parameter.flags.carray:
            return False
    return taken


def _forward(x, y, parameters, table, residual, settings, flags):
    """Run the kernel and return the table; x stands in where there is no residual, and is not read as one."""
    x = _writeable(x)
    if residual is None:
        residual = x
    else:
        residual = _writeable(residual)
        flags |= ADDS
    if settings.relu:
        flags |= CLIPS
    scalars = settings.eps, settings.momentum, settings.correction
    machine = _machine(0 if flags & MEASURES else 3 if flags & ADDS else 2)
    work = _work(x) if flags & MEASURES else x.size
    run = _family(x, training=bool(flags & MEASURES)).forward
    run(x, residual, y, *parameters, table, scalars, flags, machine, work=work)
    return table


def _family(x, training):
    """The module whose kernels take x."""
    outer, _, inner = x.shape
    if inner >= PLANES_FROM:
        return planes
    most = FEW_SIDE_BY_SIDE if inner == 1 else FEW_IN_ROWS
    return few if training and outer * inner <= most else rows


def _work(x):
    """How many elements of many rows would take as long to be summed over and written."""
    return x.size + CHANNEL_WORK * x.shape[1]


def _machine(inference_arrays=0):
    """The bytes and ways of a thread's second-level cache, and the bytes per thread from which outputs are streamed:
    in inference, with so many arrays, not before these overflow a fast third-level cache."""
    size, ways = second_level_cache()
    stream_from = STREAM_FROM * size
    if inference_arrays:
        stream_from = max(stream_from, STREAM_INFERENCE_FROM * fast_third_level_cache() / inference_arrays)
    return size, ways, int(stream_from)


def _writeable(array):
    """The same memory without its read-only mark, for which Numba would compile every kernel once more."""
    return array if array.flags.writeable else np.asarray(_Memory(array))


class _Memory:
    """A read-only array's memory, offered as writable; kernels do not write to their inputs."""

    def __init__(self, array):
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}
