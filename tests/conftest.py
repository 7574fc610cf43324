"""What every test may rely on."""

import signal

import pytest


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C raises as usual, even where the test run itself was started in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_generate_tests(metafunc):
    """A test that takes a ``kind`` of arrays on a device, not one of its own, runs with each. (Few tests need CUDA.)"""
    own = any("kind" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "kind" in metafunc.fixturenames and not own:
        from kinds import KINDS

        metafunc.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
