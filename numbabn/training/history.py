"""What a training run measured, epoch by epoch."""

import csv
import io
import json
import sys
from dataclasses import asdict, astuple, dataclass, field, fields

from ..files import replacing

LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Record:
    """One epoch's measurements."""

    epoch: int
    """From 1."""
    learning_rate: float
    """Of the epoch's last step."""
    train_loss: float
    """Mean over the epoch's images, each seen while the weights were still changing."""
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    images_per_second: float
    """Training alone: forward, backward and the optimiser's step, and waiting for images."""
    seconds: float
    """Training and testing from the first epoch on, without compiling kernels and writing files."""


@dataclass
class History:
    """Records of the epochs that are complete.

    Examples
    --------
    >>> first = Record(1, 0.1, 0.9, 0.70, 0.8, 0.75, 9e4, 0.2)
    >>> history = History([first, Record(2, 0.1, 0.4, 0.90, 0.3, 0.95, 9e4, 0.4)])
    >>> history.final.test_accuracy, history.best.epoch
    (0.95, 2)
    >>> history.first_at(0.7).seconds
    0.2
    """

    records: list[Record] = field(default_factory=list)
    interrupted: bool = False
    """Whether Ctrl-C ended the run early."""
    diverged: bool = False
    """Whether a loss that is not finite ended it."""
    warmup_seconds: float = 0.0
    """Time spent before the clock started: loading or compiling kernels."""

    @property
    def final(self) -> Record | None:
        """The last epoch, None before the first is complete."""
        return self.records[-1] if self.records else None

    @property
    def best(self) -> Record | None:
        """The epoch with the highest test accuracy, among equals the one with the lowest test loss."""
        return max(self.records, key=lambda record: (record.test_accuracy, -record.test_loss), default=None)

    @property
    def images_per_second(self) -> float:
        """Training speed over all epochs, which have as many images each: the harmonic mean of theirs, 0 if none."""
        if not self.records:
            return 0.0
        return len(self.records) / sum(1 / record.images_per_second for record in self.records)

    def first_at(self, accuracy: float) -> Record | None:
        """The first epoch whose test accuracy reached a level, None if none did."""
        return next((record for record in self.records if record.test_accuracy >= accuracy), None)

    def rows(self) -> list[dict]:
        """Records as plain dictionaries, for JSON."""
        return [asdict(record) for record in self.records]

    @classmethod
    def from_rows(cls, rows: list[dict]) -> "History":
        """The history that ``rows`` came from; ``ValueError`` if they are no list of records, epoch by epoch."""
        if not isinstance(rows, list):
            raise ValueError(f"the history is of type {type(rows).__name__}; expected list")
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict) or tuple(row) != NAMES or row["epoch"] != number:
                raise ValueError(f"row {number} of the history is {row!r}; expected the fields {', '.join(NAMES)}")
            if not all(type(value) in (int, float) and abs(value) <= LARGEST for value in row.values()):
                raise ValueError(f"row {number} of the history is {row!r}; expected finite numbers")
            accuracies = (row["train_accuracy"], row["test_accuracy"])
            if not (min(accuracies) >= 0 and max(accuracies) <= 1 and row["images_per_second"] > 0):
                raise ValueError(f"row {number} of the history is {row!r}; expected shares, and some images per second")
        return cls([Record(**row) for row in rows])

    def write_csv(self, path) -> None:
        """Write one line per epoch below a line of names; an older file is replaced in one step."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(NAMES)
        writer.writerows(astuple(record) for record in self.records)
        with replacing(path) as file:
            file.write(text.getvalue().encode("ascii"))

    def write_json(self, path) -> None:
        """Write a JSON list of one object per epoch; an older file is replaced in one step."""
        with replacing(path) as file:
            file.write((json.dumps(self.rows(), indent=2) + "\n").encode("ascii"))


class DivergenceError(FloatingPointError):
    """A loss that is not finite ended a run; ``history`` has the epochs before."""

    def __init__(self, message: str, history: History):
        super().__init__(message)
        self.history = history


NAMES = tuple(entry.name for entry in fields(Record))
