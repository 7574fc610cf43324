"""``numbabn bench``: shapes, the copy limit, workers and their turns, tables and figures. No peer is needed."""

import importlib.util
import json
import os
import sys
from contextlib import ExitStack
from dataclasses import fields

import numpy as np
import pytest

import numbabn as nbn
from numbabn.bench import command, limits, measure, processes, shapes, systems
from numbabn.bench.measure import Cell, Effort
from numbabn.bench.processes import Process, WorkerError
from numbabn.bench.systems import WORKERS, Setting, System
from numbabn.cli import main

sys.path.append(str(WORKERS))
from checking import complaint
from problem import Problem, arrays
from timing import repeat

WHATS_AND_FUSED = [(what, fused) for what in measure.WHATS for fused in measure.FUSED]

FAKE = """
import os, sys
sys.path.insert(0, {workers!r})
from serving import serve
from problem import UnsupportedError

class Fake:
    package = "fake"

    def start(self, threads):
        print("noise on standard output")
        return "1.0"

    def prepare(self, problem):
        if problem.layout == "NHWC":
            raise UnsupportedError("not that layout")
        def call():
            {body}
        return call, lambda y: {{"y": y}}

serve(Fake())
"""

RIGHT = "return (problem.x - problem.running_mean) / (problem.running_var + 1e-5) ** 0.5 * problem.gamma + problem.beta"
WRONG = RIGHT + " + 0.001"
DYING = "sys.stderr.write('out of luck'); os._exit(3)"
RAISING = "raise MemoryError('too large')"


@pytest.fixture
def fake(tmp_path):
    """Makes a system from the body of its only function."""

    def make(name, body):
        program = tmp_path / f"{name}.py"
        program.write_text(FAKE.format(workers=str(WORKERS), body=body))
        return System(name, program)

    return make


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Each test in an empty folder, without peers, without pauses, and with a backend that compiles nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systems, "PEERS", [])
    monkeypatch.setattr(measure, "PAUSE", 0.0)
    monkeypatch.setenv("NUMBABN_BACKEND", "reference")


BENCH = ["bench", "--no-progress", "--repeats", "2", "--threads", "1"]


# Shapes -------------------------------------------------------------------------------------------------------------


def test_shapes_by_name_and_size_come_once_each_in_order():
    parsed = shapes.parse("32x10, tiny,1d,32x64x56x56,64x4096")
    assert parsed == [(32, 10), (8, 16, 8, 8), *shapes.NAMED["1d"], (32, 64, 56, 56)]


@pytest.mark.parametrize(
    "text", ["", "resnet", "32", "32x", "2x3x4", "2x3x4x5x6", "-2x3", "2.0x3", "1x3x1x1", "4x0", "tiny,"]
)
def test_unknown_shapes_are_refused(text):
    with pytest.raises(ValueError, match=r"shape '.*' (is unknown; expected|has . values per channel; expected)"):
        shapes.parse(text)


# The copy limit -----------------------------------------------------------------------------------------------------


def poisoned(size, dtype, offset):
    """A window somewhere in NaNs, and the NaNs on either side of it."""
    memory = np.full(size + offset + 40, np.nan, dtype)
    return memory[offset : offset + size], (memory[:offset], memory[offset + size :])


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_limits_move_every_element_and_no_other(dtype, streamed):
    rng = np.random.default_rng(0)
    for size in (0, 1, 7, 16, 33, 1000, 40_003):
        dy, x = rng.normal(size=(2, size + 3)).astype(dtype)[:, 3:]  # one of them begins anywhere
        for offset in (0, 1, 5, 16):
            y, around = poisoned(size, dtype, offset)
            limits.run([(x, y)], streamed=streamed)
            np.testing.assert_array_equal(y, x)
            dx, around_too = poisoned(size, dtype, offset)
            limits.run([(dy, x, dx)], streamed=streamed)
            np.testing.assert_array_equal(dx, dy + x)
            assert all(np.isnan(part).all() for part in around + around_too)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_limits_are_shared_by_any_number_of_threads(threads):
    x = np.arange(101.0)
    for streamed in (False, True):
        y, dx = np.full((2, x.size), np.nan)
        limits.copy.serial(x, y, streamed, threads)
        limits.triad.serial(x, x, dx, streamed, threads)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(dx, 2 * x)


