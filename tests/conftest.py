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
    """A test that takes a ``kind`` of arrays on a device runs with each. (Imported here, since few tests need CUDA.)"""
    if "kind" in metafunc.fixturenames:
        from kinds import KINDS

        metafunc.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
