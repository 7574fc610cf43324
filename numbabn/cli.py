"""The command line: ``numbabn train``, ``report``, ``bench``, ``info`` and ``warmup``.

Exit codes: 0 for success, 1 for what failed while running, 2 for a wrong request, 130 after Ctrl-C.
"""

import argparse
import math
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numbabn

from .backends import ENVIRONMENT, NAMES, load
from .bench.command import CUDA_DTYPES, DEVICES, DTYPES, MEMORY, bench
from .bench.command import Options as BenchOptions
from .errors import UsageError
from .training import CheckpointError, DataError
from .training.command import train
from .training.description import RunError
from .training.networks import NAMES as NETWORKS
from .training.recipe import PLACEMENTS, Options, defaults
from .training.report import OUT, report
from .training.sources import NAMES as DATASETS

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
FAILURES = (CheckpointError, DataError, RunError, FloatingPointError, ImportError, MemoryError, OSError, RuntimeError)


class _Parser(argparse.ArgumentParser):
    """Errors are one line, without the usage above it."""

    def error(self, message):
        self.exit(MISUSED, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; those of the process by default.

    Raises
    ------
    SystemExit
        As argparse does, for ``--help``, ``--version`` and arguments that it refuses.
    """
    arguments = _parser().parse_args(argv)
    try:
        interrupted = arguments.command(arguments)
    except KeyboardInterrupt:
        return _complain("stopped at once", INTERRUPTED)
    except UsageError as error:
        return _complain(error, MISUSED)
    except FAILURES as error:
        return _complain(error, FAILED)
    return INTERRUPTED if interrupted else 0


def _complain(message, code):
    print(f"numbabn: error: {message}", file=sys.stderr)
    return code


def _parser():
    parser = _Parser(
        prog="numbabn", description="Batch normalization on arrays: train an example, measure speed, look at the setup."
    )
    parser.add_argument("--version", action="version", version=f"numbabn {numbabn.__version__}")
    commands = parser.add_subparsers(required=True, metavar="{train,report,bench,info,warmup}")

    def add(name, function, text):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.set_defaults(command=function)
        return command

    digits = "train a small CNN, or another network, on handwritten digits (no download), or on images in your files"
    command = add("train", train, digits)
    command.epilog = (
        "SGD with Nesterov momentum 0.9, weight decay 0.001 (weights only) and label smoothing 0.1, so the loss stays "
        "above 0.5; the rate grows over the first tenth of all steps and falls along a cosine. Ctrl-C saves; with "
        "--resume, more --epochs stretch the cosine."
    )
    _add_train_options(command.add_argument)
    command = add("report", report, "compare training runs on one HTML page: options, accuracies, speed and curves")
    command.epilog = "The page needs no other file, no network and no script. Interrupted runs are shown, too."
    runs = "folder of a run, or with runs in folders inside it, such as runs"
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=runs)
    command.add_argument("--out", type=Path, default=OUT, metavar="FILE", help=f"page to write (default {OUT})")
    command = add("bench", bench, "measure batch norm on this machine, beside PyTorch, TensorFlow, JAX and a copy")
    command.epilog = (
        "Each system has a process of its own and they take turns; results are checked before they are timed. The copy "
        "limit is the time of a parallel copy of the bytes that a pass must move. Ctrl-C prints what there is."
    )
    _add_bench_options(command.add_argument)
    add("info", _info, "print versions, threads, backends and where compiled kernels are kept")
    command = add("warmup", _warmup, "compile the batch-norm kernels now, so that first calls are fast")
    command.add_argument("--dtype", choices=DTYPES, default="float32", help="of the arrays to come (default float32)")
    return parser


def _add_train_options(add):
    default, other = Options(), defaults("mnist")
    count = _number(int, lambda value: value >= 1, "a whole number from 1")
    seed = _number(int, lambda value: value >= 0, "a whole number from 0")
    rate = _number(float, lambda value: 0 < value < math.inf, "a number above 0")
    share = _number(float, lambda value: 0 <= value < 1, "a number from 0 to below 1")
    epochs = f"default {default.epochs} for digits, else {other.epochs}"
    batch_size = f"default {default.batch_size} for digits, else {other.batch_size}"
    add("--dataset", choices=DATASETS, help="images to train on (default digits; synthetic ones need no files either)")
    add("--data-dir", metavar="DIR", help="folder with the files of --dataset, as published; nothing is downloaded")
    add(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help="shift (cifar) and mirror (cifar, fashion-mnist) training images at random (default: do)",
    )
    add("--model", choices=NETWORKS, help=f"network, made for the images' shape and classes (default {default.model})")
    add(
        "--placement",
        choices=PLACEMENTS,
        help=f"batch norm before or after the activation (default {default.placement})",
    )
    add("--dropout", type=share, metavar="RATE", help=f"share of values to drop (default {default.dropout:g})")
    add("--epochs", type=count, metavar="N", help=f"times that all images are seen ({epochs})")
    add("--batch-size", type=count, metavar="N", help=f"images per step ({batch_size})")
    add("--lr", type=rate, metavar="RATE", help=f"highest learning rate (default {default.lr:g})")
    add("--seed", type=seed, metavar="N", help="decides weights, order, crops, the digits' test images (default 0)")
    add("--batch-norm", action=argparse.BooleanOptionalAction, help="normalise, or leave it out (default: normalise)")
    add("--compare", action="store_true", default=None, help="train with and without batch norm, and compare")
    add("--backend", choices=NAMES, help="code that batch norm runs on (default: chosen by the array)")
    add("--out", type=Path, metavar="DIR", help="folder for results (default: first free of runs/DATASET, ...-2, ...)")
    add("--resume", action="store_true", help="go on with the run in --out (default: newest of --dataset in runs)")
    add("--profile", action="store_true", help="print the share of time by layer, measured after the training")
    add("--no-progress", dest="progress", action="store_false", help="show no progress bars")


def _add_bench_options(add):
    default = BenchOptions()
    count = _number(int, lambda value: value >= 1, "a whole number from 1")
    seconds = _number(float, lambda value: 0 < value < math.inf, "a number above 0")
    shapes = "resnet50, 1d, tiny, or sizes written channels-first such as 32x64x56x56 or 64x4096"
    add("--device", choices=DEVICES, help=f"where the arrays are (default {default.device})")
    add("--shapes", metavar="LIST", help=f"{shapes} (default {default.shapes})")
    add("--layout", metavar="LIST", help=f"how 4-D arrays lie in memory (default {default.layout})")
    add("--what", metavar="LIST", help=f"passes, or training for whole steps of it (default {default.what})")
    add("--fused", metavar="LIST", help=f"of none,relu,residual+relu: what follows (default {default.fused})")
    add("--dtype", choices=CUDA_DTYPES, help=f"of the data (default {default.dtype}; the short ones on cuda)")
    add("--memory", choices=MEMORY, help="whether results go to memory that was used before (default reused)")
    add("--threads", type=count, metavar="N", help="threads and CPUs for each system (default: all there are)")
    add("--seconds", type=seconds, metavar="S", help=f"timed for each system and cell (default {default.seconds:g})")
    add("--repeats", type=count, metavar="N", help="calls timed instead of --seconds, spread over up to five turns")
    add(
        "--peers", metavar="LIST", help="names in the tables, or none: measured beside numbabn (default: all there are)"
    )
    add(
        "--policy",
        action="append",
        metavar="NAME=N,...",
        help="on cuda: measure numbabn once more with other numbers of backends/cuda/policy.py, such as"
        " VECTORS=16,TEAM=64; can be repeated",
    )
    add("--python", metavar="PATH", help="the interpreter that has the peers (default: this one)")
    add("--json", type=Path, metavar="FILE", help="keep everything measured in a file")
    add("--plot", type=Path, metavar="FILE.png", help="draw how near each system comes to the copy limit")
    add("--from", dest="source", type=Path, metavar="FILE", help="print and draw what --json kept; measure nothing")
    add("--no-progress", dest="progress", action="store_false", help="show no progress bar")


def _number(kind, accept, expected):
    """A type for argparse: a number that ``accept`` accepts."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not accept(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
        return value

    return parse


def _info(arguments):
    """Print what a report of a problem should say."""
    import numba

    from . import jit

    rows = [
        ("numbabn", f"{numbabn.__version__} in {Path(numbabn.__file__).parent}"),
        ("python", platform.python_version()),
    ]
    rows += [(package, version(package)) for package in ("numba", "llvmlite", "numpy", "scipy")]
    rows += [
        ("threads", f"{numba.get_num_threads()} of {os.cpu_count()} logical CPUs"),
        ("threading layer", jit.threading_layer()),
        ("kernel cache", ", ".join(_cache_folders()) or "none can be written: each process compiles its kernels"),
    ]
    for name, status in numbabn.backends().items():
        rows.append((f"backend {name}", f"{'available' if status.available else 'not available'}: {status.reason}"))
    rows.append(("backend in use", _backend_in_use()))
    for name, value in rows:
        print(f"{name:<18}{value}")


def _cache_folders():
    """Where Numba keeps the compiled kernels: a folder for each package, none where it cannot write."""
    from .backends.cpu import planes, rows
    from .jit import kernel
    from .nn import conv_kernels, pool_kernels

    values = (value for module in (planes, rows, conv_kernels, pool_kernels) for value in vars(module).values())
    folders = {value.serial.stats.cache_path for value in values if isinstance(value, kernel)}
    return sorted(folders - {None})


def _backend_in_use():
    """The backend of calls without ``backend=``, and what decides it."""
    if ENVIRONMENT is None:
        return "chosen by the array's place: cpu for NumPy arrays"
    try:
        load(ENVIRONMENT)
    except (ValueError, RuntimeError) as error:
        return f"none: {error}"
    return f"{ENVIRONMENT}, set by NUMBABN_BACKEND"


def _warmup(arguments):
    """Compile, and tell how long that took."""
    started = perf_counter()
    print("loading kernels; the first time on a machine compiles them, for a minute or two", flush=True)
    numbabn.warmup(arguments.dtype)
    print(f"kernels are ready after {perf_counter() - started:.1f} s")
