"""What the studies in this folder share: arguments, seeds, one style of figure, files, and the last line."""

import argparse
import json
import math
import platform
import secrets
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import t as student
from tqdm import tqdm

import numbabn

COLOURS = ("#1f5fa8", "#d1611b", "#3a8a4d", "#7a4fa0")
WITH = {"color": COLOURS[0], "linestyle": "-", "marker": "o", "markersize": 4}
"""How what has batch norm is drawn; lines differ in dashes and markers too, so that colour is not needed."""
WITHOUT = {"color": COLOURS[1], "linestyle": "--", "marker": "s", "markersize": 4}
FULL_SEEDS, QUICK_SEEDS = 5, 2


def arguments(doc: str) -> argparse.Namespace:
    """The options that every study takes: ``quick``, ``out`` (a Path) and ``seeds`` (how many)."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, too short to tell anything: does it run?")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for JSON and figure (%(default)s)")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"run seeds 0 to N - 1 ({FULL_SEEDS})")
    options = parser.parse_args()
    if options.seeds is None:
        options.seeds = QUICK_SEEDS if options.quick else FULL_SEEDS
    if options.seeds < 2:
        parser.error(f"--seeds is {options.seeds}; expected at least 2, since the spread over seeds is reported")
    try:
        options.out.mkdir(parents=True, exist_ok=True)  # better now than when all is measured
    except OSError as error:
        parser.error(f"--out is {options.out}; expected a folder, or where one can be made ({error.strerror})")
    return options


class Study:
    """One claim, measured over seeds.

    Parameters
    ----------
    file : str
        ``__file__`` of the script; figure and numbers are named like it.
    doc : str
        ``__doc__`` of the script: the claim on the first line, then its source, setting and criterion.

    Attributes
    ----------
    quick : bool
        Whether to do as little as shows that the script runs.
    seeds : range
    """

    def __init__(self, file: str, doc: str):
        options = arguments(doc)
        self.name, self.doc = Path(file).stem, doc.strip()
        self.claim = self.doc.splitlines()[0].rstrip(".")
        self.quick, self.seeds, self._out = options.quick, range(options.seeds), options.out

    def over_seeds(self, measure) -> list:
        """What ``measure(seed)`` gives for each seed, with a progress bar."""
        return [measure(seed) for seed in tqdm(self.seeds, desc=self.name, unit=" seeds", dynamic_ncols=True)]

    def figure(self, title: str, panels: int = 1, height: float = 3.8):
        """A figure with panels side by side: the figure, and a list of its axes."""
        figure = Figure(figsize=(max(6.0, 4.4 * panels), height), layout="constrained")
        figure.suptitle(title)
        every = figure.subplots(1, panels, squeeze=False)[0].tolist()
        for axes in every:
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        return figure, every

    def finish(
        self, figure, *, quantity, with_norm, without, holds, settings, runs, names=("with", "without"), note=""
    ):
        """Write ``NAME.json`` and ``NAME.png``, and print the last line.

        Parameters
        ----------
        figure : matplotlib.figure.Figure
        quantity : str
            What is compared, with its unit.
        with_norm, without : sequence of float
            One value for each seed; without may be None, if there is nothing to compare with.
        holds : bool
            By the criterion that the script's docstring states.
        settings : dict
            Everything that was chosen: model, data, epochs, rates, ...
        runs : list
            What was measured, seed by seed; numbers, arrays, lists and dictionaries, None in place of NaN.
        names : pair of str
            What with_norm and without are called.
        note : str, optional
            A few words more for the line, on what else the verdict rests on.
        """
        compared = dict(zip(names, (with_norm, without), strict=True)) if without is not None else {"": with_norm}
        parts = [f"{plus_minus(values)} {name}".strip() for name, values in compared.items()]
        if without is not None:
            compared["difference"] = np.subtract(with_norm, without)
            parts.append(f"difference {plus_minus(compared['difference'])}")
        verdict = "not judged (--quick)" if self.quick else "holds" if holds else "does not hold here"
        note = f"; {note}" if note else ""
        line = f"claim: {self.claim} | {quantity} {', '.join(parts)} ({len(self.seeds)} seeds){note} | {verdict}"
        summary = {name or "value": {"mean": np.mean(v), "std": np.std(v, ddof=1)} for name, v in compared.items()}
        report = {
            "about": self.doc,
            "line": line,
            "holds": bool(holds),
            "quick": self.quick,
            "versions": {"numbabn": numbabn.__version__, "numpy": np.__version__, "python": platform.python_version()},
            "settings": settings,
            "quantity": quantity,
            "summary": summary,
            "seeds": list(self.seeds),
            "runs": runs,
        }
        text = json.dumps(report, indent=1, allow_nan=False, default=lambda value: value.tolist(), ensure_ascii=False)
        _replace(self._out / f"{self.name}.json", lambda path: path.write_text(text + "\n", encoding="utf-8"))
        _replace(
            self._out / f"{self.name}.png",
            lambda path: figure.savefig(path, format="png", dpi=100, pil_kwargs={"optimize": True}),
        )
        print(f"{self._out / self.name}.png and .json written")
        print(line)


def band(axes, x, values, label, *, color, **style) -> None:
    """Draw the mean over seeds as a line and one standard deviation about it as a band; values are (seeds, x)."""
    mean, std = np.mean(values, axis=0), np.std(values, axis=0, ddof=1)
    axes.plot(x, mean, color=color, label=label, linewidth=1.6, **style)
    axes.fill_between(x, mean - std, mean + std, color=color, alpha=0.18, linewidth=0)


def greater(values, others) -> bool:
    """Whether values are greater than others, pair by pair: by a one-sided t-test at 2.5 %.

    Examples
    --------
    >>> greater([3.0, 3.1, 2.9], [1.0, 1.2, 0.8]), greater([3.0, 1.0, 2.9], [1.0, 3.1, 2.8])
    (True, False)
    """
    differences = np.subtract(values, others)
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    return bool(differences.mean() > student.ppf(0.975, len(differences) - 1) * error)


def plus_minus(values) -> str:
    """Mean and standard deviation over seeds, to two digits of the latter.

    Examples
    --------
    >>> plus_minus([1.0, 2.0, 3.0]), plus_minus([98.61, 98.72]), plus_minus([5, 5]), plus_minus([0.0, 2e-9])
    ('2.0 ± 1.0', '98.665 ± 0.078', '5.00 ± 0.00', '1e-09 ± 1.4e-09')
    """
    mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
    decimals = max(0, 1 - math.floor(math.log10(std))) if std else 2
    if decimals > 5 or abs(mean) >= 1e6:
        return f"{mean:.3g} ± {std:.2g}"
    return f"{mean:.{decimals}f} ± {std:.{decimals}f}"


def _replace(path, write):
    """Have a file written beside its place and moved there, so that it is whole or not there at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
