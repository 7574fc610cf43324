"""``numbabn bench``: options, progress, and where the results go."""

import json
import shutil
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from .. import machine
from ..backends import load
from ..errors import UsageError
from ..extras import need
from ..files import replacing
from . import card_arrays, card_systems, cuda, figure, shapes, systems, table, training
from .measure import FUSED, WHATS, Effort, cells, measure
from .systems import Setting, start, usable_cpus

FORMAT = 1
DTYPES = ("float32", "float64")
CUDA_DTYPES = ("float32", "float64", "float16", "bfloat16")
DEVICES = ("cpu", "cuda")
MEMORY = ("reused", "fresh")
TRAINING = "training"
"""Among the passes of ``--what``: whole steps of training, whatever the shapes and layouts."""

NOISY = 0.01
"""Share of stolen CPU time from which it is told: then threads wait for each other, and small arrays suffer most."""


@dataclass(frozen=True)
class Options:
    """What to measure, and how; lists are parted by commas."""

    device: str = "cpu"
    shapes: str = "resnet50,1d"
    layout: str = "NCHW,NHWC"
    what: str = "forward,backward,inference"
    fused: str = "none"
    dtype: str = "float32"
    memory: str = "reused"
    threads: int | None = None
    seconds: float = 0.5
    repeats: int | None = None
    python: str = sys.executable
    peers: str | None = None
    policy: list[str] | None = None


def bench(arguments) -> bool:
    """Carry out ``numbabn bench``; tells whether Ctrl-C ended it.

    Parameters
    ----------
    arguments : argparse.Namespace
        The fields of :class:`Options`, None where not given, and ``json``, ``plot``, ``source`` and ``progress``.

    Raises
    ------
    UsageError
        For an unknown shape, layout or the like, and for files that cannot be written.
    RuntimeError
        If numbabn's own process does not start, or ``source`` is no report.
    """
    given = {field.name: getattr(arguments, field.name) for field in fields(Options)}
    given = {name: value for name, value in given.items() if value is not None}
    for name in ("json", "plot"):
        path = getattr(arguments, name)
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"--{name}: the folder {path.parent} does not exist")
    if "seconds" in given and "repeats" in given:
        raise UsageError("--seconds and --repeats exclude each other")
    if arguments.plot:
        need("matplotlib.figure", "bench")  # better missed now than after measuring
    if arguments.source:
        unused = [*given, *(["json"] if arguments.json else [])]
        if unused:
            raise UsageError(f"--from measures nothing; leave --{unused[0]} out")
        report, interrupted = _load(arguments.source), False
        print(table.heading(report))
    else:
        report, interrupted = _measure(Options(**given), arguments.json, arguments.progress)
    for key, found in table.groups(report).items():
        print(f"\n{table.render(report, key, found)}")
    if report.get("steps"):
        print(f"\n{training.render(report)}")
    if report["stolen"] > NOISY:
        print(f"\nThe host of this virtual machine gave {report['stolen']:.0%} of the CPU time to others meanwhile.")
    if arguments.plot and report["cells"]:
        figure.save(arguments.plot, report)
        print(f"\nfigure {arguments.plot}")
    return interrupted


def _measure(options, path, progress):
    """The report, and whether Ctrl-C ended it early; the file ``path``, if any, grows with it."""
    todo = _cells(options)
    if options.device == "cuda":
        return _measure_card(options, todo, path, progress)
    if options.dtype not in DTYPES:
        raise UsageError(f"--dtype {options.dtype} needs --device cuda")
    if options.policy:
        raise UsageError("--policy is for --device cuda")
    setting = Setting(_threads(options.threads), _python(options.python), options.memory == "reused")
    peers = _asked(options, [system.name for system in systems.PEERS])
    effort = Effort(None, options.repeats) if options.repeats else Effort(options.seconds)
    tqdm = need("tqdm", "bench").tqdm
    report = {
        "format": FORMAT,
        "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "machine": machine.describe(),
        "setting": {**asdict(options), "threads": setting.threads, "python": setting.python},
        "systems": {},
        "stolen": 0.0,
        "cells": [],
        "steps": [],
    }
    before = machine.ticks()
    with ExitStack() as stack:
        processes, report["systems"] = start(stack, setting, peers)
        print(table.heading(report), flush=True)
        steps = training.STEPS if TRAINING in _words(options.what) else ()
        turns = (len(todo) + len(steps)) * len(processes) * effort.rounds
        with tqdm(total=turns, unit="turn", disable=not progress) as bar:
            try:
                for cell in todo:
                    bar.set_description(f"{table.title(cell.what, cell.layout, cell.fused)} {cell.shape}")
                    report["cells"].append(measure(cell, processes, options.dtype, setting.reuse, effort, bar.update))
                    report["stolen"] = machine.stolen_since(before)
                    _save(path, report)
                if steps:
                    bar.set_description("compiling")
                    training.compile_ahead(processes["numbabn"], steps)
                for network, shape in steps:
                    bar.set_description(f"training {network}")
                    report["steps"].append(training.measure(network, shape, processes, effort, bar.update))
                    report["stolen"] = machine.stolen_since(before)
                    _save(path, report)
            except KeyboardInterrupt:
                return report, True
    return report, False


