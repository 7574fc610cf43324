"""The processes of ``numbabn bench``: what they answer, how they end, and how they take turns. No peer is needed."""

import importlib.util
import os
import sys
from contextlib import ExitStack

import numpy as np
import pytest
from bench_helpers import DYING, RAISING, RIGHT, WRONG, fake_system, keep_small

import numbabn as nbn
from numbabn.bench import measure, processes, systems
from numbabn.bench.measure import Cell, Effort
from numbabn.bench.processes import Process, WorkerError
from numbabn.bench.systems import WORKERS, Setting

sys.path.append(str(WORKERS))
from checking import complaint
from problem import Problem, arrays
from timing import repeat

WHATS_AND_FUSED = [(what, fused) for what in measure.WHATS for fused in measure.FUSED]


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Each test in an empty folder."""
    keep_small(monkeypatch, tmp_path)


def test_calls_are_timed_one_by_one_after_one_that_does_not_count():
    count = []
    assert len(repeat(lambda: count.append(0), calls=5)) == 5
    assert len(count) == 6
    times = repeat(lambda: sum(range(10_000)), seconds=1e-9)
    assert len(times) == 1
    assert times[0] > 0


def problem_and_results(what, fused, layout, dtype="float32"):
    """A problem, and its results by the reference backend."""
    shape = (5, 37) if layout == "NC" else (3, 37, 4, 5)
    problem = Problem(what=what, fused=fused, layout=layout, reuse=True, **arrays(shape, layout, dtype))
    running = (problem.running_mean.copy(), problem.running_var.copy())
    y, context = nbn.batch_norm_forward(
        problem.x,
        problem.gamma,
        problem.beta,
        *running,
        training=what != "inference",
        axis=problem.axis,
        activation="relu" if problem.relu else None,
        residual=problem.residual if problem.has_residual else None,
    )
    if what == "backward":
        grads = nbn.batch_norm_backward(problem.dy, context)._asdict()
        return problem, {name: values for name, values in grads.items() if values is not None}
    results = {"y": y}
    if what == "forward":
        results["running_mean"], results["running_var"] = running
    return problem, results


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NC"])
@pytest.mark.parametrize(("what", "fused"), WHATS_AND_FUSED)
def test_right_results_pass_and_wrong_ones_do_not(what, fused, layout):
    problem, results = problem_and_results(what, fused, layout)
    assert complaint(problem, results) is None
    for name, values in results.items():
        for wrong in (0.01, np.nan):
            spoilt = values.copy()
            spoilt.flat[-1 if values.ndim == 1 else values.argmax()] += wrong * (100 if name[0] == "d" else 1)
            assert complaint(problem, {**results, name: spoilt}).startswith(f"{name} is wrong by ")
    assert "expected" in complaint(problem, {"z": results.popitem()[1]})


def cell_of(process, **changes):
    """Measure inference of a small array by one worker."""
    cell = Cell(**{"what": "inference", "layout": "NC", "fused": "none", "shape": (6, 3), **changes})
    return measure.measure(cell, {"fake": process}, "float32", True, Effort(None, 7))


def started(stack, system):
    return stack.enter_context(systems._process(system, Setting(1)))


def test_a_right_worker_is_timed_and_what_it_prints_does_no_harm(tmp_path):
    with ExitStack() as stack:
        process = started(stack, fake_system(tmp_path, "fake", RIGHT))
        assert process.greet() | {"python": "", "numpy": ""} == {"version": "1.0", "python": "", "numpy": ""}
        times = cell_of(process)["times"]["fake"]
        assert times["calls"] == 7  # in five turns
        assert 0 < times["lower"] <= times["median"] <= times["upper"]
        assert times["gigabytes_per_second"] == pytest.approx(2 * 6 * 3 * 4 / times["median"] / 1e9)


@pytest.mark.parametrize(
    ("body", "note"),
    [
        (WRONG, "wrong result, not timed: y is wrong by 0.00"),
        (DYING, "ended with exit code 3: out of luck"),
        (RAISING, "MemoryError: too large"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9"),
    ],
)
def test_what_goes_wrong_is_noted(tmp_path, body, note):
    with ExitStack() as stack:
        cell = cell_of(started(stack, fake_system(tmp_path, "fake", body)))
    assert list(cell["times"]["fake"]) == ["note"]
    assert cell["times"]["fake"]["note"].startswith(note)
    assert cell["limit"] is None


def test_what_a_system_cannot_do_is_noted(tmp_path):
    with ExitStack() as stack:
        cell = cell_of(started(stack, fake_system(tmp_path, "fake", RIGHT)), layout="NHWC", shape=(2, 3, 4, 4))
    assert cell["times"]["fake"] == {"note": "not that layout"}


def test_a_worker_that_died_is_started_again_a_few_times(tmp_path):
    with ExitStack() as stack:
        process = started(stack, fake_system(tmp_path, "fake", DYING))
        notes = [cell_of(process)["times"]["fake"]["note"] for _ in range(processes.STARTS + 1)]
    assert all(note.startswith("ended with exit code 3") for note in notes[:-1])
    assert notes[-1] == f"left alone after it had ended early or hung {processes.STARTS} times"


def test_a_worker_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(processes, "TIMEOUT", 0.2)
    with Process([sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), {}) as process:
        with pytest.raises(WorkerError, match=r"no answer within 0\.2 s"):
            process.greet()
        assert process._process is None


def test_no_worker_outlives_its_context(tmp_path):
    with ExitStack() as stack:
        process = started(stack, fake_system(tmp_path, "fake", RIGHT))
        process.greet()
        running = process._process
        assert running.poll() is None
    assert running.poll() is not None


class Recorded:
    """A process that answers at once, and notes its turns."""

    def __init__(self, name, turns, answer):
        self.name, self.turns, self.answer = name, turns, answer

    def ask(self, do, **details):
        self.turns.append((do, self.name))
        return self.answer if do == "time" else {}


def test_systems_take_turns_in_rotating_order():
    turns = []
    asked = {name: Recorded(name, turns, {"times": {"call": [0.5]}}) for name in "abc"}
    advanced = []
    cell = measure.measure(
        Cell("forward", "NC", "none", (6, 3)), asked, "float32", True, Effort(0.1), lambda: advanced.append(1)
    )
    assert [name for do, name in turns if do == "prepare"] == ["a", "b", "c"]
    assert "".join(name for do, name in turns if do == "time") == "abcbcacababcbca"
    assert len(advanced) == 15
    assert {times["calls"] for times in cell["times"].values()} == {5}


def test_the_limit_is_the_faster_way_to_copy():
    times = {"call": [0.5], "limit_stored": [0.4, 0.1, 0.4], "limit_streamed": [0.3, 0.3, 0.3]}
    cell = measure.measure(
        Cell("backward", "NC", "none", (6, 3)), {"a": Recorded("a", [], {"times": times})}, "float64", True, Effort(0.1)
    )
    assert cell["bytes"] == 3 * 6 * 3 * 8
    assert (cell["limit"]["kind"], cell["limit"]["median"]) == ("limit_streamed", 0.3)


@pytest.mark.parametrize("system", systems.PEERS, ids=lambda system: system.name)
def test_an_installed_peer_gives_right_results(system):
    package = system.program.stem.removesuffix("_worker")
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    with ExitStack() as stack:
        process = started(stack, system)
        assert "version" in process.greet()
        for layout, shape in (("NHWC", (3, 37, 4, 5)), ("NCHW", (3, 37, 4, 5)), ("NC", (5, 37))):
            for what, fused in WHATS_AND_FUSED:
                for reuse in (True, False):
                    details = {"what": what, "fused": fused, "layout": layout, "shape": shape, "dtype": "float32"}
                    note = process.ask("prepare", reuse=reuse, **details).get("note")
                    assert note is None or (system.name == "TensorFlow" and layout == "NCHW"), (details, note)
