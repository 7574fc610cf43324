"""Pictures of training runs."""

import itertools

from ..drawing import new_figure, save_png
from .history import History

COLOURS = ("#1f5fa8", "#d1611b", "#3a8a4d", "#7a4fa0")


def save_curves(path, histories: dict[str, History], title: str = "") -> None:
    """Draw loss and accuracy by epoch as a PNG: test solid, training dashed, one colour per run.

    Parameters
    ----------
    path : str or os.PathLike
        PNG file; an older one is replaced in one step.
    histories : dict of str to History
        Runs by the name that the legend shows.
    title : str, optional
        Above the two panels.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    OSError
        If the file cannot be written.
    """
    figure = new_figure("train", figsize=(10, 4.2))
    loss, accuracy = figure.subplots(1, 2)
    for colour, (name, history) in zip(itertools.cycle(COLOURS), histories.items(), strict=False):
        _draw(loss, history, "loss", 1.0, colour, name)
        _draw(accuracy, history, "accuracy", 100.0, colour, name)
    loss.set(xlabel="epoch", ylabel="cross-entropy", title="loss")
    accuracy.set(xlabel="epoch", ylabel="% of images", title="accuracy")
    accuracy.set_ylim(*_accuracy_limits(histories.values()))
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlim(0.5, 0.5 + max(len(history.records) for history in histories.values()))
        axes.legend(frameon=False)
    figure.suptitle(title)
    save_png(figure, path)


def _draw(axes, history, quantity, scale, colour, name):
    epochs = [record.epoch for record in history.records]
    for part, style in (("test", "-"), ("train", "--")):
        values = [scale * getattr(record, f"{part}_{quantity}") for record in history.records]
        label = f"{name}, {part}" if name else part
        axes.plot(epochs, values, style, color=colour, label=label, linewidth=1.6, marker=".", markersize=4)


def _accuracy_limits(histories):
    """From a little below the test accuracy after the first fifth of the epochs: the interesting end of the scale."""
    tails = [history.records[len(history.records) // 5 :] for history in histories]
    lowest = min((record.test_accuracy for tail in tails for record in tail), default=0.0)
    return max(0.0, 100 * lowest - 5), 100.5