# Workers ------------------------------------------------------------------------------------------------------------


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


def test_a_right_worker_is_timed_and_what_it_prints_does_no_harm(fake):
    with ExitStack() as stack:
        process = started(stack, fake("fake", RIGHT))
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
def test_what_goes_wrong_is_noted(fake, body, note):
    with ExitStack() as stack:
        cell = cell_of(started(stack, fake("fake", body)))
    assert list(cell["times"]["fake"]) == ["note"]
    assert cell["times"]["fake"]["note"].startswith(note)
    assert cell["limit"] is None


def test_what_a_system_cannot_do_is_noted(fake):
    with ExitStack() as stack:
        cell = cell_of(started(stack, fake("fake", RIGHT)), layout="NHWC", shape=(2, 3, 4, 4))
    assert cell["times"]["fake"] == {"note": "not that layout"}


def test_a_worker_that_died_is_started_again_a_few_times(fake):
    with ExitStack() as stack:
        process = started(stack, fake("fake", DYING))
        notes = [cell_of(process)["times"]["fake"]["note"] for _ in range(processes.STARTS + 1)]
    assert all(note.startswith("ended with exit code 3") for note in notes[:-1])
    assert notes[-1] == f"left alone after it had ended early or hung {processes.STARTS} times"


def test_a_worker_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(processes, "TIMEOUT", 0.2)
    with Process([sys.executable, "-c", "import time; time.sleep(60)"], dict(os.environ), {}) as process:
        with pytest.raises(WorkerError, match=r"no answer within 0\.2 s"):
            process.greet()
        assert process._process is None


def test_no_worker_outlives_its_context(fake):
    with ExitStack() as stack:
        process = started(stack, fake("fake", RIGHT))
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


# The command --------------------------------------------------------------------------------------------------------


