"""The training loop itself: what happens in an epoch, and when a run is saved."""

import contextlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from . import batches, checkpoint
from .checkpoint import Place
from .data import Dataset
from .description import CONFIG, Description
from .evaluate import count_correct, evaluate
from .history import DivergenceError, History, Record
from .interrupt import Interrupt
from .prefetch import prefetched

LAST, BEST, HISTORY = "last.npz", "best.npz", "history.json"


@dataclass
class Run:
    """A run under way; ``place`` is the part of it that checkpoints keep beside the arrays."""

    model: object
    data: Dataset
    optimizer: object
    criterion: object
    schedule: object
    place: Place
    description: Description
    folder: Path | None
    bar: object

    def __post_init__(self):
        self.base_rate = self.place.config["lr"]

    def train(self) -> History:
        """Go on to the last epoch, or until Ctrl-C."""
        history, epochs = self.place.history, self.place.config["epochs"]
        if self.place.epoch < epochs:
            history.warmup_seconds = self.warm_up()  # Ctrl-C may end this at once: there is nothing to save yet
        with Interrupt() as interrupt, np.errstate(over="ignore", invalid="ignore"):  # each loss is checked instead
            try:
                while self.place.epoch < epochs and not interrupt.requested:
                    self.epoch(interrupt)
            finally:
                self.optimizer.lr = self.base_rate
        history.interrupted = interrupt.requested
        return history

    def rate(self, batch, count):
        """Learning rate of a batch of the epoch under way, which has ``count`` of them."""
        return self.base_rate * self.schedule(self.place.epoch * count + batch)

    def warm_up(self):
        """Have the kernels loaded or compiled before the clock starts: a step and a test, whose traces are undone."""
        started = perf_counter()
        state = self.model.state_dict()
        images, labels = self.batch(0, epoch_batches(self.place)[0])
        try:
            self.criterion.forward(self.model.forward(images, training=True), labels)
            self.model.backward(self.criterion.backward(), need_dx=False)
            self.model.forward(images, training=False)
        finally:
            self.model.load_state_dict(state)
        return perf_counter() - started

    def epoch(self, interrupt):
        """Train on the batches that are left of this epoch, and close it; or save and leave when asked to."""
        place, parts = self.place, epoch_batches(self.place)
        title = f"epoch {place.epoch + 1:>2}/{place.config['epochs']}"
        total = len(self.data.train_images)
        bar = self.bar(desc=title, total=total, initial=place.images, unit=" images", dynamic_ncols=True)
        with bar, contextlib.closing(self.batches(parts)) as made:
            for indices in parts[place.batch :]:
                started = perf_counter()
                self.step(*next(made), len(parts))
                place.seconds += perf_counter() - started
                bar.set_postfix_str(_text(place.loss / place.images, place.correct / place.images), refresh=False)
                bar.update(len(indices))
                if interrupt.requested:
                    self.save_all()
                    return
            record = self.measure(len(parts))
            bar.set_postfix_str(f"{_text(record.train_loss, record.train_accuracy)}, test {record.test_accuracy:.2%}")
        self.close(record)

    def batches(self, parts):
        """The batches that are left of an epoch; where making them is work, the next one is made beside the step."""
        data, left = self.data, range(self.place.batch, len(parts))
        work = data.transform is not None or data.augment is not None
        return prefetched(lambda number: self.batch(number, parts[number]), left, ahead=int(work))

    def batch(self, number, indices):
        """Images and labels of a batch of the epoch under way: by its number, the same in a run that was resumed."""
        return self.data.train_batch(indices, batches.generator(self.place.config["seed"], self.place.epoch, number))

    def step(self, images, labels, count):
        place = self.place
        logits = self.model.forward(images, training=True)
        loss = self.criterion.forward(logits, labels)
        self.check_finite(loss, f"batch {place.batch + 1}")
        correct = count_correct(logits, labels)
        self.model.backward(self.criterion.backward(), need_dx=False)
        self.optimizer.lr = self.rate(place.batch, count)
        self.optimizer.step()
        place.batch += 1
        place.images += len(labels)
        place.correct += correct
        place.loss += loss * len(labels)

    def measure(self, count):
        place, config = self.place, self.place.config
        started = perf_counter()
        test = evaluate(
            self.model,
            self.data.test_images,
            self.data.test_labels,
            batch_size=config["batch_size"],
            label_smoothing=config["label_smoothing"],
            transform=self.data.transform,
        )
        self.check_finite(test.loss, "the test images")
        before = place.history.final.seconds if place.history.final else 0.0
        return Record(
            epoch=place.epoch + 1,
            learning_rate=float(self.rate(count - 1, count)),
            train_loss=place.loss / place.images,
            train_accuracy=place.correct / place.images,
            test_loss=test.loss,
            test_accuracy=test.accuracy,
            images_per_second=place.images / place.seconds,
            seconds=before + place.seconds + perf_counter() - started,
        )

    def close(self, record):
        """Enter the record, start a new epoch, write everything."""
        place = self.place
        place.history.records.append(record)
        place.epoch += 1
        place.batch = place.images = place.correct = 0
        place.loss = place.seconds = 0.0
        if place.history.best is record:
            self.save(BEST)
        self.save_all()

    def save_all(self):
        """What the run is, what it measured, and last where it stands: a folder with that has the others."""
        self.describe(self.description)
        self.save(LAST)

    def describe(self, description):
        """Write what the run is, and what it measured."""
        if self.folder is not None:
            description.write(self.folder / CONFIG)
            self.place.history.write_csv(self.folder / "history.csv")
            self.place.history.write_json(self.folder / HISTORY)

    def save(self, name):
        if self.folder is not None:
            checkpoint.save_checkpoint(self.folder / name, self.model, self.optimizer, self.place)

    def check_finite(self, loss, where):
        """End the run at a loss that is not finite; its folder tells so."""
        if math.isfinite(loss):
            return
        where = f"the loss is {loss} in epoch {self.place.epoch + 1}, {where}"
        self.describe(replace(self.description, diverged=where) if self.folder else None)
        self.place.history.diverged = True
        first = self.place.epoch == self.place.batch == 0
        advice = "are all images finite?" if first else "a lower learning rate may help"
        raise DivergenceError(f"{where}; {advice}", self.place.history)


class NoBar:
    """What ``progress=False`` shows: tqdm's methods, doing nothing."""

    def __init__(self, **options):
        """Take what tqdm takes."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        """Leave nothing behind."""

    def set_postfix_str(self, text, refresh=True):
        """Show nothing."""

    def update(self, count):
        """Count nothing."""


def epoch_batches(place: Place) -> list[np.ndarray]:
    """Batches of the epoch under way."""
    config = place.config
    return batches.shuffled(config["train_images"], config["batch_size"], config["seed"], place.epoch)


def _text(loss, accuracy):
    return f"loss {loss:.4f}, train {accuracy:.2%}"
