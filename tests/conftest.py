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
    """A test that takes a ``library`` runs with arrays on a device of each. (Imported here: few tests need CUDA.)"""
    if "library" in metafunc.fixturenames:
        from kinds import KINDS

        metafunc.parametrize("library", KINDS, ids=lambda kind: type(kind).__name__)
