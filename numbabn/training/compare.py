"""The same network trained with and without batch norm, in numbers and in words."""

from .history import History

LEVELS = (0.90, 0.95, 0.98)
"""Test accuracies whose first epoch and time are reported."""


def table(with_norm: History, without: History) -> str:
    """Accuracies at the end and at best, and when each level was reached, in three columns.

    Both histories must have at least one record.
    """
    rows = [
        ("", "with batch norm", "without"),
        ("test accuracy at the end", _percent(with_norm.final), _percent(without.final)),
        ("best test accuracy", _percent(with_norm.best), _percent(without.best)),
    ]
    rows += [
        (f"{level:.0%} reached after", _when(with_norm.first_at(level)), _when(without.first_at(level)))
        for level in LEVELS
    ]
    return "\n".join(f"{name:<26}{first:<22}{second}" for name, first, second in rows)


def verdict(with_norm: History, without: History) -> str:
    """One sentence on whether batch norm was better and sooner in this run, taken from the numbers alone."""
    a, b = with_norm.final.test_accuracy, without.final.test_accuracy
    better = "better" if a > b else "as good" if a == b else "worse"
    return (
        f"In this run batch norm was {better} ({a:.2%} at the end, {b:.2%} without) and {_sooner(with_norm, without)}."
    )


def _sooner(with_norm, without):
    """Compare at the highest level that either reached."""
    for level in sorted(LEVELS, reverse=True):
        a, b = with_norm.first_at(level), without.first_at(level)
        if a is None and b is None:
            continue
        if b is None:
            return f"sooner (only it reached {level:.0%}, after {_when(a)})"
        if a is None:
            return f"not sooner (only the network without it reached {level:.0%}, after {_when(b)})"
        return f"{_order(a, b)} ({level:.0%} after {_when(a)}, without it after {_when(b)})"
    return f"not measurably sooner (neither reached {min(LEVELS):.0%})"


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


def _percent(record):
    return f"{record.test_accuracy:.2%}"