def test_the_command_measures_prints_keeps_and_draws(capsys, tmp_path):
    argv = [*BENCH, "--shapes", "6x3,2x3x4x5", "--what", "forward,backward", "--fused", "none,residual+relu"]
    assert main([*argv, "--json", "report.json", "--plot", "figure.png"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    report = json.loads((tmp_path / "report.json").read_text())
    kinds = [(cell["what"], cell["layout"], cell["fused"]) for cell in report["cells"]]
    assert len(set(kinds)) == len(kinds) == 2 * 3 * 2
    for cell in report["cells"]:
        assert cell["times"]["numbabn"]["median"] > 0, cell
        assert cell["limit"]["median"] > 0
    assert report["cells"][0]["bytes"] == 6 * 3 * 4 * 2
    assert f"numbabn {nbn.__version__}" in shown.out
    assert "backward +residual+relu, NHWC\nshape    copy limit" in shown.out
    assert "2x4x5x3 " in shown.out
    assert max(map(len, shown.out.splitlines())) <= 120
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")

    assert main(["bench", "--from", "report.json", "--plot", "again.png"]) == 0
    assert capsys.readouterr().out == shown.out.replace("figure.png", "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "figure.png").read_bytes()


def test_peers_stand_beside_numbabn_and_notes_below(capsys, monkeypatch, fake):
    fakes = [fake("PyTorch", RIGHT), fake("TensorFlow", DYING), fake("JAX", WRONG)]
    monkeypatch.setattr(systems, "PEERS", fakes)
    assert main([*BENCH, "--shapes", "6x3", "--what", "inference", "--plot", "figure.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines.index("inference, NC")
    assert lines[table + 1].split() == ["shape", "copy", "limit", "numbabn", "/", "limit", "PyTorch", "speed-up"]
    assert lines[table + 2].startswith("6x3 ")
    assert lines[table + 2].endswith("x")
    assert lines[table + 3] == "TensorFlow: ended with exit code 3: out of luck"
    assert lines[table + 4].startswith("JAX: wrong result, not timed")


def test_absent_peers_are_said_to_be_absent(capsys, monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("NUMBABN_BACKEND", "reference")
    for package in ("torch", "tensorflow"):
        (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('no', name={package!r})")
    (tmp_path / "jax.py").write_text("raise ImportError('broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert main([*BENCH, "--shapes", "6x3", "--what", "inference", "--repeats", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"PyTorch: not installed in {sys.executable}" in lines
    assert f"TensorFlow: not installed in {sys.executable}" in lines
    assert "JAX: cannot be imported: broken" in lines


def test_ctrl_c_prints_and_keeps_what_there_is(capsys, monkeypatch, tmp_path):
    real, cells = command.measure, []

    def interrupted(cell, *args):
        if cells:
            raise KeyboardInterrupt
        cells.append(cell)
        return real(cell, *args)

    monkeypatch.setattr(command, "measure", interrupted)
    argv = [*BENCH, "--shapes", "6x3,9x3", "--what", "inference", "--json", "report.json"]
    assert main(argv) == 130
    assert "\n6x3 " in capsys.readouterr().out
    assert len(json.loads((tmp_path / "report.json").read_text())["cells"]) == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--shapes", "resnet"], "--shapes: shape 'resnet' is unknown; expected resnet50, 1d, tiny, or sizes"),
        (["--layout", "NCWH"], "--layout: 'NCWH' is unknown; expected NCHW, NHWC"),
        (["--what", "forward,training"], "--what: 'training' is unknown; expected forward, backward, inference"),
        (["--fused", "add"], "--fused: 'add' is unknown; expected none, relu, residual+relu"),
        (["--dtype", "float16"], "--dtype: invalid choice: 'float16'"),
        (["--threads", "100000"], "--threads: 100000 threads are asked for; this process may use"),
        (["--threads", "0"], "--threads: '0' is not a whole number from 1"),
        (["--seconds", "1", "--repeats", "3"], "--seconds and --repeats exclude each other"),
        (["--python", "no-such-python"], "--python: no-such-python is no program"),
        (["--json", "nowhere/report.json"], "--json: the folder nowhere does not exist"),
        (["--plot", "nowhere/figure.png"], "--plot: the folder nowhere does not exist"),
        (["--from", "report.json", "--shapes", "1d"], "--from measures nothing; leave --shapes out"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_code_2(capsys, argv, words):
    try:
        code = main(["bench", *argv])
    except SystemExit as error:
        code = error.code
    assert code == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"format": 0}'])
def test_a_file_that_is_no_report_is_one_line_and_exit_code_1(capsys, tmp_path, content):
    if content is not None:
        (tmp_path / "report.json").write_bytes(content)
    assert main(["bench", "--from", "report.json"]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("numbabn: error: ")
    assert "report.json" in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("module", ["tqdm", "matplotlib.figure"])
def test_a_missing_package_is_one_line_and_exit_code_1(capsys, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["bench", "--plot", "figure.png"]) == 1
    shown = capsys.readouterr().err
    assert 'pip install "numbabn[bench]"' in shown
    assert shown.count("\n") == 1


def test_a_process_that_does_not_start_is_one_line_and_exit_code_1(capsys, monkeypatch, fake):
    monkeypatch.setattr(systems, "NUMBABN", System("numbabn", fake("numbabn", RIGHT).program.with_name("none.py")))
    assert main(BENCH) == 1
    assert "the process for numbabn does not start: ended with exit code 2" in capsys.readouterr().err


def test_every_option_can_be_given():
    """The command's options are the fields that it looks for."""
    from numbabn.cli import _parser

    arguments = vars(_parser().parse_args(["bench"]))
    assert {field.name for field in fields(command.Options)} < set(arguments)
