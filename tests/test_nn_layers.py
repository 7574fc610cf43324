"""What each layer computes, in which memory, and what state it keeps."""

import copy
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from numbabn import layout, nn
from numbabn.nn.memory import Pool, gradients


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def windows(x, size, stride, padding, fill):
    """All windows of x, shape (N, C, rows, columns, height, width), straight from the definition."""
    (py, px), (sy, sx) = padding, stride
    padded = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)), constant_values=fill)
    return sliding_window_view(padded, size, axis=(2, 3))[:, :, ::sy, ::sx]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("size", "stride", "padding", "shape"),
    [
        ((3, 3), (1, 1), (1, 1), (2, 3, 6, 5)),
        ((3, 3), (2, 2), (1, 1), (3, 5, 9, 8)),
        ((2, 5), (3, 1), (0, 2), (2, 4, 7, 7)),
        ((1, 1), (1, 1), (0, 0), (4, 6, 5, 3)),
        ((1, 1), (2, 2), (0, 0), (4, 6, 5, 3)),
        ((2, 2), (1, 1), (3, 3), (1, 2, 2, 2)),
        ((3, 3), (1, 1), (1, 1), (2, 20, 48, 47)),
    ],
)
def test_convolution_is_what_its_definition_says(size, stride, padding, shape, dtype):
    conv = nn.Conv2d(shape[1], 7, size, stride=stride, padding=padding, rng=1, dtype=dtype)
    conv.bias.value[...] = np.arange(7)
    x = normal(*shape, dtype=dtype)
    y = conv.forward(x, training=True)
    seen = windows(x.astype(np.float64), size, stride, padding, 0)
    expected = np.einsum("nchwij,fcij->nfhw", seen, conv.weight.value.astype(np.float64))
    expected += np.arange(7)[:, None, None]
    assert y.dtype == dtype
    np.testing.assert_allclose(y, expected, rtol=0, atol=200 * np.finfo(dtype).eps)


def test_convolution_writes_channels_last_and_reads_any_order():
    conv = nn.Conv2d(4, 6, 3, padding=1, rng=0)
    x = normal(3, 4, 10, 7, dtype=np.float32)
    y = conv.forward(channels_last(x), training=True).copy()
    assert conv.forward(x, training=True).transpose(0, 2, 3, 1).flags.c_contiguous
    strided = np.repeat(x, 2, axis=3)[..., ::2]
    for other in (x, strided, x[::-1][::-1]):
        np.testing.assert_array_equal(conv.forward(other, training=True), y)


@pytest.mark.parametrize("order", [np.ascontiguousarray, channels_last])
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [((2, 2), None, (0, 0)), ((3, 3), (2, 2), (1, 1)), ((3, 2), (1, 3), (1, 0))]
)
def test_max_pool_is_what_its_definition_says(size, stride, padding, order):
    x = order(normal(4, 20, 13, 12, dtype=np.float32))
    y = nn.MaxPool2d(size, stride=stride, padding=padding).forward(x, training=True)
    np.testing.assert_array_equal(y, windows(x, size, stride or size, padding, -np.inf).max(axis=(4, 5)))
    assert y.flags.c_contiguous == x.flags.c_contiguous


@pytest.mark.parametrize("order", [np.ascontiguousarray, channels_last])
def test_max_pool_ties_and_nan(order):
    pool = nn.MaxPool2d(2)
    x = np.zeros((1, 2, 2, 4))
    x[0, 1] = [[1, 3, -np.inf, -np.inf], [3, 2, -np.inf, np.nan]]
    y = pool.forward(order(x), training=True)
    np.testing.assert_array_equal(y, [[[[0, 0]], [[3, np.nan]]]])
    dx = pool.backward(np.array([[[[1.0, 2.0]], [[3.0, 4.0]]]]))
    np.testing.assert_array_equal(
        dx, [[[[1, 0, 2, 0], [0, 0, 0, 0]], [[0, 3, 0, 0], [0, 0, 0, 4]]]], err_msg="the first of equal values, NaN"
    )


