"""Figures kept as PNG files. They are matplotlib's, which only an extra brings."""

from .extras import need
from .files import replacing


def new_figure(extra: str, **options):
    """A matplotlib figure of its own on Agg, not pyplot's: no display is needed and no global state is touched.

    Parameters
    ----------
    extra : {"train", "bench"}
        What to name where matplotlib is not installed.
    **options
        Those of ``matplotlib.figure.Figure``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    figure = need("matplotlib.figure", extra).Figure(layout="constrained", **options)
    need("matplotlib.backends.backend_agg", extra).FigureCanvasAgg(figure)  # becomes the figure's canvas
    return figure


def save_png(figure, path) -> None:
    """Write a figure of :func:`new_figure`; an older file is replaced in one step."""
    with replacing(path) as file:
        figure.canvas.print_png(file)
