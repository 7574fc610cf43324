"""``numbabn bench --device cuda`` without a card: NumPy arrays stand in for the card's, a clock for its events."""

from time import perf_counter, sleep

import numpy as np
import pytest

from numbabn.bench import card_arrays, card_systems, command, cuda, table
from numbabn.bench.measure import FUSED, WHATS, Cell, Effort
from numbabn.cli import main


class Mark:
    """An event."""

    def __init__(self, log):
        self.log = log

    def record(self):
        self.time = perf_counter()
        self.log.append("event")


class Arrays(card_arrays.Timed):
    """As ``card_arrays.WithTorch``."""

    card, multiprocessors, cache = "Some card", 132, 60 << 20
    library, versions = "Library 1.0", ["Library 1.0"]

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.log = []
        self.impatient = False

    def normal(self, shape, dtype, mean=0.0, std=1.0):
        return self.rng.normal(mean, std, shape).astype(dtype)

    def channels_last(self, array):
        return array.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)

    def float64(self, array):
        return array.astype(np.float64)

    def event(self):
        return Mark(self.log)

    def milliseconds(self, first, last):
        return 1e3 * (last.time - first.time)

    def reached(self, event):
        return self.impatient

    def wait(self, cycles):
        self.log.append(cycles)

    def synchronize(self):
        self.log.append("synchronize")

    def copy(self, source, target):
        target[...] = source

    def peers(self):
        return {"PyTorch": Peer(lambda results: results), "cuDNN": Peer(lambda results: [1.01 * y for y in results])}


class Peer(card_systems.Numbabn):
    """A peer that computes what numbabn does, and then something."""

    def __init__(self, then):
        self.then = then

    def call(self, cell, given):
        call = super().call(cell, given)
        return lambda: self.then(call())


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """In an empty folder; few buffers, and no card to be looked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cuda, "ROTATED", 1000)
    monkeypatch.setattr(card_arrays, "library", Arrays)
    monkeypatch.setattr(command, "load", lambda name: None)


@pytest.mark.parametrize("fused", FUSED)
@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_results_are_checked_and_then_timed(what, layout, fused):
    arrays = Arrays()
    systems = {"numbabn": card_systems.Numbabn(), **arrays.peers()}
    cell = cuda.measure(Cell(what, layout, fused, (4, 3, 5, 6)), arrays, systems, "float32", Effort(None, 5))
    times = cell["times"]
    assert times["numbabn"]["median"] > 0
    assert times["numbabn"]["calls"] == times["PyTorch"]["calls"] == cell["limit"]["calls"] == 5
    assert times["cuDNN"]["note"].startswith("ValueError: wrong result: relative error 1.0e-02")
    assert table.ratio(cell, "PyTorch", "numbabn") > 0


def test_the_card_waits_until_calls_are_queued():
    arrays = Arrays()
    calls = [lambda: arrays.log.append("call")] * 2
    card, host = arrays.times(calls, 0.5, 1)
    expected = ["event", "call", "event", "call", "event", "synchronize"]
    assert arrays.log == ["event"] * 3 + [0.5 * card_arrays.CLOCK, *expected]
    assert len(card) == len(host) == 2
    arrays.log, arrays.impatient = [], True
    arrays.times(calls, 0.5, 1)
    assert arrays.log == ["event"] * 3 + [
        entry for seconds in (0.5, 1, 2, 4) for entry in (seconds * card_arrays.CLOCK, *expected)
    ]
    arrays.log, arrays.impatient = [], False
    _, host = cuda._turn(arrays, [lambda: sleep(0.002)] * 2, {"calls": 70})
    waits = [entry / card_arrays.CLOCK for entry in arrays.log if entry not in ("event", "call", "synchronize")]
    assert waits[0] == 0  # warming up
    assert waits[1] > sum(host[:64])
    assert waits[2] > sum(host[64:])


def test_a_wrong_result_of_numbabn_ends_it():
    with pytest.raises(ValueError, match="wrong result"):
        cuda.measure(
            Cell("forward", "NCHW", "none", (4, 3, 5, 6)), Arrays(), {"numbabn": Arrays().peers()["cuDNN"]}, "float32",
            Effort(None, 5),
        )  # fmt: skip


def test_the_command(capsys, tmp_path):
    argv = ["bench", "--device", "cuda", "--no-progress", "--repeats", "2", "--shapes", "6x3,2x3x4x5"]
    assert main([*argv, "--json", "report.json", "--plot", "figure.png"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Some card, 132 multiprocessors, L2 60 MiB\ndriver ")
    assert "training forward, NHWC" in shown
    assert "cuDNN: ValueError: wrong result" in shown
    assert "us of the host for a call: numbabn" in shown
    assert main(["bench", "--from", "report.json"]) == 0
    assert capsys.readouterr().out == shown.replace("\nfigure figure.png\n", "")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_peers_are_those_that_are_asked_for(capsys):
    argv = ["bench", "--device", "cuda", "--no-progress", "--repeats", "2", "--shapes", "6x3", "--what", "forward"]
    assert main([*argv, "--peers", "PyTorch"]) == 0
    shown = capsys.readouterr().out
    assert "PyTorch  speed-up" in shown
    assert "cuDNN" not in shown
    assert "in parts" not in shown
    assert main([*argv, "--peers", "none"]) == 0
    assert "speed-up" not in capsys.readouterr().out


def test_numbers_of_the_policy_are_changed_for_a_while(monkeypatch):
    pytest.importorskip("numba_cuda")
    from numbabn.backends.cuda import on_device, policy

    met, before, launch_for = [], policy.TEAM, on_device.launch_for
    monkeypatch.setattr(card_systems.Numbabn, "call", lambda self, cell, given: lambda: met.append(policy.TEAM))
    system = card_systems.recut(["TEAM=5,SPREAD=7"])["TEAM=5,SPREAD=7"]
    with system.chosen():
        system.call(None, None)()
    assert met == [5]
    assert (policy.TEAM, on_device.launch_for) == (before, launch_for)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--dtype", "float16"], "--dtype float16 needs --device cuda"),
        (["--device", "cuda", "--threads", "1"], "--threads is for --device cpu"),
        (
            ["--device", "cuda", "--peers", "cuDNN,JAX"],
            "--peers: 'JAX' is unknown; expected none, or some of in parts, ",
        ),
        (["--peers", "cuDNN"], "--peers: 'cuDNN' is unknown; expected none, or some of PyTorch, TensorFlow, JAX"),
        (["--policy", "TEAM=64"], "--policy is for --device cuda"),
    ],
)
def test_options_and_peers_of_the_other_device_are_refused(capsys, argv, message):
    assert main(["bench", *argv]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["THREADS=64", "TEAM=64,", "TEAM=a", "TEAM", "SIMULATED=1", ""])
def test_unknown_numbers_of_the_policy_are_refused(capsys, text):
    pytest.importorskip("numba_cuda")
    assert main(["bench", "--device", "cuda", f"--policy={text}"]) == 2
    assert f"--policy: {text!r} is unknown; expected NAME=N,..., of VECTORS, " in capsys.readouterr().err
