"""A report as text: a table for each kind of pass, layout and fused epilogue. Three peers fit into 120 columns."""

from math import exp, floor, log, log10
from statistics import median

from .measure import FUSED, WHATS
from .shapes import LAYOUTS
from .systems import NUMBABN

TITLES = {"forward": "training forward", "backward": "backward", "inference": "inference"}
NOTHING = "-"


def heading(report: dict) -> str:
    """What was measured, where and when, a line for each; absent systems get one each."""
    machine, setting, systems = (report[name] for name in ("machine", "setting", "systems"))
    if "card" in machine:
        return _card(report)
    caches = "".join(f", {name} {size}" for name, size in machine["caches"].items())
    versions = ", ".join(f"{name} {found['version']}" for name, found in systems.items() if "version" in found)
    own = systems[NUMBABN.name]
    lines = [
        f"{machine['cpu']}, {setting['threads']} of {machine['cpus']} CPUs{caches}",
        f"{machine['system']}, {report['date']}",
        f"{versions}; numbabn with Python {own['python']}, NumPy {own['numpy']}",
        f"{setting['dtype']}, {setting['memory']} memory for results; ms: median ± half the interquartile range in %",
    ]
    return "\n".join(lines + [f"{name}: {found['absent']}" for name, found in systems.items() if "absent" in found])


def _card(report):
    """The heading of a report from a graphics card."""
    machine, setting = report["machine"], report["setting"]
    lines = [
        f"{machine['card']}, {machine['multiprocessors']} multiprocessors, L2 {machine['caches']['L2']}",
        f"driver {machine['driver']}, {report['date']}",
        ", ".join(machine["versions"]),
        f"{setting['dtype']}; ms between CUDA events: median ± half the interquartile range in %",
    ]
    return "\n".join(lines)


def groups(report: dict) -> dict[tuple[str, str, str], list[dict]]:
    """Cells by (what, layout, fused), in one order whatever the order of measuring."""
    found = {}
    for cell in report["cells"]:
        found.setdefault((cell["what"], cell["layout"], cell["fused"]), []).append(cell)

    def place(key):
        return WHATS.index(key[0]), FUSED.index(key[2]), [*LAYOUTS, "NC"].index(key[1])

    return dict(sorted(found.items(), key=lambda item: place(item[0])))


def title(what: str, layout: str, fused: str) -> str:
    """Such as ``training forward +relu, NHWC``."""
    return f"{TITLES[what]}{'' if fused == 'none' else f' +{fused}'}, {layout}"


def written(cell: dict) -> str:
    """A cell's shape as its layout orders it.

    Examples
    --------
    >>> written({"shape": [32, 64, 28, 14], "layout": "NHWC"})
    '32x28x14x64'
    """
    sizes = cell["shape"]
    if cell["layout"] == "NHWC":
        sizes = [sizes[0], *sizes[2:], sizes[1]]
    return "x".join(map(str, sizes))


def peers(report: dict) -> list[str]:
    """Names of the systems beside numbabn that are there."""
    return [name for name, found in report["systems"].items() if name != NUMBABN.name and "version" in found]


def ratio(cell: dict, name: str, to: str | None = None) -> float | None:
    """A system's time in units of another's, by default of the copy limit's; None if one of them is missing."""
    other = cell["limit"] if to is None else cell["times"][to]
    median, unit = cell["times"][name].get("median"), (other or {}).get("median")
    return median / unit if median and unit else None


def render(report: dict, key: tuple[str, str, str], cells: list[dict]) -> str:
    """The table of one of the ``groups``, and below it what could not be measured."""
    names = [name for name in peers(report) if any(ratio(cell, name) for cell in cells)]
    rows = [["shape", "copy limit", NUMBABN.name, "/ limit"]]
    rows[0] += [text for name in names for text in (name, "speed-up")]
    for cell in cells:
        limit = _milliseconds(cell["limit"]) if cell["limit"] else NOTHING
        shape = written(cell)
        row = [shape, limit, time(cell, NUMBABN.name), times(ratio(cell, NUMBABN.name), "")]
        for name in names:
            row += [time(cell, name), times(ratio(cell, name, NUMBABN.name))]
        rows.append(row)
    means = ["geometric mean", "", "", times(_mean(ratio(cell, NUMBABN.name) for cell in cells), "")]
    for name in names:
        means += ["", times(_mean(ratio(cell, name, NUMBABN.name) for cell in cells))]
    if len(cells) > 1:
        rows.append(means)
    return "\n".join([title(*key), *lines(rows), *_hosts(cells), *_notes(cells)])


def lines(rows: list[list[str]]) -> list[str]:
    """A line for each row, the first column on the left and the others on the right of their places."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    found = []
    for first, *rest in rows:
        right = (text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))
        found.append("  ".join([first.ljust(widths[0]), *right]).rstrip())
    return found


def _hosts(cells):
    """What the host takes for a call, where the card's time is in the table: the median of all shapes."""
    found = {}
    for cell in cells:
        for name, times in cell["times"].items():
            if "host" in times:
                found.setdefault(name, []).append(1e6 * times["host"])
    told = ", ".join(f"{name} {median(each):.0f}" for name, each in found.items())
    return [f"us of the host for a call: {told}"] if told else []


def _notes(cells):
    """Why times are missing; a reason that several shapes share is told once."""
    found = {}
    for cell in cells:
        for name, times in cell["times"].items():
            if "note" in times:
                shapes = found.setdefault((name, times["note"]), [])
                shapes.append(written(cell))
    return [
        f"{name}: {note}" + ("" if len(shapes) == len(cells) else f" ({', '.join(shapes)})")
        for (name, note), shapes in found.items()
    ]


def time(cell: dict, name: str) -> str:
    """A system's milliseconds and their spread."""
    times = cell["times"][name]
    if "note" in times:
        return NOTHING
    spread = (times["upper"] - times["lower"]) / 2 / times["median"]
    return f"{_milliseconds(times)} ±{spread:.0%}"


def _milliseconds(times):
    """The median, three digits of it."""
    value = 1e3 * times["median"]
    return f"{value:.{max(0, 2 - floor(log10(value)))}f}"


def times(value: float | None, sign: str = "x") -> str:
    """A ratio."""
    return NOTHING if value is None else f"{value:.2f}{sign}"


def _mean(ratios):
    """The geometric mean; None of nothing."""
    logarithms = [log(value) for value in ratios if value is not None]
    return exp(sum(logarithms) / len(logarithms)) if logarithms else None
