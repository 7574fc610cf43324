"""What ``numbabn train`` does: one network, settings that work."""

import contextlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from .. import nn, use_backend
from .checkpoint import CheckpointError, load_place
from .fit import fit
from .history import History
from .loop import LAST
from .sources import NAMES as DATASETS
from .sources import load_dataset

# Measured on the digits, seeds 0 to 9, each with split, weights and order of its own, over 30 epochs: test accuracy at
# the end 99.4 % on average and at least 98.3 % with batch norm, 98.7 % and at least 97.2 % without; 98 % was reached
# after 3 to 6 epochs and after 6 to 13 or never. Half the rate suits the network without it better: 99.3 % with, 98.9 %
# without. Five times the weight decay suits it worse. With half the rate, 20 epochs and no label smoothing, a seed with
# batch norm ended at 97.8 %.
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-3
LABEL_SMOOTHING = 0.1
WARMUP_SHARE = 0.1
"""Of all steps, in which the learning rate grows to its full value."""

OTHERS = {"epochs": 20, "batch_size": 128}
"""Defaults for data sets other than the digits, which have many more images: customary values, not measured ones."""

EARLIER = {"dataset": "digits", "augment": True}
"""What a run was that does not tell. Options at these values are not saved, so that older checkpoints compare."""


@dataclass(frozen=True)
class Options:
    """What a run can be asked to do differently; defaults are the digits'."""

    dataset: str = "digits"
    data_dir: str | None = None
    augment: bool = True
    epochs: int = 30
    batch_size: int = 64
    lr: float = 0.1
    seed: int = 0
    batch_norm: bool = True
    compare: bool = False
    backend: str | None = None


NAMES = tuple(entry.name for entry in fields(Options))


def defaults(dataset: str) -> Options:
    """The options of a run that asks for a data set and nothing else."""
    return Options() if dataset == "digits" else Options(dataset, **OTHERS)


def train(options: Options, folder, *, resume: bool = False, progress: bool = True) -> History:
    """Train a small CNN as the options say, in a folder of its own.

    Parameters
    ----------
    options : Options
        Settings; all of them are kept in the checkpoints.
    folder : str or os.PathLike
        See ``out`` of :func:`numbabn.training.fit`.
    resume : bool, default False
        Go on from the folder's last checkpoint, if it has one.
    progress : bool, default True
        Show progress bars.

    Returns
    -------
    History
        What was measured.
    """
    data = load_dataset(options.dataset, options.data_dir, seed=options.seed, augment=options.augment)
    channels = data.train_images.shape[1]
    model = nn.SmallCNN(channels, data.classes, norm="batch" if options.batch_norm else None, seed=options.seed)
    optimizer = nn.SGD(
        model, options.lr, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY, exclude=("norm", "bias")
    )
    steps = options.epochs * -(-len(data.train_images) // options.batch_size)
    schedule = nn.warmup_schedule(max(1, round(WARMUP_SHARE * steps)), nn.cosine_schedule(steps))
    with use_backend(options.backend) if options.backend else contextlib.nullcontext():
        return fit(
            model,
            data,
            optimizer,
            epochs=options.epochs,
            batch_size=options.batch_size,
            schedule=schedule,
            label_smoothing=LABEL_SMOOTHING,
            seed=options.seed,
            out=folder,
            resume=resume and (Path(folder) / LAST).exists(),
            progress=progress,
            settings={name: value for name, value in asdict(options).items() if EARLIER.get(name, ...) != value},
        )


def saved_options(folder) -> Options:
    """The options of the run that a folder holds; ``CheckpointError`` if its checkpoint tells none that are valid."""
    last = Path(folder) / LAST
    config = load_place(last).config
    given = {name: config.get(name, EARLIER.get(name)) for name in NAMES}
    kinds = {name: (str, type(None)) if value is None else (type(value),) for name, value in asdict(Options()).items()}
    typed = all(type(given[name]) in kinds[name] for name in NAMES)
    if not typed or given["epochs"] < 1 or given["dataset"] not in DATASETS:
        raise CheckpointError(f"{last} is not of a run of numbabn train: its settings are {given}")
    return Options(**given)
