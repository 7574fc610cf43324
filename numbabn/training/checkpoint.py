"""Checkpoints: one npz file with a model's and an optimiser's arrays and the place of the run, as JSON.

A file may come from anywhere, so it is read with suspicion: never unpickled; names, shapes, dtypes and sizes are
checked from the headers before any array is read; and nothing reaches the model before everything has been read.
"""

import contextlib
import json
import math
import zipfile
from dataclasses import dataclass, field

import numpy as np

from ..files import replacing
from .history import History

FORMAT = "numbabn checkpoint"
VERSION = 1
METADATA_LIMIT = 1 << 24
"""Characters of JSON: about 50,000 epochs of history."""


class CheckpointError(ValueError):
    """The file is no checkpoint, is damaged, or belongs to another model or run."""


@dataclass
class Place:
    """Where a run stands: everything but the arrays."""

    config: dict = field(repr=False)
    """What the run was started with; resuming with anything else is refused."""
    history: History = field(default_factory=History, repr=False)
    epoch: int = 0
    """Complete epochs; the others count within the epoch under way."""
    batch: int = 0
    images: int = 0
    correct: int = 0
    loss: float = 0.0
    """Sum over the images."""
    seconds: float = 0.0


def save_checkpoint(path, model, optimizer=None, place: Place | None = None) -> None:
    """Write a checkpoint; an older file is replaced in one step, and stays as it is if anything fails.

    Parameters
    ----------
    path : str or os.PathLike
        File to write, usually ``*.npz``; ``numpy.load`` opens it too.
    model, optimizer
        Objects with ``state_dict()``; without an optimiser, a run cannot be resumed from the file.
    place : Place, optional
        Where the run stands; by default at no run's start.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from numbabn import nn
    >>> model, other = nn.MLP(4, 2, seed=0), nn.MLP(4, 2, seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(Path(folder, "model.npz"), model)
    ...     place = load_checkpoint(Path(folder, "model.npz"), other)
    >>> np.array_equal(other.state_dict()["linear1.weight"], model.state_dict()["linear1.weight"])
    True
    """
    place = Place({}) if place is None else place
    document = {"format": FORMAT, "version": VERSION, **vars(place), "history": place.history.rows()}
    arrays = {"metadata": np.array(json.dumps(document, allow_nan=False)), **_state(model, optimizer)}
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load_checkpoint(path, model, optimizer=None) -> Place:
    """Read a checkpoint into a model and, if given, its optimiser.

    Parameters
    ----------
    path : str or os.PathLike
        File that :func:`save_checkpoint` wrote.
    model, optimizer
        Objects with ``state_dict()`` and ``load_state_dict()``, made as they were for the saved run.

    Returns
    -------
    Place
        Where the run stood.

    Raises
    ------
    CheckpointError
        If the file is not a checkpoint, is damaged, has another format version, or does not fit the model. Model and
        optimiser are then as they were.
    OSError
        If the file cannot be opened.
    """
    expected = _state(model, optimizer)
    with _opened(path) as archive:
        place = _place(path, archive)
        names = {name for name in archive.namelist() if optimizer is not None or not name.startswith("optimizer/")}
        _same_names(path, names, {"metadata.npy"} | {f"{name}.npy" for name in expected})
        for name, array in expected.items():
            _check_header(path, archive, name, array)
        arrays = {name: _read(archive, name) for name in expected}
    model.load_state_dict(_part(arrays, "model/"))
    if optimizer is not None:
        optimizer.load_state_dict(_part(arrays, "optimizer/"))
    return place


def load_place(path) -> Place:
    """Read where a run stood, and its configuration, without its arrays. Raises as :func:`load_checkpoint` does."""
    with _opened(path) as archive:
        return _place(path, archive)


def _state(model, optimizer):
    state = {f"model/{name}": array for name, array in model.state_dict().items()}
    if optimizer is not None:
        state |= {f"optimizer/{name}": array for name, array in optimizer.state_dict().items()}
    return state


def _part(arrays, prefix):
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


@contextlib.contextmanager
def _opened(path):
    """The file as a zip archive of plain members; whatever is wrong with its bytes is a ``CheckpointError``."""
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            raise CheckpointError(f"{path} is not a checkpoint: it is no npz file")
        try:
            with zipfile.ZipFile(file) as archive:
                for info in archive.infolist():
                    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                        raise CheckpointError(f"{path} is not a checkpoint: {info.filename} is compressed")
                yield archive
        except CheckpointError:
            raise
        except (
            zipfile.BadZipFile,
            EOFError,
            OSError,
            OverflowError,
            RuntimeError,
            SyntaxError,
            TypeError,
            ValueError,
        ) as error:
            # What zipfile, numpy.lib.format and json raise on bytes that are not what they should be.
            raise CheckpointError(f"{path} is truncated or damaged: {error}") from error


def _place(path, archive):
    if "metadata.npy" not in archive.namelist():
        raise CheckpointError(f"{path} is not a checkpoint: it has no metadata")
    shape, dtype = _header(path, archive, "metadata")
    if shape != () or dtype.kind != "U" or dtype.itemsize > 4 * METADATA_LIMIT:
        raise CheckpointError(f"{path} is not a checkpoint: its metadata are {dtype} of shape {shape}, not one string")
    document = json.loads(str(_read(archive, "metadata")), parse_constant=_refuse)
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint: its metadata do not say {FORMAT!r}")
    version = document.pop("version", None)
    if version != VERSION:
        raise CheckpointError(f"{path} has format version {version!r}; this numbabn reads version {VERSION}")
    place = Place(**document)
    place.history = History.from_rows(place.history)
    _check_place(place)
    return place


def _check_place(place):
    counts = (place.epoch, place.batch, place.images, place.correct)
    if not all(type(count) is int and count >= 0 for count in counts) or place.epoch != len(place.history.records):
        raise ValueError(f"its place is epoch, batch, images, correct = {counts}")
    sums = (place.loss, place.seconds)
    finite = all(type(value) is float and 0 <= value < math.inf for value in sums)
    if not finite or (place.seconds > 0) != (place.batch > 0):
        raise ValueError(f"its loss and seconds are {place.loss!r} and {place.seconds!r}")
    if not isinstance(place.config, dict):
        raise ValueError(f"its config is {place.config!r}")


def _refuse(constant):
    raise ValueError(f"its metadata hold {constant}")


def _same_names(path, names, expected):
    for verb, difference in (("lacks", expected - names), ("has unexpected", names - expected)):
        if difference:
            listed = ", ".join(sorted(name.removesuffix(".npy") for name in difference)[:5])
            raise CheckpointError(f"{path} is of another model or optimiser: it {verb} {listed}")


def _header(path, archive, name):
    """Shape and dtype of an array, and a check that its data are as long as they say."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):
            raise ValueError(f"{name} has npy version {version}; expected (1, 0)")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        if dtype.hasobject:
            raise CheckpointError(f"{path} is not a checkpoint: {name} holds Python objects, which are never loaded")
        if info.file_size != member.tell() + math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} has not the size that its header tells")
    return shape, dtype


def _check_header(path, archive, name, expected):
    shape, dtype = _header(path, archive, name)
    if shape != expected.shape or dtype != expected.dtype:
        raise CheckpointError(
            f"{path} is of another model or optimiser: {name} is {dtype} of shape {shape}; "
            f"expected {expected.dtype} of shape {expected.shape}"
        )


def _read(archive, name):
    with archive.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)
