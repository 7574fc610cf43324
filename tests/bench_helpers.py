"""Workers without a library behind them, for the tests of ``numbabn bench``."""

from numbabn.bench import measure, systems
from numbabn.bench.systems import WORKERS, System

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


def fake_system(folder, name, body):
    """A system whose only function has a body, one of those above; its program is written to a folder."""
    program = folder / f"{name}.py"
    program.write_text(FAKE.format(workers=str(WORKERS), body=body))
    return System(name, program)


def keep_small(monkeypatch, folder):
    """For one test: work in a folder, without peers, without pauses, and with a backend that compiles nothing."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(systems, "PEERS", [])
    monkeypatch.setattr(measure, "PAUSE", 0.0)
    monkeypatch.setenv("NUMBABN_BACKEND", "reference")
