"""``numbabn bench --what training``: whole steps of training, beside PyTorch's with the same network and weights."""

import tempfile
from math import isclose
from pathlib import Path
from time import sleep

from . import table
from .measure import PAUSE, Effort, ask, summary

STEPS = (("small-cnn", (64, 1, 8, 8)), ("small-cnn", (64, 1, 28, 28)), ("resnet20", (128, 3, 32, 32)))
"""Networks and batches: that of ``numbabn train``, one of MNIST's images, one of CIFAR's."""

LOSSES = 3
"""Steps whose losses must agree with numbabn's before any is timed: the third sees two updates of all weights."""

TOLERANCE = 1e-3
"""Relative; float32 sums in another order."""


def compile_ahead(process, steps) -> None:
    """Have numbabn's kernels compiled, and the worker started anew: what compiling takes is not training's memory."""
    with tempfile.TemporaryDirectory() as folder:
        for network, shape in steps:
            _prepare(process, {}, "numbabn", network, shape, folder)
    process.stop()


def measure(network: str, shape, processes: dict, effort: Effort, advance=lambda: None) -> dict:
    """Measure one step; ``advance`` is called after each system's turn, for the progress bar.

    Returns
    -------
    dict
        ``network``, ``shape``, ``times`` as of ``measure.measure``, and ``peaks``: bytes of each process at most.
    """
    notes, samples, peaks, expected = {}, {name: [] for name in processes}, {}, None
    with tempfile.TemporaryDirectory() as folder:
        for name, process in processes.items():
            losses = _prepare(process, notes, name, network, shape, folder)
            expected = losses if expected is None else expected
            if name not in notes and not _agree(losses, expected):
                notes[name] = f"other losses, not timed: {losses} for {expected}"
    order = list(processes)
    for number in range(effort.rounds):
        for name in order[number % len(order) :] + order[: number % len(order)]:
            if name not in notes:
                sleep(PAUSE)
                answer = ask(processes[name], notes, name, "time", **effort.of_round(number))
                samples[name] += answer.get("times", {}).get("call", [])
            advance()
    for name, process in processes.items():
        if name not in notes:
            peaks[name] = ask(process, notes, name, "memory").get("peak", 0)
    times = {name: {"note": notes[name]} if name in notes else summary(samples[name], 0) for name in processes}
    return {"network": network, "shape": list(shape), "times": times, "peaks": peaks}


def _prepare(process, notes, name, network, shape, folder):
    """The losses of the first steps."""
    details = {"network": network, "shape": shape, "weights": str(Path(folder, "weights.npz")), "losses": LOSSES}
    return ask(process, notes, name, "prepare_training", **details).get("losses", [])


def _agree(losses, expected):
    return len(losses) == len(expected) and all(
        isclose(one, other, rel_tol=TOLERANCE) for one, other in zip(losses, expected, strict=True)
    )


def render(report: dict) -> str:
    """The steps of a report as a table: milliseconds, images per second, the process's memory, others' by numbabn's."""
    names = [name for name in table.peers(report) if any("median" in step["times"][name] for step in report["steps"])]
    rows = [["step", "numbabn", "images/s", "MB"]]
    rows[0] += [text for name in names for text in (name, "images/s", "MB", "speed-up")]
    for step in report["steps"]:
        row = [f"{step['network']} {'x'.join(map(str, step['shape']))}", *_numbers(step, "numbabn")]
        for name in names:
            row += [*_numbers(step, name), table.times(table.ratio(step, name, "numbabn"))]
        rows.append(row)
    notes = {
        f"{name}: {times['note']}"
        for step in report["steps"]
        for name, times in step["times"].items()
        if "note" in times
    }
    return "\n".join(["step of training, ms", *table.lines(rows), *sorted(notes)])


def _numbers(step, name):
    times = step["times"][name]
    if "note" in times:
        return [table.NOTHING] * 3
    return [
        table.time(step, name),
        f"{step['shape'][0] / times['median']:,.0f}",
        f"{step['peaks'].get(name, 0) / 1e6:.0f}",
    ]
