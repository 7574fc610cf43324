"""A report as a picture: how near each system comes to the copy limit."""

from itertools import cycle

from ..drawing import new_figure, save_png
from .systems import NUMBABN
from .table import groups, peers, ratio, title, written

STYLES = {
    "numbabn": ("#0072B2", "o"),
    "PyTorch": ("#D55E00", "s"),
    "TensorFlow": ("#E69F00", "D"),
    "JAX": ("#009E73", "^"),
    "cuDNN": ("#009E73", "^"),
    "compiled": ("#E69F00", "D"),
}
"""Colours that are told apart with any colour vision (Okabe and Ito), and markers for print."""

OTHERS = [("#56B4E9", "v"), ("#CC79A7", "P"), ("#F0E442", "X"), ("#000000", "*")]
"""Of numbabn's own kernels, cut in other ways."""

SHAPE_HEIGHT, PANEL_HEIGHT, PANEL_WIDTH = 0.26, 0.75, 4.0
"""Inches: of a shape's line, of what a panel has besides those, of a panel."""


def save(path, report: dict) -> None:
    """Draw a report as a PNG: a column of panels for each kind of pass, a row for each layout and epilogue.

    Parameters
    ----------
    path : str or os.PathLike
        PNG file; an older one is replaced in one step.
    report : dict
        As ``numbabn bench --json`` writes it, with at least one cell.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    OSError
        If the file cannot be written.
    """
    panels = groups(report)
    columns = list(dict.fromkeys(what for what, _, _ in panels))
    rows = list(dict.fromkeys((layout, fused) for _, layout, fused in panels))
    shapes = [max(len(panels.get((what, *row), ())) for what in columns) for row in rows]
    heights = [PANEL_HEIGHT + SHAPE_HEIGHT * count for count in shapes]
    size = (1.4 + PANEL_WIDTH * len(columns), 0.9 + sum(heights))
    figure = new_figure("bench", figsize=size, dpi=110)
    grid = figure.subplots(len(rows), len(columns), squeeze=False, height_ratios=heights, sharex=True)
    for (what, layout, fused), cells in panels.items():
        column = columns.index(what)
        axes = grid[rows.index((layout, fused)), column]
        _draw(axes, cells, [NUMBABN.name, *peers(report)])
        axes.set_title(title(what, layout, fused), fontsize=10, loc="left")
        if column:
            axes.tick_params(labelleft=False)
    grid[0, 0].set_xlim(left=0)  # of all: now that everything that must fit in is drawn
    for axes in grid[-1]:
        axes.set_xlabel("% of the copy limit", fontsize=9)
        axes.tick_params(labelbottom=True)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    machine, setting = report["machine"], report["setting"]
    place = machine["card"] if "card" in machine else f"{machine['cpu']}, {setting['threads']} threads"
    title_line = f"{place}, {setting['dtype']}, {report['date']}"
    figure.suptitle(f"Batch norm in % of the speed of a copy\n{title_line}", fontsize=10)
    save_png(figure, path)


def _draw(axes, cells, names):
    """A line for each shape, from the top; a point for each system with its quartiles."""
    axes.axvline(100, color="black", linewidth=1.2, label="copy limit")
    others = cycle(OTHERS)
    for name in names:
        colour, marker = STYLES[name] if name in STYLES else next(others)
        found = [(place, cell) for place, cell in enumerate(cells) if ratio(cell, name)]
        speeds = [100 / ratio(cell, name) for _, cell in found]
        spans = [_span(cell, name, speed) for (_, cell), speed in zip(found, speeds, strict=True)]
        axes.errorbar(
            speeds,
            [place for place, _ in found],
            xerr=list(zip(*spans, strict=True)) or None,
            fmt=marker,
            color=colour,
            label=name,
            markersize=6 if name == NUMBABN.name else 5,
            elinewidth=1,
            zorder=3 if name == NUMBABN.name else 2,
        )
    labels = [written(cell) for cell in cells]
    axes.set_yticks(range(len(cells)), labels, fontsize=8)
    axes.set_ylim(len(cells) - 0.4, -0.6)
    axes.grid(alpha=0.3)
    axes.tick_params(axis="x", labelsize=8)


def _span(cell, name, speed):
    """Distances to the speeds at the slower and at the faster quartile."""
    times = cell["times"][name]
    return speed * (1 - times["median"] / times["upper"]), speed * (times["median"] / times["lower"] - 1)
