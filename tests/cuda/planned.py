"""What plans of launches promise, on cards that are not here."""

from hypothesis import given
from hypothesis import strategies as st

from numbabn.backends.cuda import planes, plans, policy, toolkit
from numbabn.backends.cuda.policy import THREADS

H200 = toolkit.Card(room=232_448, multiprocessors=132)
CARDS = [H200, toolkit.Card(room=101_376, multiprocessors=128), toolkit.Card(room=232_448, multiprocessors=16)]
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
    launch = plans.launch_for(shape, dtype, max(alignment, ITEMSIZES[dtype]), training, inputs, card)
    assert launch.values == outer * inner
    if outer == 0:
        assert launch.blocks == launch.held == 0
        return
    real = 8 if launch.words.real == "float64" else 4
    if launch.family is planes:
        *_, slots, count = launch.sizes
        columns, own, unit, each = channels, 3 * THREADS * real, 1, launch.words.bytes
        size = outer * slots
        assert slots * launch.words.lanes >= inner
    else:
        _, _, slots, width, period, count = launch.sizes
        columns, size, unit = -(-slots // width), outer, THREADS // width
        own, each = (3 * THREADS + 6 * policy.WIDTH) * launch.words.lanes * real, width * launch.words.bytes
        assert slots * launch.words.lanes >= channels
        assert count % period == 0
        assert period == 1 or not launch.held
    assert launch.blocks == columns * count
    if launch.held:
        assert own <= 48 << 10
        assert own + launch.held <= card.room
        assert count <= card.multiprocessors
        longest = max(size * (part + 1) // count - size * part // count for part in range(count))
        assert -(-longest // unit) * unit * each * inputs <= launch.held


def test_resnet_50_on_an_h200():
    """By what fits: one block's own channel, a team's, or three launches."""

    def blocks(shape, dtype, inputs):
        launch = plans.launch_for(shape, dtype, 16, True, inputs, H200)
        return launch.count if launch.held else 0

    assert blocks((32, 2048, 49), "float32", 1) == 1
    assert blocks((32, 256, 3136), "float32", 1) == 4
    assert blocks((256, 64, 12544), "float32", 1) == 126
    assert blocks((256, 64, 12544), "float16", 2) == 126
    assert blocks((32 * 28 * 28, 512, 1), "float32", 1) == 32
    assert blocks((256 * 112 * 112, 64, 1), "float32", 1) == 0
    assert plans.launch_for((32, 256, 3136), "float32", 16, False, 1, H200).held == 0
    assert plans.launch_for((32, 64, 49), "float32", 16, False, 1, H200).held > 0
