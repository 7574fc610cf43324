"""``numbabn train``: folders, options old and new, and what is printed."""

import itertools
import shlex
from dataclasses import replace
from pathlib import Path

from ..backends import pick
from ..errors import UsageError
from ..extras import need
from . import compare, recipe
from .figures import save_curves
from .history import DivergenceError
from .loop import BEST, LAST
from .recipe import Options
from .sources import FROM_FILES

RUNS = Path("runs")


def train(arguments) -> bool:
    """Carry out ``numbabn train``; tells whether Ctrl-C ended it.

    Parameters
    ----------
    arguments : argparse.Namespace
        The fields of :class:`Options`, None where not given, and ``out``, ``resume``, ``profile`` and ``progress``.

    Raises
    ------
    UsageError
        If the folder, the options or NUMBABN_BACKEND do not fit what is asked for.
    DataError, OSError
        If the files of the data set are damaged, missing or cannot be read.
    """
    folder = _folder(arguments.out, arguments.resume, arguments.dataset or Options.dataset)
    options = _options(arguments, _saved_options(folder) if arguments.resume else None)
    _check_data_dir(options)
    _check_backend(options)
    need("matplotlib.figure", "train")  # better missed now than after the training
    histories = {}
    for name, (place, run) in _runs(folder, options).items():
        try:
            history = _train_one(name, place, run, arguments)
        except DivergenceError as error:
            if not options.compare:
                raise
            history = error.history
            print(f"diverged       {error}", flush=True)
        histories[name] = history
        if history.interrupted:
            print(f"Interrupted and saved. To go on: numbabn train --resume --out {shlex.quote(str(folder))}")
            return True
    if options.compare:
        print(f"\n{compare.table(*histories.values())}\n\n{compare.verdict(*histories.values())}\n")
    if not any(history.records for history in histories.values()):
        return False
    figure = folder / "curves.png"
    shown = {f"{name} (diverged)" if history.diverged else name: history for name, history in histories.items()}
    save_curves(figure, shown, title=f"{options.dataset}, {options.model}, seed {options.seed}")
    print(f"curves         {figure}")
    return False


def _folder(out, resume, dataset):
    """The folder to work in: one without a run, or with one where that is to be resumed."""
    if resume:
        folder = out or _nth(dataset, max(_numbers_of_runs(dataset), default=1))
        if not _holds_run(folder):
            raise UsageError(f"--resume: {folder} holds no run")
        return folder
    if out is None:
        return next(folder for number in itertools.count(1) if not (folder := _nth(dataset, number)).exists())
    if _holds_run(out):
        raise UsageError(f"--out: {out} holds a run already; add --resume, or name another folder")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out: {out} is a file; expected a folder")
    return out


def _nth(dataset, number):
    return RUNS / (dataset if number == 1 else f"{dataset}-{number}")


def _numbers_of_runs(dataset):
    """Each ``number`` for which ``_nth`` gives a folder with a run."""
    for folder in filter(_holds_run, RUNS.glob(f"{dataset}*")):
        suffix = folder.name.removeprefix(f"{dataset}-")
        number = int(suffix) if suffix.isdecimal() else 1
        if folder == _nth(dataset, number):
            yield number


def _subfolder(folder, batch_norm):
    """Where ``--compare`` keeps one of its two runs."""
    return folder / ("with-batch-norm" if batch_norm else "without-batch-norm")


def _holds_run(folder):
    return (folder / LAST).exists() or (_subfolder(folder, True) / LAST).exists()


def _saved_options(folder):
    return recipe.saved_options(folder if (folder / LAST).exists() else _subfolder(folder, True))


def _options(arguments, saved):
    """Options as given, or as saved with more epochs, and data where they are now."""
    given = {name: getattr(arguments, name) for name in recipe.NAMES if getattr(arguments, name) is not None}
    if "compare" in given and "batch_norm" in given:
        raise UsageError("--compare trains with and without batch norm; leave --batch-norm and --no-batch-norm out")
    if "placement" in given and given.get("batch_norm") is False:
        raise UsageError("--placement tells where batch norm goes; leave it or --no-batch-norm out")
    if saved is None:
        return replace(recipe.defaults(given.get("dataset", Options.dataset)), **given)
    for name, value in given.items():
        before = getattr(saved, name)
        if value != before and name != "data_dir" and not (name == "epochs" and value > before):
            more = " (more are possible)" if name == "epochs" else ""
            typed = " ".join(recipe.flag(name, value))
            raise UsageError(f"{typed} contradicts the run to resume, which has {name} = {before}{more}")
    return replace(saved, **given)


def _check_data_dir(options):
    """Refuse a data set without the folder that it needs, or with one that it would not look at."""
    if options.dataset in FROM_FILES and options.data_dir is None:
        raise UsageError(f"--dataset {options.dataset} needs --data-dir DIR, the folder with its files")
    if options.dataset not in FROM_FILES and options.data_dir is not None:
        raise UsageError(f"--data-dir {options.data_dir}: {options.dataset} is read from no folder; leave it out")


def _check_backend(options):
    """Refuse a backend that cannot be used, named by an option or by NUMBABN_BACKEND, before a folder is made."""
    try:
        pick("cpu", options.backend)
    except ValueError as error:
        raise UsageError(error) from None


def _runs(folder, options):
    """Folder and options of each run by its name: one run, or two to compare."""
    if not options.compare:
        return {"": (folder, options)}
    return {
        name: (_subfolder(folder, batch_norm), replace(options, batch_norm=batch_norm))
        for name, batch_norm in ((compare.WITH, True), (compare.WITHOUT, False))
    }


def _train_one(name, folder, options, arguments):
    """One run, and what is printed of it."""
    data, model = recipe.prepare(options)
    if arguments.augment and data.augment is None:
        raise UsageError(f"--augment: images of {options.dataset} are not changed at random; leave it out")
    if name != compare.WITHOUT:
        print("Loading kernels (the first run on a machine compiles them, for a minute or two) ...", flush=True)
    if name:
        print(f"\n{name}")
    print(f"model          {options.model}, {model.count_parameters():,} parameters", flush=True)
    history = recipe.train(options, data, model, folder, resume=arguments.resume, progress=arguments.progress)
    if not history.interrupted:
        _report(history, folder)
        if arguments.profile:
            print(f"time by layer  of {recipe.PROFILED_STEPS} more steps, which leave the results as they are")
            print(f"\n{recipe.profile(options, data, model)}\n", flush=True)
    return history


def _report(history, folder):
    final, best = history.final, history.best
    if not history.warmup_seconds:
        print("complete       before; more --epochs would go on")
    print(f"test accuracy  {final.test_accuracy:.2%} (best {best.test_accuracy:.2%}, after epoch {best.epoch})")
    print(
        f"time           {final.seconds:.1f} s for {final.epoch} epoch{'s' if final.epoch > 1 else ''},"
        f" {history.images_per_second:,.0f} images/s in training"
        f" ({history.warmup_seconds:.1f} s before them to load or compile kernels)"
    )
    print(f"checkpoints    {folder / BEST}, {folder / LAST}", flush=True)
