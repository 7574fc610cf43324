"""Cells of the tables, measured: system after system has a short turn at the same problem, several times round."""

import itertools
from dataclasses import asdict, dataclass
from math import prod
from time import sleep

import numpy as np

from .processes import WorkerError
from .shapes import layouts_of

WHATS = ("forward", "backward", "inference")
FUSED = ("none", "relu", "residual+relu")

ROUNDS = 5
"""Turns of each system: what slows the machine down for a second meets all of them, and leaves the median alone."""

PAUSE = 0.05
"""Seconds between turns, for the last one's idle threads to go to sleep: GNU OpenMP's spin for about 20 ms, Intel's as
long as they are told to (see ``systems``)."""


@dataclass(frozen=True)
class Cell:
    """One problem: a row of a table. The shape is written channels-first."""

    what: str
    layout: str
    fused: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Effort:
    """How long a system is timed for a cell: ``seconds``, or a number of ``calls``."""

    seconds: float | None = 0.5
    calls: int | None = None

    @property
    def rounds(self):
        """Turns that this is spread over."""
        return min(ROUNDS, self.calls or ROUNDS)

    def of_round(self, number):
        """What a worker is told for one turn, the first of which has the number 0.

        Examples
        --------
        >>> [Effort(None, 7).of_round(number)["calls"] for number in range(5)]
        [2, 2, 1, 1, 1]
        """
        if self.calls:
            each, rest = divmod(self.calls, self.rounds)
            return {"calls": each + (number < rest)}
        return {"seconds": self.seconds / self.rounds}


def cells(shapes, layouts, whats, fused) -> list[Cell]:
    """All combinations; those of one shape and layout follow each other, so that workers make its arrays once."""
    places = [(shape, layout) for shape in shapes for layout in layouts_of(shape, layouts)]
    return [Cell(what, layout, kind, shape) for shape, layout in places for what in whats for kind in fused]


def moved(what: str, fused: str) -> tuple[int, int]:
    """Arrays that must at least be read, and written.

    Examples
    --------
    >>> moved("forward", "relu"), moved("backward", "residual+relu")
    ((1, 1), (3, 2))
    """
    residual = fused == "residual+relu"
    if what == "backward":
        return (3, 2) if residual else (2, 1)
    return (2, 1) if residual else (1, 1)


def measure(cell: Cell, processes: dict, dtype: str, reuse: bool, effort: Effort, advance=lambda: None) -> dict:
    """Measure one cell.

    Parameters
    ----------
    cell : Cell
    processes : dict of str to Process
        By name, numbabn first.
    dtype : {"float32", "float64"}
    reuse : bool
        Whether results go to memory that was used before.
    effort : Effort
    advance : callable
        Called after each turn.

    Returns
    -------
    dict
        The fields of ``cell``, ``bytes`` that must be moved, ``limit`` and ``times``: a summary for each system, or its
        ``note`` that tells why there is none. See :func:`summary`.
    """
    details = {**asdict(cell), "dtype": dtype, "reuse": reuse}
    notes, samples = {}, {name: {} for name in processes}
    for name, process in processes.items():
        ask(process, notes, name, "prepare", **details)
    order = list(processes)
    for number in range(effort.rounds):
        start = number % len(order)
        for name in order[start:] + order[:start]:
            if name not in notes:
                sleep(PAUSE)
                answer = ask(processes[name], notes, name, "time", **effort.of_round(number))
                for what, times in answer.get("times", {}).items():
                    samples[name].setdefault(what, []).extend(times)
            advance()
    size = sum(moved(cell.what, cell.fused)) * prod(cell.shape) * np.dtype(dtype).itemsize
    times = {
        name: {"note": notes[name]} if name in notes else summary(samples[name]["call"], size) for name in processes
    }
    return {**asdict(cell), "bytes": size, "limit": _limit(samples.values(), size), "times": times}


def ask(process, notes: dict, name: str, do: str, **details) -> dict:
    """A worker's answer; a ``note`` in it, or the lack of one, goes to ``notes``."""
    try:
        answer = process.ask(do, **details)
    except WorkerError as error:
        answer = {"note": str(error)}
    if "note" in answer:
        notes[name] = answer["note"]
    return answer


def _limit(samples, size):
    """The better of the two ways to copy; None if neither was measured."""
    both = itertools.chain.from_iterable(named.items() for named in samples)
    found = [{"kind": name, **summary(times, size)} for name, times in both if name.startswith("limit_")]
    return min(found, key=lambda one: one["median"], default=None)


def summary(times, size: int) -> dict:
    """Median and quartiles in seconds, number of times, and gigabytes per second at the median.

    Examples
    --------
    >>> summary([0.001, 0.003, 0.002], 8_000_000)
    {'median': 0.002, 'lower': 0.0015, 'upper': 0.0025, 'calls': 3, 'gigabytes_per_second': 4.0}
    """
    lower, median, upper = (float(value) for value in np.percentile(times, (25, 50, 75)))
    return {
        "median": median,
        "lower": lower,
        "upper": upper,
        "calls": len(times),
        "gigabytes_per_second": size / median / 1e9,
    }