def test_small_layers_by_hand():
    x = np.array([[[[1.0, -2.0], [3.0, np.nan]]]])
    relu = nn.ReLU()
    np.testing.assert_array_equal(relu.forward(x, training=True), [[[[1, 0], [3, np.nan]]]])
    dy = np.array([[[[5.0, np.inf], [6.0, 7.0]]]])
    np.testing.assert_array_equal(relu.backward(dy), [[[[5, 0], [6, 7]]]])
    pool = nn.GlobalAvgPool2d()
    np.testing.assert_array_equal(pool.forward(np.arange(8.0).reshape(1, 2, 2, 2), training=True), [[1.5, 5.5]])
    np.testing.assert_array_equal(pool.backward(np.array([[4.0, 8.0]])).ravel(), [1, 1, 1, 1, 2, 2, 2, 2])
    linear = nn.Linear(2, 1, dtype=np.float64)
    linear.load_state_dict({"weight": np.array([[2.0, 3.0]]), "bias": np.array([1.0])})
    np.testing.assert_array_equal(linear.forward(np.array([[1.0, 1.0], [0.0, 2.0]]), training=True), [[6], [7]])
    np.testing.assert_array_equal(linear.backward(np.array([[1.0], [10.0]])), [[2, 3], [20, 30]])
    np.testing.assert_array_equal(linear.weight.grad, [[1, 21]])
    np.testing.assert_array_equal(linear.bias.grad, [11])


def test_flatten_goes_by_logical_order():
    flatten = nn.Flatten()
    x = normal(3, 4, 2, 5)
    for ordered in (x, channels_last(x)):
        np.testing.assert_array_equal(flatten.forward(ordered, training=True), x.reshape(3, 40))
        dx = flatten.backward(x.reshape(3, 40))
        np.testing.assert_array_equal(dx, x)
        assert dx.strides == ordered.strides
    assert flatten.forward(np.ones(3), training=True).shape == (3, 1)


def test_dropout():
    x = np.ones((200, 500), np.float32)
    dropout = nn.Dropout(0.2, seed=3)
    assert dropout.forward(x, training=False) is x
    assert dropout.calls == 0
    y = dropout.forward(x, training=True).copy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1.25)}
    assert abs(y.mean() - 1) < 0.01  # 100,000 draws: standard deviation 0.0016
    np.testing.assert_array_equal(dropout.backward(x), y)
    assert np.any(dropout.forward(x, training=True) != y)
    again = nn.Dropout(0.2, seed=3)
    np.testing.assert_array_equal(again.forward(x, training=True), y)
    again.forward(x, training=True)
    resumed = nn.Dropout(0.2, seed=3)
    resumed.load_state_dict(again.state_dict())
    np.testing.assert_array_equal(resumed.forward(x, training=True), again.forward(x, training=True))
    assert np.any(nn.Dropout(0.2, seed=4).forward(x, training=True) != y)


def test_batch_norm_keeps_running_statistics():
    norm = nn.BatchNorm(2, momentum=0.25, dtype=np.float64)
    x = np.array([[1.0, 10.0], [3.0, 30.0]])
    y = norm.forward(x, training=True)
    np.testing.assert_allclose(y, [[-1, -1], [1, 1]], atol=1e-5)
    np.testing.assert_allclose(norm.running_mean, [0.5, 5.0])
    np.testing.assert_allclose(norm.running_var, [0.75 + 0.25 * 2, 0.75 + 0.25 * 200])
    assert norm.num_batches_tracked == 1
    kept = norm.state_dict()
    y = norm.forward(x, training=False)
    np.testing.assert_allclose(y, (x - norm.running_mean) / np.sqrt(norm.running_var + 1e-5))
    norm.forward(np.empty((0, 2)), training=True)
    for name, value in norm.state_dict().items():
        np.testing.assert_array_equal(value, kept[name])


