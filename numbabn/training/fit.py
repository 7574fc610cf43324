"""Train a model, from the start or from where a run was left."""

from pathlib import Path

from ..extras import need
from ..nn import CrossEntropy
from ..nn.checks import whole
from . import checkpoint
from .checkpoint import CheckpointError, Place
from .data import Dataset
from .description import CONFIG, Description
from .history import History
from .loop import LAST, NoBar, Run, epoch_batches


def fit(
    model,
    data: Dataset,
    optimizer,
    *,
    epochs: int,
    batch_size: int = 64,
    schedule=None,
    label_smoothing: float = 0.0,
    seed: int = 0,
    out=None,
    resume: bool = False,
    progress: bool = True,
    settings: dict | None = None,
    notes: dict | None = None,
) -> History:
    """Train a model on the training part of a data set, and measure it on the test part after each epoch.

    The first Ctrl-C lets the batch under way finish, saves, and returns; a second one raises at once. A run resumed
    from there, or from the end of any epoch, ends with bit for bit the weights of a run that was never interrupted.
    Where the data set has a transform or an augmentation, a thread makes the next batch while a step runs.

    Parameters
    ----------
    model : numbabn.nn.Module
        Updated in place; ends with the last epoch's weights.
    data : Dataset
        Images and labels.
    optimizer : numbabn.nn.SGD, numbabn.nn.AdamW or alike
        Made for the model's parameters; its ``lr`` is the base rate.
    epochs : int
        Times that the training images are seen, counted from the first run on when resuming.
    batch_size : int, default 64
        Images per step at most; all batches of an epoch have this size or somewhat less, none is a small rest.
    schedule : callable, optional
        From the step (0 for the first batch of all) to a factor on the base rate; constant by default.
    label_smoothing : float, default 0.0
        See :class:`numbabn.nn.CrossEntropy`; losses are reported with it.
    seed : int, default 0
        Decides the order of the images, and how they are augmented, together with the epoch.
    out : str or os.PathLike, optional
        Folder for ``config.json`` (what the run is), ``history.csv``, ``history.json``, ``last.npz`` and ``best.npz``
        (highest test accuracy), all written after each epoch; made if it is not there. Nothing is written by default.
    resume : bool, default False
        Go on from ``last.npz`` in ``out``. Data, model, optimizer, schedule and the other arguments must be what they
        were; only ``epochs`` may grow, and the files of the data may lie elsewhere.
    progress : bool, default True
        Show a bar for each epoch (on standard error, by tqdm).
    settings : dict, optional
        Further settings of the caller, plain numbers and strings: saved, and compared when resuming.
    notes : dict, optional
        What else ``config.json`` is to tell, plain numbers and strings or lists and dicts of them: not compared.

    Returns
    -------
    History
        One record per epoch, those before a resume included; ``interrupted`` tells whether Ctrl-C ended the run.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of another kind, or the optimiser is another model's.
    FileExistsError
        If ``out`` holds a run and ``resume`` is False.
    FileNotFoundError
        If ``resume`` is True and there is no ``last.npz``.
    CheckpointError
        If ``last.npz`` is damaged, or of another model, data set or setting. It is a ValueError.
    DivergenceError
        If a loss is not finite; ``config.json`` tells so, and checkpoints stay as they were before that epoch. It is
        a FloatingPointError.
    ImportError
        If ``progress`` is True and tqdm is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from numbabn import nn
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 2, 80)
    >>> images = rng.normal(size=(80, 3)) + 5.0 * labels[:, None]
    >>> data = Dataset(images[:60], labels[:60], images[60:], labels[60:])
    >>> model = nn.Sequential(nn.BatchNorm(3, dtype=np.float64), nn.Linear(3, 2, rng=rng, dtype=np.float64))
    >>> history = fit(model, data, nn.SGD(model, 0.1), epochs=10, batch_size=20, progress=False)
    >>> history.final.test_accuracy
    1.0
    """
    if not isinstance(data, Dataset):
        raise TypeError(f"data is {type(data).__name__}; expected a training.Dataset")
    if not (schedule is None or callable(schedule)):
        raise TypeError(f"schedule is {schedule!r}; expected a function of the step, such as nn.cosine_schedule gives")
    epochs, batch_size, seed = whole("epochs", epochs, 1), whole("batch_size", batch_size, 1), whole("seed", seed, 0)
    criterion = CrossEntropy(label_smoothing)
    config = {
        "data": data.name,
        "train_images": len(data.train_images),
        "transform": _settings(data.transform),
        "augmentation": _settings(data.augment),
        "data_dir": data.data_dir,
        "optimizer": type(optimizer).__name__,
        "lr": float(optimizer.lr),
        "optimizer_settings": optimizer.settings(),
        "batch_size": batch_size,
        "label_smoothing": float(label_smoothing),
        "seed": seed,
        "epochs": epochs,
        **(settings or {}),
    }
    _check_parameters(model, optimizer)
    bar = need("tqdm", "train").tqdm if progress else NoBar
    place = _start(config, model, optimizer, out, resume)
    folder = None if out is None else Path(out)
    description = folder and Description.of(model, data, config, notes, place.epoch)
    if resume:
        description.write(folder / CONFIG)  # a run that is complete would not write it again
    return Run(model, data, optimizer, criterion, schedule or _constant, place, description, folder, bar).train()


def _start(config, model, optimizer, out, resume):
    """The place to start from: a new folder's, or the saved run's once it is seen to be the same run."""
    if out is None:
        if resume:
            raise ValueError("resume is True, but out is None; expected the folder of the run to resume")
        return Place(config)
    last = Path(out) / LAST
    if not resume:
        if last.exists():
            raise FileExistsError(f"{out} holds a run already; expected another folder for out, or resume=True")
        last.parent.mkdir(parents=True, exist_ok=True)
        return Place(config)
    place = checkpoint.load_place(last)
    saved = place.config
    for name in {**config, **saved}:
        if name not in ("epochs", "data_dir") and config.get(name) != saved.get(name):
            raise CheckpointError(f"{name} is {config.get(name)!r}; the run in {out} was made with {saved.get(name)!r}")
    if not isinstance(saved.get("epochs"), int) or config["epochs"] < saved["epochs"]:
        raise ValueError(f"epochs is {config['epochs']}; the run in {out} has {saved.get('epochs')}, expected no fewer")
    done = epoch_batches(place)[: place.batch]
    if len(done) != place.batch or sum(map(len, done)) != place.images or place.correct > place.images:
        raise CheckpointError(f"{last} is damaged: {place.images} images in {place.batch} batches cannot be")
    place = checkpoint.load_checkpoint(last, model, optimizer)
    place.config = config
    return place


def _settings(part):
    """What checkpoints keep of a part of the data set that may be any callable."""
    if part is None:
        return None
    return part.settings() if hasattr(part, "settings") else getattr(part, "__name__", type(part).__name__)


def _check_parameters(model, optimizer):
    """An optimiser of another model would change nothing here, without a word."""
    known = {id(parameter) for parameter in model.named_parameters().values()}
    strange = [name for name, parameter in optimizer.parameters.items() if id(parameter) not in known]
    if strange:
        raise ValueError(f"optimizer has {strange[0]} of another model; expected one made for this model's parameters")


def _constant(step):
    return 1.0
