"""Schedules: functions of the step, counted from 0, that give a factor for the learning rate."""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from math import cos, pi

from . import checks

Schedule = Callable[[int], float]


def step_schedule(milestones: Iterable[int], gamma: float = 0.1) -> Schedule:
    """Multiply by ``gamma`` at each milestone.

    Examples
    --------
    >>> from numbabn import nn
    >>> schedule = nn.step_schedule([10, 20], gamma=0.5)
    >>> schedule(9), schedule(10), schedule(25)
    (1.0, 0.5, 0.25)
    """
    steps = sorted(checks.whole("milestones", step, 0) for step in milestones)
    gamma = checks.number("gamma", gamma, 0, 1)
    return lambda step: gamma ** bisect_right(steps, step)


def cosine_schedule(total: int, final: float = 0.0) -> Schedule:
    """Half a cosine wave from 1 at step 0 to ``final`` at step ``total``, and that from then on.

    Source: I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, equation 5.

    Examples
    --------
    >>> from numbabn import nn
    >>> schedule = nn.cosine_schedule(100, final=0.5)
    >>> schedule(0), round(schedule(50), 6), schedule(100), schedule(200)
    (1.0, 0.75, 0.5, 0.5)
    """
    total = checks.whole("total", total, 1)
    final = checks.number("final", final, 0, 1)
    return lambda step: final + (1 - final) * (1 + cos(pi * min(step / total, 1))) / 2


def warmup_schedule(steps: int, schedule: Schedule) -> Schedule:
    """Grow linearly to ``schedule``'s factor in the first steps, of which each takes ``1 / steps`` more of it.

    The schedule counts from the same step 0, so that its end does not move.

    Examples
    --------
    >>> from numbabn import nn
    >>> schedule = nn.warmup_schedule(4, nn.step_schedule([10]))
    >>> [schedule(step) for step in (0, 1, 3, 4, 10)]
    [0.25, 0.5, 1.0, 1.0, 0.1]
    """
    steps = checks.whole("steps", steps, 1)
    return lambda step: min((step + 1) / steps, 1) * schedule(step)
