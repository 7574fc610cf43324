"""Pictures of training runs."""

import colorsys
import io

import numpy as np

from ..drawing import new_figure, save_png
from ..extras import need
from .history import History

COLOURS = ("#2b78c5", "#d1611b", "#33934f", "#9560c2", "#c0467a", "#a8851a", "#1f9a9a", "#7f858f")
"""To be seen on white and on black."""
GOLDEN = 0.618
"""Of a turn around the circle of hues: steps of this size keep away from each other."""
MARKED = 40
"""Epochs up to which each has a dot."""
SPREAD = 20
"""From so many times the least loss on, the greatest would flatten all others: the axis is logarithmic then."""
LARGEST = 1e300
"""What is more is drawn as this: the axes' limits would overflow."""

INKS = {"light": "#24292f", "dark": "#d5dae0"}
QUANTITIES = {"loss": ("cross-entropy", 1.0), "accuracy": ("% of images", 100.0)}


def colour(number: int) -> str:
    """The colour of a run, counted from 0: every number has its own.

    Examples
    --------
    >>> colour(0), colour(8)
    ('#2b78c5', '#c73868')
    """
    if number < len(COLOURS):
        return COLOURS[number]
    red, green, blue = colorsys.hls_to_rgb(number * GOLDEN % 1, 0.5, 0.56)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


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
    TypeError
        If ``histories`` is no dict.
    ImportError
        If matplotlib is not installed.
    OSError
        If the file cannot be written.
    """
    if not isinstance(histories, dict):
        raise TypeError(f"histories is {type(histories).__name__}; expected a dict of History by name")
    figure = new_figure("train", figsize=(10, 4.2))
    for axes, quantity in zip(figure.subplots(1, 2), QUANTITIES, strict=True):
        _draw(axes, quantity, histories)
        axes.set_title(quantity)
        axes.legend(frameon=False)
    figure.suptitle(title)
    save_png(figure, path)


def curves_svg(quantity: str, histories: dict[str, History], theme: str) -> bytes:
    """One of the two panels as an SVG without background, title and legend.

    Parameters
    ----------
    quantity : {"loss", "accuracy"}
    histories : dict of str to History
        One or more, with at least one epoch in all.
    theme : {"light", "dark"}
        Of the page behind it.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    need("matplotlib.backends.backend_svg", "train")
    figure = new_figure("train", figsize=(5.4, 3.9))
    axes = figure.subplots()
    _draw(axes, quantity, histories)
    axes.set_ylabel(f"{quantity}, {axes.get_ylabel()}")
    ink = INKS[theme]
    axes.tick_params(colors=ink)
    for part in (axes.xaxis.label, axes.yaxis.label):
        part.set_color(ink)
    for side, spine in axes.spines.items():
        spine.set(color=ink, visible=side in ("left", "bottom"))
    content = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(content, format="svg", transparent=True, metadata=nothing)
    return content.getvalue()


def _draw(axes, quantity, histories):
    """All runs' curves of one quantity."""
    unit, scale = QUANTITIES[quantity]
    longest = max(len(history.records) for history in histories.values())
    for number, (name, history) in enumerate(histories.items()):
        epochs = [record.epoch for record in history.records]
        for part, style, width in (("test", "-", 1.7), ("train", "--", 1.1)):
            values = [getattr(record, f"{part}_{quantity}") for record in history.records]
            values = scale * np.clip(values, -LARGEST, LARGEST)
            label = f"{name}, {part}" if name else part
            marker = "." if longest <= MARKED else ""
            axes.plot(epochs, values, style, color=colour(number), label=label, lw=width, marker=marker, markersize=4)
    axes.set(xlabel="epoch", ylabel=unit, xlim=(0.5, 0.5 + longest))
    losses = [record.train_loss for history in histories.values() for record in history.records]
    if quantity == "loss" and losses and max(losses) > SPREAD * min(losses) > 0:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if quantity == "accuracy":
        axes.set_ylim(*_accuracy_limits(histories.values()))


def _accuracy_limits(histories):
    """From a little below the test accuracy after the first fifth of the epochs: the interesting end of the scale."""
    tails = [history.records[len(history.records) // 5 :] for history in histories]
    lowest = min((record.test_accuracy for tail in tails for record in tail), default=0.0)
    return max(0.0, 100 * lowest - 5), 100.5
