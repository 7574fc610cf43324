"""The same network trained with and without batch norm, in numbers and in words."""

from .history import History

WITH, WITHOUT = "with batch norm", "without"

LEVELS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Test accuracies whose first epoch and time are reported: the highest three that either run reached. Less is what
guessing among ten classes comes near."""


def table(with_norm: History, without: History) -> str:
    """Accuracies at the end and at best, and when each level was reached, in three columns."""
    rows = [
        ("", WITH, WITHOUT),
        ("test accuracy at the end", _end(with_norm), _end(without)),
        ("best test accuracy", _percent(with_norm.best), _percent(without.best)),
    ]
    rows += [
        (f"{level:.0%} reached after", _when(with_norm.first_at(level)), _when(without.first_at(level)))
        for level in _reached(with_norm, without)[-3:]
    ]
    return "\n".join(f"{name:<26}{first:<22}{second}" for name, first, second in rows)


def verdict(with_norm: History, without: History) -> str:
    """One sentence on whether batch norm was better and sooner in this run, taken from the numbers alone."""
    if with_norm.diverged and without.diverged:
        return "In this run both networks diverged."
    if with_norm.diverged:
        return f"In this run the network with batch norm diverged; without it, {_end(without)} at the end."
    if without.diverged:
        return f"In this run the network without batch norm diverged; with it, {_end(with_norm)} at the end."
    a, b = with_norm.final.test_accuracy, without.final.test_accuracy
    better = "better" if a > b else "as good" if a == b else "worse"
    return (
        f"In this run batch norm was {better} ({a:.2%} at the end, {b:.2%} without) and {_sooner(with_norm, without)}."
    )


def _sooner(with_norm, without):
    """Compare at the highest level that either reached."""
    reached = _reached(with_norm, without)
    if not reached:
        return f"not measurably sooner (neither reached {min(LEVELS):.0%})"
    level = reached[-1]
    a, b = with_norm.first_at(level), without.first_at(level)
    if b is None:
        return f"sooner (only it reached {level:.0%}, after {_when(a)})"
    if a is None:
        return f"not sooner (only the network without it reached {level:.0%}, after {_when(b)})"
    return f"{_order(a, b)} ({level:.0%} after {_when(a)}, without it after {_when(b)})"


def _reached(*histories):
    """The levels that one of the runs reached, from low to high."""
    return [level for level in LEVELS if any(history.first_at(level) for history in histories)]


def _order(a, b):
    if a.epoch < b.epoch:
        return "sooner" if a.seconds < b.seconds else "sooner in epochs but not in time"
    if a.epoch == b.epoch or a.seconds >= b.seconds:
        return "not sooner"
    return "sooner in time but not in epochs"


def _when(record):
    if record is None:
        return "never"
    return f"{record.epoch} epoch{'s' if record.epoch > 1 else ''}, {record.seconds:.2f} s"


def _end(history):
    return "diverged" if history.diverged else _percent(history.final)


def _percent(record):
    return "none" if record is None else f"{record.test_accuracy:.2%}"