def _measure_card(options, todo, path, progress):
    """The same for arrays on a card, all systems in this process."""
    if TRAINING in _words(options.what):
        raise UsageError(f"--what {TRAINING} is for --device cpu")
    for name in ("memory", "threads", "python"):
        if getattr(options, name) != getattr(Options, name):
            raise UsageError(f"--{name} is for --device cpu")
    load("cuda")
    arrays = card_arrays.library()
    others = card_systems.recut(options.policy) | arrays.peers()
    asked = _asked(options, others) + (options.policy or [])
    measured = {"numbabn": card_systems.Numbabn()} | {name: system for name, system in others.items() if name in asked}
    effort = Effort(None, options.repeats) if options.repeats else Effort(options.seconds)
    report = {
        "format": FORMAT,
        "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "machine": card_arrays.describe(arrays),
        "setting": asdict(options),
        "systems": {name: {"version": cuda.version_of(system, arrays)} for name, system in measured.items()},
        "stolen": 0.0,
        "cells": [],
    }
    print(table.heading(report), flush=True)
    bar = need("tqdm", "bench").tqdm(total=len(todo), unit="cell") if progress else None
    for cell in todo:
        try:
            report["cells"].append(cuda.measure(cell, arrays, measured, options.dtype, effort))
        except KeyboardInterrupt:
            return report, True
        _save(path, report)
        if bar:
            bar.update()
    return report, False


def _cells(options):
    """What is asked for, each combination once."""
    try:
        sizes = shapes.parse(options.shapes)
    except ValueError as error:
        raise UsageError(f"--shapes: {error}") from None
    chosen = {"layout": shapes.LAYOUTS, "what": (*WHATS, TRAINING), "fused": FUSED}
    for name, known in chosen.items():
        words = _words(getattr(options, name))
        for word in words:
            if word not in known:
                raise UsageError(f"--{name}: {word!r} is unknown; expected {', '.join(known)}")
        chosen[name] = words
    whats = [what for what in chosen["what"] if what != TRAINING]
    return cells(sizes, chosen["layout"], whats, chosen["fused"])


def _asked(options, known):
    """Names of the systems beside numbabn that are asked for."""
    words = list(known) if options.peers is None else _words(options.peers)
    if words == ["none"]:
        return []
    for word in words:
        if word not in known:
            raise UsageError(f"--peers: {word!r} is unknown; expected none, or some of {', '.join(known)}")
    return words


def _words(text):
    """The words of an option, each once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",")))


def _threads(given):
    most = len(usable_cpus())
    if given is not None and given > most:
        raise UsageError(f"--threads: {given} threads are asked for; this process may use {most}")
    return given or most


def _python(given):
    """The path of an interpreter."""
    found = shutil.which(given)
    if found is None:
        raise UsageError(f"--python: {given} is no program")
    return found


def _save(path, report):
    if path is not None:
        with replacing(path) as file:
            file.write((json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())


def _load(path):
    """A report from a file."""
    try:
        report = json.loads(path.read_bytes())
    except OSError as error:
        raise RuntimeError(f"--from {path}: {error.strerror}") from None
    except ValueError as error:
        raise RuntimeError(f"{path} is no JSON file: {error}") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise RuntimeError(f"{path} is no report of numbabn bench with format {FORMAT}")
    return report
