"""How launches are cut, and prepared, for cards that are not here."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbabn.backends.cuda import cut, launch, memory, planes, policy, toolkit
from numbabn.backends.cuda.policy import THREADS

H200 = toolkit.Card(shared_memory=232_448, multiprocessors=132)
CARDS = [
    H200,
    toolkit.Card(shared_memory=101_376, multiprocessors=128),
    toolkit.Card(shared_memory=232_448, multiprocessors=16),
]
ITEMSIZES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}


@given(
    st.tuples(st.integers(0, 300_000), st.integers(1, 3000), st.sampled_from([1, 1, 2, 7, 49, 64, 3136, 12544])),
    st.sampled_from(list(ITEMSIZES)),
    st.sampled_from([2, 4, 8, 16]),
    st.booleans(),
    st.sampled_from([1, 2]),
    st.sampled_from(CARDS),
)
def test_blocks_hold_what_they_take_and_teams_fit_the_card(shape, dtype, alignment, training, inputs, card):
    outer, channels, inner = shape
    launch = cut.launch_for(shape, dtype, max(alignment, ITEMSIZES[dtype]), training, inputs, card)
    assert launch.values == outer * inner
    if outer == 0:
        assert launch.blocks == launch.shared_bytes == 0
        assert launch.team == 1
        return
    real = 8 if launch.words.real == "float64" else 4
    if launch.family is planes:
        *_, slots, count = launch.sizes
        columns, own, unit, each = channels, (3 * THREADS + 6) * real, 1, launch.words.bytes
        size = outer * slots
        assert slots * launch.words.lanes >= inner
    else:
        _, _, slots, width, period, count = launch.sizes
        columns, size, unit = -(-slots // width), outer, THREADS // width
        own, each = (3 * THREADS + 6 * policy.WIDTH) * launch.words.lanes * real, width * launch.words.bytes
        assert slots * launch.words.lanes >= channels
        assert count % period == 0
        assert period == 1 or not launch.shared_bytes
    assert launch.blocks == columns * count
    if launch.shared_bytes:
        assert own <= 48 << 10
        assert own + launch.shared_bytes <= card.shared_memory
        assert count <= card.multiprocessors
        assert launch.team == (count if training or inputs == 2 else 1)
        longest = max(size * (part + 1) // count - size * part // count for part in range(count))
        assert -(-longest // unit) * unit * each * inputs <= launch.shared_bytes


def test_resnet_50_on_an_h200_is_one_launch_but_for_the_largest_rows():
    def team_size(shape, dtype, inputs):
        launch = cut.launch_for(shape, dtype, 16, True, inputs, H200)
        return launch.team if launch.shared_bytes else 0

    assert team_size((32, 2048, 49), "float32", 1) == 1
    assert team_size((32, 256, 3136), "float32", 1) == 4
    assert team_size((256, 64, 12544), "float32", 1) == 115
    assert team_size((256, 64, 12544), "float16", 2) == 115
    assert team_size((32 * 28 * 28, 512, 1), "float32", 1) == 33
    assert team_size((256 * 112 * 112, 64, 1), "float32", 1) == 0
    assert cut.launch_for((32, 256, 3136), "float32", 16, False, 1, H200).shared_bytes == 0
    assert cut.launch_for((32, 64, 49), "float32", 16, False, 1, H200).shared_bytes > 0


def test_float32_numbers_are_passed_by_their_bits():
    words = launch.Words("float32", 4, "float32")
    *bits, integer = launch.numbers_of(words, "dnfffi", (1e-5, 1e300, 0.0, 7))
    assert integer == 7
    np.testing.assert_array_equal(np.array(bits, np.int32).view(np.float32), np.float32([1e-5, np.inf, 0]))


@pytest.fixture
def driver(monkeypatch):
    """A driver that writes down which attributes kernels are given, and how they are launched."""
    called = SimpleNamespace(attributes=[], launched=[])

    def set_attribute(attribute, value, handle, device):
        called.attributes.append((attribute, value))
        return (0,)

    names = ("MAX_DYNAMIC_SHARED_SIZE_BYTES", "PREFERRED_SHARED_MEMORY_CARVEOUT")
    kinds = SimpleNamespace(**{f"CU_FUNC_ATTRIBUTE_{name}": name for name in names})
    known = SimpleNamespace(CUfunction_attribute=kinds, cuKernelSetAttribute=set_attribute)
    monkeypatch.setattr(toolkit, "driver", known)
    monkeypatch.setattr(toolkit, "card", lambda device: H200)
    monkeypatch.setattr(toolkit, "current_device", lambda: 0)
    monkeypatch.setattr(toolkit, "_stream", lambda handle, device: (handle, device))
    monkeypatch.setattr(toolkit, "LaunchConfig", lambda **config: config)
    monkeypatch.setattr(toolkit, "launch_on", lambda *arguments: called.launched.append(arguments))
    return called


def compiled(resident):
    """A kernel of which so many blocks fit a multiprocessor."""
    occupancy = SimpleNamespace(max_active_blocks_per_multiprocessor=lambda threads, shared_bytes: resident)
    function = SimpleNamespace(
        kernel=SimpleNamespace(occupancy=occupancy), handle=1, attrs=SimpleNamespace(shared=3104)
    )
    library = SimpleNamespace(get_cufunc=lambda: function)
    return SimpleNamespace(compile=lambda types: SimpleNamespace(_codelibrary=library), __name__="forward_on_chip")


def test_a_kernel_is_allowed_the_same_for_all_shapes(driver):
    for shared_bytes in (100_352, 25_088):
        toolkit.prepared(compiled(2), (), 512, THREADS, shared_bytes, 1)
    asked = [value for attribute, value in driver.attributes if attribute.startswith("MAX")]
    assert asked == [232_448 - 3104] * 2


def test_only_whole_teams_that_are_resident_are_launched(driver):
    x = memory.new_memory(None, 4096, (1,), "float32")
    toolkit.prepared(compiled(2), (), 40 * 63, THREADS, 100_352, 63)(7, [x], [5])
    toolkit.prepared(compiled(2), (), 512, THREADS, 100_352, 1)(7, [x], [5])
    (stream, config, _, *arguments), (_, alone, *_) = driver.launched
    assert (stream, arguments) == ((7, 0), [4096, 5])
    assert config == {"grid": (252, 1, 1), "block": (THREADS, 1, 1), "shmem_size": 100_352, "is_cooperative": True}
    assert alone["grid"] == (512, 1, 1)
    assert not alone["is_cooperative"]
    with pytest.raises(RuntimeError, match="only 0 blocks of forward_on_chip are resident; a team has 63"):
        toolkit.prepared(compiled(0), (), 126, THREADS, 100_352, 63)
