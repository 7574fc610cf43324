"""``numbabn bench --what training``, on a step that is small. No peer is needed."""

import json
import re

import pytest
from bench_helpers import FAKE, keep_small

from numbabn.bench import systems, training
from numbabn.bench.systems import WORKERS, System
from numbabn.cli import main

BENCH = ["bench", "--no-progress", "--repeats", "2", "--threads", "1", "--what", "training"]
STEPPING = FAKE.replace("serve(Fake())", "Fake.training = lambda self, step: lambda: {loss}\nserve(Fake())")


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    keep_small(monkeypatch, tmp_path)
    monkeypatch.setattr(training, "PAUSE", 0.0)
    monkeypatch.setattr(training, "STEPS", (("small-cnn", (4, 1, 8, 8)),))


def peer(folder, name, body):
    program = folder / f"{name}.py"
    program.write_text(body.format(workers=str(WORKERS), body="pass", loss="1.0"))
    return System(name, program)


def test_steps_are_timed_beside_their_memory_and_what_peers_lack_is_told(capsys, monkeypatch, tmp_path):
    peers = [peer(tmp_path, "Other", STEPPING), peer(tmp_path, "Idle", FAKE)]
    monkeypatch.setattr(systems, "PEERS", peers)
    assert main([*BENCH, "--json", "report.json"]) == 0
    shown = capsys.readouterr().out
    (step,) = json.loads((tmp_path / "report.json").read_text())["steps"]
    assert step["network"] == "small-cnn"
    assert step["times"]["numbabn"]["calls"] == 2
    assert step["peaks"]["numbabn"] >= 0
    assert re.search(r"\nstep of training, ms\nstep +numbabn +images/s +MB\nsmall-cnn 4x1x8x8 +\d", shown)
    assert "Idle: has no training step" in shown
    assert "Other: other losses, not timed: [1.0, 1.0, 1.0] for [" in shown
    assert main(["bench", "--from", "report.json"]) == 0
    assert capsys.readouterr().out == shown


def test_a_peer_with_the_same_losses_is_timed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(systems, "PEERS", [peer(tmp_path, "Other", STEPPING)])
    monkeypatch.setattr(training, "TOLERANCE", 10.0)
    assert main(BENCH) == 0
    lines = capsys.readouterr().out.splitlines()
    heading, row = lines[lines.index("step of training, ms") + 1 :][:2]
    assert heading.split()[-4:] == ["Other", "images/s", "MB", "speed-up"]
    assert row.endswith("x")


def test_it_is_for_the_cpu(capsys):
    assert main([*BENCH[:2], "--what", "training", "--device", "cuda"]) == 2
    assert "--what training is for --device cpu" in capsys.readouterr().err
