"""``config.json``: what a run is, for people and for :mod:`~numbabn.training.report`. Resuming does not look at it."""

import json
import platform
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from .. import __version__, machine
from ..files import replacing

CONFIG = "config.json"
FORMAT = "numbabn run"
VERSION = 1
LEVELS = 6
"""How deep values may be nested."""


class RunError(ValueError):
    """A file of a run is missing, damaged, or not what it should be."""


@dataclass(frozen=True)
class Description:
    """What a run is, besides what it measured.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> from numbabn.training import Dataset
    >>> images, labels = np.zeros((3, 1, 4, 4)), np.arange(3)
    >>> description = Description.of(nn.MLP(16, 3, hidden=()), Dataset(images, labels, images, labels), {"epochs": 2})
    >>> description.model, description.parameters, description.data
    ('MLP', 51, {'name': 'data', 'train_images': 3, 'test_images': 3, 'shape': [1, 4, 4], 'classes': 3})
    """

    date: str
    """When it was started or last resumed, UTC."""
    from_epoch: int
    """Epochs that were complete by then."""
    versions: dict
    machine: dict
    data: dict
    model: str
    """The class."""
    parameters: int
    settings: dict
    """Those that a resumed run must share, and ``epochs``."""
    notes: dict
    """What the caller wanted to be told."""
    diverged: str = ""
    """Where a loss that is not finite ended the run, if one did."""

    @classmethod
    def of(cls, model, data, settings: dict, notes: dict | None = None, from_epoch: int = 0) -> "Description":
        """Describe a run that starts now."""
        packages = {package: version(package) for package in ("numba", "numpy", "scipy")}
        return cls(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            from_epoch=from_epoch,
            versions={"numbabn": __version__, "python": platform.python_version(), **packages},
            machine=machine.describe(),
            data={
                "name": data.name,
                "train_images": len(data.train_images),
                "test_images": len(data.test_images),
                "shape": list(data.train_images.shape[1:]),
                "classes": int(data.classes),
            },
            model=type(model).__name__,
            parameters=model.count_parameters(),
            settings=settings,
            notes=notes or {},
        )

    def write(self, path) -> None:
        """Write it as JSON; an older file is replaced in one step."""
        document = {"format": FORMAT, "version": VERSION, **asdict(self)}
        with replacing(path) as file:
            file.write((json.dumps(document, indent=2, allow_nan=False) + "\n").encode("ascii"))

    @classmethod
    def read(cls, path) -> "Description":
        """What :meth:`write` wrote; ``RunError`` if the file is anything else."""
        document = read_json(path)
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise RunError(f"{path} does not describe a run: its format is not {FORMAT!r}")
        found = document.pop("version", None)
        if found != VERSION:
            raise RunError(f"{path} has format version {_short(found)}; this numbabn reads version {VERSION}")
        expected = {field.name: field.type for field in fields(cls)}
        if document.keys() != expected.keys():
            raise RunError(f"{path} has the entries {_short(list(document))}; expected {', '.join(expected)}")
        for name, kind in expected.items():
            if type(document[name]) is not kind or not _shallow(document[name], LEVELS):
                raise RunError(f"{path} has {_short(document[name])} for {name}; expected {kind.__name__}")
        for holder, name in ((document["settings"], "epochs"), (document["data"], "train_images")):
            if type(holder.get(name)) is not int or holder[name] < 1:
                raise RunError(f"{path} has {_short(holder.get(name))} for {name}; expected a number from 1")
        return cls(**document)


def read_json(path, limit: int = 1 << 24):
    """The content of a JSON file of at most ``limit`` bytes, without NaN and infinity; ``RunError`` if it is none.

    Examples
    --------
    >>> read_json("nowhere.json")
    Traceback (most recent call last):
        ...
    numbabn.training.description.RunError: nowhere.json is not there
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"{path} is {'no file' if path.exists() else 'not there'}")
    with open(path, "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise RunError(f"{path} has more than {limit:,} bytes")
    try:
        return json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # what json raises on bytes that are not what they should be
        raise RunError(f"{path} is damaged: {error}") from error


def _refuse(constant):
    raise ValueError(f"it holds {constant}")


def _shallow(value, levels):
    """Whether lists and dictionaries are nested no deeper."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_shallow(entry, levels - 1) for entry in inside)


def _short(value):
    text = repr(value)
    return text if len(text) < 60 else f"{text[:50]} ..."
