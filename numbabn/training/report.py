"""``numbabn report``: runs that are found in folders, compared on one page."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..extras import need
from ..files import replacing
from . import page
from .description import CONFIG, Description, RunError, read_json
from .history import History
from .loop import HISTORY, LAST

OUT = Path("report.html")


@dataclass(frozen=True)
class FoundRun:
    """A run as its folder tells it."""

    name: str
    """That tells it from the others."""
    folder: Path
    description: Description
    history: History


def report(arguments) -> None:
    """Carry out ``numbabn report``.

    Parameters
    ----------
    arguments : argparse.Namespace
        ``runs``, folders, and ``out``, the file to write.

    Raises
    ------
    UsageError
        If a folder is not there or holds no run, or the file cannot be a page.
    RunError
        If a file of a run is missing or damaged.
    OSError
        If a file cannot be read or written.
    ImportError
        If matplotlib is not installed.
    """
    out = arguments.out
    if out.suffix not in (".html", ".htm"):
        raise UsageError(f"--out: {out} is no name for a page; expected one that ends in .html")
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--out: the folder {out.parent} does not exist")
    need("matplotlib.figure", "train")
    runs = read_runs(arguments.runs)
    content = page.page(runs).encode()
    with replacing(out) as file:
        file.write(content)
    print(f"report         {out}, {len(runs)} run{'s' if len(runs) > 1 else ''}")


def read_runs(folders) -> list[FoundRun]:
    """The runs in some folders and in those inside them, each once.

    Raises
    ------
    UsageError
        If a folder is not there or holds no run.
    RunError, OSError
        If a file is missing, damaged or cannot be read.
    """
    places = {}
    for folder in map(Path, folders):
        for place in _places(folder):
            places.setdefault(place.resolve(), place)
    names = _names(list(places.values()))
    return [_read(name, place) for name, place in zip(names, places.values(), strict=True)]


def _places(folder):
    """Folders that hold a run."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    found = []
    for place, inside, files in os.walk(folder, onerror=_raise):
        inside.sort(key=_natural)
        if HISTORY in files or LAST in files:
            found.append(Path(place))
    if not found:
        raise UsageError(f"{folder} holds no run: neither it nor a folder in it has {HISTORY} or {LAST}")
    return found


def _natural(name):
    """A key that sorts digits-2 before digits-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _raise(error):
    raise error


def _names(places):
    """The part of each path in which they differ; the last name of a single one."""
    paths = [os.path.abspath(place) for place in places]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [os.path.relpath(path, common) for path in paths]


def _read(name, folder):
    if (folder / LAST).exists() and not (folder / CONFIG).exists():
        raise RunError(f"{folder / CONFIG} is not there; numbabn train --resume --out {folder} writes it")
    description = Description.read(folder / CONFIG)
    rows = read_json(folder / HISTORY)
    try:
        history = History.from_rows(rows)
    except ValueError as error:
        raise RunError(f"{folder / HISTORY} is damaged: {str(error)[:200]}") from error
    return FoundRun(name, folder, description, history)
