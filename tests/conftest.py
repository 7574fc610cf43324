"""What every test may rely on."""

import signal

import pytest


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C raises as usual, even where the test run itself was started in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["alone", "in teams", "in parts"])
def how(request, monkeypatch):
    """The way that calls on small arrays of a device take: what blocks hold on chip. (Imported here, as below.)"""
    from kinds import HELD

    from numbabn.backends.cuda import plans, policy

    monkeypatch.setattr(policy, "ON_CHIP", HELD[request.param])
    plans.launch_for.cache_clear()
    yield request.param
    plans.launch_for.cache_clear()


def pytest_generate_tests(metafunc):
    """A test that takes a ``library`` runs with arrays on a device of each. (Imported here: few tests need CUDA.)"""
    if "library" in metafunc.fixturenames:
        from kinds import KINDS

        metafunc.parametrize("library", KINDS, ids=lambda kind: type(kind).__name__)