def test_batch_norm_with_cumulative_average():
    norm = nn.BatchNorm(3, momentum=None, dtype=np.float64)
    batches = [normal(8, 3, seed=seed) + seed for seed in range(5)]
    for batch in batches:
        norm.forward(batch, training=True)
    np.testing.assert_allclose(norm.running_mean, np.mean([b.mean(axis=0) for b in batches], axis=0))
    np.testing.assert_allclose(norm.running_var, np.mean([b.var(axis=0, ddof=1) for b in batches], axis=0))
    assert norm.num_batches_tracked == 5


def test_batch_norm_without_running_statistics_always_uses_the_batch():
    norm = nn.BatchNorm(3, track_running_stats=False, momentum=None)
    x = normal(8, 3, dtype=np.float32) * 4 + 5
    y = norm.forward(x, training=True).copy()
    np.testing.assert_array_equal(norm.forward(x, training=False), y)
    assert set(norm.state_dict()) == {"gamma", "beta"}


LAYERS = {
    "Conv2d": lambda: nn.Conv2d(4, 4, 3, padding=1, rng=0),
    "BatchNorm": lambda: nn.BatchNorm(4),
    "ReLU": nn.ReLU,
    "MaxPool2d": lambda: nn.MaxPool2d(2),
    "GlobalAvgPool2d": nn.GlobalAvgPool2d,
    "Dropout": lambda: nn.Dropout(0.5),
    "fused": lambda: nn.Residual(nn.BatchNorm(4)),
    "fused with a convolution": lambda: nn.Residual(nn.Conv2d(4, 4, 1, rng=0)),
    "unfused": lambda: nn.Residual(nn.Sequential(nn.Conv2d(4, 4, 1, rng=0), nn.Dropout(0.5))),
}


@pytest.mark.parametrize("order", [np.ascontiguousarray, channels_last])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_memory_is_reused_and_batches_may_shrink(make, order):
    layer = make()
    full, part = (order(normal(n, 4, 64, 48, seed=n, dtype=np.float32)) for n in (6, 2))

    def run(x):
        y = layer.forward(x, training=True)
        dx = layer.backward(normal(*y.shape, seed=2, dtype=np.float32))
        assert not np.shares_memory(y, x)
        assert not np.shares_memory(dx, x)
        assert not np.shares_memory(dx, y)
        return y, dx

    y, dx = run(full)
    for x in (full, part, full):
        kept = dx.copy()
        again, new = run(x)
        assert again.ctypes.data == y.ctypes.data
        assert not np.shares_memory(new, dx)
        np.testing.assert_array_equal(dx, kept)
    assert run(part)[0].shape[0] == 2


def test_gradients_pass_through_the_same_memory():
    model = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1, rng=seed) for seed in range(6)))
    x = channels_last(normal(4, 8, 64, 64, dtype=np.float32))
    model.forward(x, training=True)
    model.backward(x)
    gradients._free.clear()
    dx = model.backward(x)
    pieces = dict(gradients._free)
    assert 1 <= len(pieces) <= 2
    del dx
    assert len(gradients._free) == len(pieces) + 1
    model.backward(x)
    assert set(pieces) < set(gradients._free)


@pytest.mark.parametrize("shape", [(300, 20), (6, 5, 4, 7)])
@pytest.mark.parametrize("make", [lambda n: nn.BatchNorm(n), lambda n: nn.ReLU(), lambda n: nn.Dropout(0.5)])
def test_any_memory_order_is_kept_and_its_memory_reused(make, shape):
    for order in permutations(range(len(shape))):
        x = normal(*(shape[axis] for axis in order), dtype=np.float32).transpose(np.argsort(order))
        layer, dy = make(shape[1]), np.flip(x)
        y, dx = layer.forward(x, training=True), layer.backward(dy)
        assert y.strides == dx.strides == x.strides
        assert layer.forward(x + 1, training=True).ctypes.data == y.ctypes.data
        assert not np.shares_memory(dx, y)


