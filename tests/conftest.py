"""What every test may rely on."""

import signal

import pytest


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C raises as usual, even where the test run itself was started in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["as planned", "in teams", "in parts"])
def way(request, monkeypatch):
    """How a device's kernels are launched: as planned, which is on chip where arrays are small, by teams of blocks, or
    in several launches; by the bytes that a block may hold. (Imported here, as below.)"""
    from numbabn.backends.cuda import cut, policy, toolkit

    held = {"as planned": policy.ON_CHIP, "in teams": 256 if toolkit.SIMULATED else 12 << 10, "in parts": 0}
    monkeypatch.setattr(policy, "ON_CHIP", held[request.param])
    cut.launch_for.cache_clear()
    yield request.param
    cut.launch_for.cache_clear()


def pytest_generate_tests(metafunc):
    """A test that takes a ``library`` runs with arrays on a device of each. (Imported here: few tests need CUDA.)"""
    if "library" in metafunc.fixturenames:
        from kinds import KINDS

        metafunc.parametrize("library", KINDS, ids=lambda kind: type(kind).__name__)
