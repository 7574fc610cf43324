"""Every asv benchmark, once and small; none may time a call whose result is wrong."""

import importlib
import inspect
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from numbabn.backends import cpu

ROOT = Path(__file__).resolve().parents[1]
SUITE = ROOT / "asv_benchmarks"
KINDS = ("time_", "timeraw_", "track_", "peakmem_")
SMALL = {"case": "NCHW-32x512x7x7", "dtype": "float32", "network": "64 of 1x8x8, width 16"}
"""The parameters that take the least work, where it matters."""


def module(name):
    """One of the suite's, which is a package named ``benchmarks``."""
    if str(SUITE) not in sys.path:
        sys.path.append(str(SUITE))
    return importlib.import_module(f"benchmarks.{name}")


def contents():
    """Names and values in the ``bench_`` modules, where asv looks for benchmarks."""
    modules = [module(path.stem) for path in sorted((SUITE / "benchmarks").glob("bench_*.py"))]
    return list(itertools.chain.from_iterable(vars(each).items() for each in modules))


def benchmark_classes():
    return [value for name, value in contents() if inspect.isclass(value) and name[0] != "_" and benchmarks_of(value)]


def benchmark_functions():
    return [value for name, value in contents() if inspect.isfunction(value) and name.startswith(KINDS)]


def benchmarks_of(suite):
    return [name for name in dir(suite) if name.startswith(KINDS)]


def small(suite):
    """Tuples of parameters."""
    params = {
        name: [SMALL[name]] if SMALL.get(name) in values else values
        for name, values in zip(suite.param_names, suite.params, strict=True)
    }
    return list(itertools.product(*params.values()))


@pytest.fixture(autouse=True)
def prepared_anew():
    module("problems").checked.cache_clear()
    module("bench_training").checked_step.cache_clear()


def run_python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, **options)


def check_returned(name, result):
    """What a benchmark of this name returns; of ``timeraw_`` that is the program to time."""
    if name.startswith("track_"):
        assert 0 < result < np.inf
    elif name.startswith("timeraw_"):
        run_python(result)
    else:
        assert result is None


@pytest.mark.parametrize("suite", benchmark_classes(), ids=lambda suite: suite.__name__)
def test_class_runs(suite):
    for params in small(suite):
        for name in benchmarks_of(suite):
            instance = suite()
            instance.setup(*params)
            check_returned(name, getattr(instance, name)(*params))


@pytest.mark.parametrize("function", benchmark_functions(), ids=lambda function: function.__name__)
def test_function_runs(function):
    check_returned(function.__name__, function())


@pytest.mark.parametrize("suite", benchmark_classes(), ids=lambda suite: suite.__name__)
def test_wrong_result_is_not_timed(suite, monkeypatch):
    """One per cent off, as the CPU backend writes it."""

    def spoil(name, position):
        right = getattr(cpu, name)

        def wrong(*args):
            result = right(*args)
            args[position][...] *= 1.01
            return result

        monkeypatch.setattr(cpu, name, wrong)

    spoil("forward_training", 1)
    spoil("forward_inference", 1)
    spoil("backward", 2)
    for params in small(suite):
        with pytest.raises(AssertionError, match=r"off"):
            suite().setup(*params)


def test_one_wrong_element_is_seen(monkeypatch):
    right = cpu.backward

    def wrong(dy, context, dx, dresidual):
        result = right(dy, context, dx, dresidual)
        dx[-1, -1, -1] += 1e-3
        return result

    monkeypatch.setattr(cpu, "backward", wrong)
    problems = module("problems")
    case = problems.CASES[SMALL["case"]]
    with pytest.raises(AssertionError, match="1 of 802816 values off"):
        problems.checked("backward", case, "float32", "relu")


def test_commits_without_layers_or_limits_are_skipped(monkeypatch):
    """As asv understands it. None in ``sys.modules`` makes an import fail."""
    monkeypatch.setitem(sys.modules, "numbabn.bench", None)
    with pytest.raises(NotImplementedError, match="limits"):
        module("bench_batch_norm").CopyLimit().setup("forward", SMALL["case"])
    monkeypatch.setitem(sys.modules, "numbabn.nn", None)
    monkeypatch.delattr("numbabn.nn", raising=False)
    with pytest.raises(NotImplementedError, match="layers"):
        module("bench_training").Training().setup(SMALL["network"])


def test_turns_are_taken():
    turns = []
    times = module("measure").taking_turns(lambda: turns.append("a"), lambda: turns.append("b"), seconds=0.0)
    assert turns == ["a", "b"] * 5
    assert len(times) == 2
    assert min(times) > 0


def test_compiled_code_is_kept_apart_by_sources(tmp_path):
    """Under asv, Numba's cache is in a folder named by the package's sources; elsewhere the suite leaves it alone."""
    (tmp_path / "asv_runner.py").touch()
    package = tmp_path / "numbabn"
    shutil.copytree(ROOT / "numbabn", package, ignore=shutil.ignore_patterns("__pycache__"))
    paths = os.pathsep.join([str(tmp_path), str(SUITE)])
    environment = {**os.environ, "PYTHONPATH": paths, "NUMBA_CACHE_DIR": "as-it-was"}

    def folder(imports):
        code = f"import os, {imports}; print(os.environ['NUMBA_CACHE_DIR'])"
        options = {"capture_output": True, "text": True, "check": True, "cwd": tmp_path, "env": environment}
        return subprocess.run([sys.executable, "-c", code], **options).stdout.strip()

    assert folder("benchmarks") == "as-it-was"
    before = folder("asv_runner, benchmarks")
    assert Path(before).parent == SUITE / "env" / "numba_cache"
    assert folder("asv_runner, benchmarks") == before
    with open(package / "layout.py", "a") as file:
        file.write("# changed\n")
    assert folder("asv_runner, benchmarks") != before


def test_asv_finds_the_suite_sound():
    pytest.importorskip("asv")
    environment = {**os.environ, "ASV_PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "asv", "check", "-E", "existing"]
    done = subprocess.run(command, cwd=SUITE, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