def test_batch_norm_copies_no_memory_order(monkeypatch):
    def refuse(self, array):
        assert self.fits(array)
        return of(self, array)

    of = layout.View.of
    monkeypatch.setattr(layout.View, "of", refuse)
    for order in permutations(range(4)):
        x = normal(4, 5, 6, 7).transpose(order)
        layer = nn.Residual(nn.BatchNorm(x.shape[1], dtype=np.float64))
        layer.backward(layer.forward(x, training=True))


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_empty_batch(make):
    layer = make()
    y = layer.forward(np.empty((0, 4, 8, 6), np.float32), training=True)
    assert y.size == 0
    assert layer.backward(y.copy()).shape == (0, 4, 8, 6)
    for parameter in layer.named_parameters().values():
        np.testing.assert_array_equal(parameter.grad, np.zeros_like(parameter.value))


def test_empty_batch_of_features():
    layer = nn.Sequential(nn.Flatten(), nn.Linear(6, 2, rng=0))
    y = layer.forward(np.empty((0, 2, 3), np.float32), training=True)
    assert y.shape == (0, 2)
    assert layer.backward(y.copy()).shape == (0, 2, 3)


def test_layers_share_the_memory_that_they_need_within_a_call():
    layers = [nn.Conv2d(3, 3, 3, padding=1, rng=seed) for seed in (0, 1)]
    for layer in layers:
        layer.backward(layer.forward(channels_last(normal(4, 3, 8, 8, dtype=np.float32)), training=True))
        assert set(layer._buffers._kept) == {"y"}


def test_layers_may_run_in_several_python_threads():
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, rng=0), nn.ReLU(), nn.Conv2d(16, 8, 3, rng=1))
    batches = [normal(16, 3, 12, 12, seed=seed, dtype=np.float32) for seed in range(8)]

    def run(x):
        own = copy.deepcopy(model)
        y = own.forward(x, training=True)
        return [own.backward(y).copy(), *(p.grad for p in own.named_parameters().values())]

    expected = [run(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, alone in zip(pool.map(run, batches), expected, strict=True):
            for one, other in zip(found, alone, strict=True):
                np.testing.assert_array_equal(one, other)


def test_gradients_are_overwritten_in_place():
    conv = nn.Conv2d(2, 3, 2, rng=0)
    x, dy = normal(2, 2, 4, 4, dtype=np.float32), normal(2, 3, 3, 3, seed=1, dtype=np.float32)
    conv.forward(x, training=True)
    assert conv.weight.grad is None
    conv.backward(dy)
    grad, first = conv.weight.grad, conv.weight.grad.copy()
    conv.backward(2 * dy)
    assert conv.weight.grad is grad
    np.testing.assert_allclose(grad, 2 * first)


def test_memory_of_gradients_is_large_enough_and_of_no_other_array():
    pool, rng = Pool(), np.random.default_rng(0)
    kept = []
    for number in range(400):
        size = int(rng.integers(Pool.SMALL, Pool.SMALL + 200))
        array = pool.take((size,), np.uint8)
        assert array.base._piece.nbytes >= size
        array[:] = number % 256
        kept.append((number, array[::2]))
        if len(kept) > 50:
            kept.pop(int(rng.integers(len(kept))))
        assert all((view == number % 256).all() for number, view in kept)
    assert len(pool._free) <= Pool.KEPT
    kept.clear()
    assert len(pool._free) <= Pool.KEPT


def test_memory_may_come_back_while_it_is_looked_for():
    """In a garbage collection, which may run in the midst of anything."""

    class Restless(dict):
        calls = 0

        def items(self):
            Restless.calls += 1
            for entry in super().items():
                if Restless.calls == 1:
                    self[-1] = np.empty(Pool.SMALL, np.uint8)
                yield entry

    pool = Pool()
    del [pool.take((Pool.SMALL,), np.uint8) for _ in range(3)][:]
    pool._free = Restless(pool._free)
    assert pool.take((Pool.SMALL,), np.uint8).size == Pool.SMALL
    assert Restless.calls == 2


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_layer_may_be_given_its_own_output(make, training):
    layer = make()
    y = layer.forward(channels_last(normal(6, 4, 12, 10, dtype=np.float32)), training=training)
    if y.ndim == 2:
        return  # the mean of images is none
    other = copy.deepcopy(layer)
    expected = other.forward(y.copy(order="K"), training=training)
    np.testing.assert_array_equal(layer.forward(y, training=training), expected)
