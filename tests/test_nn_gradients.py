"""Every layer's backward pass against central differences of its forward pass, in float64."""

import numpy as np
import pytest

from numbabn import nn
from numbabn.nn import convolution, products, tile
from numbabn.nn.window import seen_columns, window_over

STEP = 1e-5
"""Central differences in float64 are off by about STEP**2 + 1e-16 / STEP."""

NETWORK_STEP = 1e-6
"""For networks: they curve more, and have many ReLUs, across whose kinks differences must not reach."""

TOLERANCE = 1e-7

ROUNDING = 64 * np.finfo(np.float64).eps
"""Of an objective, relative to the sum of its terms' sizes: some dozens of sums, one after another."""


def check_gradients(module, x, *, training=True, seed=0, step=STEP):
    """Compare ``dx`` and all parameters' gradients, along random directions, with differences of ``sum(dy * y)``."""
    rng = np.random.default_rng(seed)
    start = {name: buffer.copy() for name, buffer in module.named_buffers().items()}
    y = module.forward(x, training=training).copy()
    dy = rng.standard_normal(y.shape)

    def objective():
        for name, buffer in module.named_buffers().items():
            buffer[...] = start[name]
        return float(np.sum(dy * module.forward(x, training=training)))

    objective()
    dx = module.backward(dy, need_dx=True)
    assert dx.shape == x.shape
    assert dx.dtype == x.dtype
    gradients = [(x, dx.copy())]
    for parameter in module.named_parameters().values():
        assert parameter.grad.shape == parameter.value.shape
        gradients.append((parameter.value, parameter.grad.copy()))
    for array, gradient in gradients:
        for _ in range(3):
            direction = rng.standard_normal(array.shape)
            differences = []
            kept = array.copy()
            for sign in (1, -1):
                array[...] = kept + sign * step * direction
                differences.append(objective())
            array[...] = kept
            numeric = (differences[0] - differences[1]) / (2 * step)
            scale = np.abs(gradient * direction).sum() + 1e-3
            rounding = ROUNDING * abs(dy * y).sum() / step
            assert abs(np.sum(gradient * direction) - numeric) < TOLERANCE * scale + rounding


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def normal(*shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


CONVOLUTIONS = {
    "3x3": ({"kernel_size": 3, "padding": 1}, (3, 4, 6, 5)),
    "3x3 unpadded": ({"kernel_size": 3}, (2, 3, 5, 7)),
    "stride": ({"kernel_size": 3, "stride": 2, "padding": 1}, (2, 3, 7, 6)),
    "pairs": ({"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0)}, (2, 3, 5, 6)),
    "pointwise": ({"kernel_size": 1}, (3, 4, 3, 5)),
    "pointwise, stride": ({"kernel_size": 1, "stride": 2}, (3, 4, 5, 4)),
    "stride beyond the kernel": ({"kernel_size": 2, "stride": 3}, (2, 2, 8, 9)),
    "padding beyond the kernel": ({"kernel_size": 2, "padding": 3}, (2, 2, 3, 3)),
    "padding beyond the kernel, stride": ({"kernel_size": (2, 3), "stride": (4, 2), "padding": (1, 5)}, (2, 2, 7, 6)),
    "stride and padding of two kinds": ({"kernel_size": (5, 1), "stride": (3, 4), "padding": (4, 2)}, (2, 2, 8, 9)),
    "image of one pixel": ({"kernel_size": 3, "padding": 1}, (2, 3, 1, 1)),
    "one channel": ({"kernel_size": 3, "padding": 1}, (2, 1, 4, 4)),
    "many tiles and parts": ({"kernel_size": 3, "padding": 1}, (2, 24, 41, 40)),
    "many small images": ({"kernel_size": 3, "padding": 1}, (160, 3, 4, 4)),
}


@pytest.mark.parametrize("cut", ["usual", "small"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("options", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_conv2d(options, shape, bias, cut, monkeypatch):
    if cut == "small":  # so that small images are cut, too, and parts have several bands or tiles
        monkeypatch.setattr(products, "TILE_BYTES", 1)
        monkeypatch.setattr(products, "LEAST_ROWS", 7)
        monkeypatch.setattr(convolution, "BAND_PIXELS", 7)
    layer = nn.Conv2d(shape[1], 5, **options, bias=bias, rng=0, dtype=np.float64)
    check_gradients(layer, normal(*shape))


@pytest.mark.parametrize("channels", [1, 8, 19, 32])
@pytest.mark.parametrize("filters", [1, 7, 8, 9, 16, 17, 24, 37])
def test_conv2d_with_filters_in_vectors_of_eight(channels, filters):
    layer = nn.Conv2d(channels, filters, 3, stride=(1, 2), padding=1, rng=0, dtype=np.float64)
    check_gradients(layer, normal(3, channels, 5, 17))


@pytest.mark.parametrize(("options", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_tiles_read_what_there_is(options, shape):
    """Whatever the last tile reads of a band's copy, beyond the band's pixels and beyond the patch, is within it."""
    images, channels, height, width = shape
    layer = nn.Conv2d(channels, 5, **options, dtype=np.float64)
    window = window_over((height, width), layer.kernel_size, layer.stride, layer.padding)
    band, row, run = convolution._band(window), seen_columns(window) * channels, window.width * channels
    room = convolution._seen(np.empty((images, height, width, channels)), window).shape[1]
    output = convolution._output(window, channels, 5, 0, window.columns * 5, 5)
    assert len(output.to) == len(output.seen) >= tile.ROWS * -(-band * window.columns // tile.ROWS)
    assert output.to.max() == (band * window.columns - 1) * 5
    assert output.seen.max() + (window.height - 1) * row + run <= room
    last_pixel = (band - 1) * window.stride_y * row + (window.columns - 1) * window.stride_x * channels
    assert last_pixel + (window.height - 1) * row + tile.ROWS * -(-run // tile.ROWS) <= room


def test_linear():
    for bias in (True, False):
        check_gradients(nn.Linear(7, 4, bias=bias, rng=0, dtype=np.float64), normal(9, 7))
    check_gradients(nn.Linear(1, 1, rng=0, dtype=np.float64), normal(1, 1))
    check_gradients(nn.Linear(30, 11, rng=0, dtype=np.float64), normal(1000, 30))


POOLS = {
    "2x2": (2, {}, (3, 4, 6, 4)),
    "rest left over": (2, {}, (2, 3, 5, 7)),
    "overlapping": (3, {"stride": 2, "padding": 1}, (2, 3, 7, 8)),
    "pairs": ((3, 2), {"stride": (1, 3), "padding": (1, 0)}, (2, 3, 5, 6)),
    "gaps": (2, {"stride": 3}, (2, 3, 8, 8)),
    "threads": (2, {}, (20, 24, 10, 10)),
}


@pytest.mark.parametrize("order", [np.ascontiguousarray, channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize(("size", "options", "shape"), POOLS.values(), ids=POOLS)
def test_max_pool(size, options, shape, order):
    check_gradients(nn.MaxPool2d(size, **options), order(normal(*shape)))


SIMPLE = {
    "ReLU": nn.ReLU(),
    "GlobalAvgPool2d": nn.GlobalAvgPool2d(),
    "Flatten": nn.Flatten(),
    "Dropout": nn.Dropout(0.3, seed=4),
    "BatchNorm": nn.BatchNorm(4, dtype=np.float64),
    "BatchNorm, plain": nn.BatchNorm(4, affine=False, track_running_stats=False),
    "BatchNorm on the last axis": nn.BatchNorm(3, axis=-1, dtype=np.float64),
    "Conv2d": nn.Conv2d(4, 3, 2, rng=0, dtype=np.float64),
    "MaxPool2d": nn.MaxPool2d(2),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("order", ["NCHW", "NHWC", "neither"])
@pytest.mark.parametrize("layer", SIMPLE.values(), ids=SIMPLE)
def test_layers_in_every_memory_order(layer, order, training):
    x = {
        "NCHW": normal(5, 4, 6, 3),
        "NHWC": channels_last(normal(5, 4, 6, 3)),
        "neither": normal(5, 4, 12, 3)[:, :, ::2],
    }[order]
    check_gradients(layer, x, training=training)


def test_batch_norm_of_features_and_sequences():
    check_gradients(nn.BatchNorm(4, dtype=np.float64), normal(11, 4))
    check_gradients(nn.BatchNorm(4, dtype=np.float64), normal(5, 4, 7))


def block(seed, channels=4, stride=1, *, norm_last=True):
    def conv(index, inputs, step):
        return nn.Conv2d(inputs, 4, 3, stride=step, padding=1, bias=False, rng=seed + index, dtype=np.float64)

    layers = [conv(0, channels, stride), nn.BatchNorm(4, dtype=np.float64), nn.ReLU(), conv(1, 4, 1)]
    return nn.Sequential(*layers, *([nn.BatchNorm(4, dtype=np.float64)] if norm_last else []))


@pytest.mark.parametrize("training", [True, False])
def test_network_of_residual_blocks(training):
    projection = nn.Sequential(
        nn.Conv2d(3, 4, 1, stride=2, bias=False, rng=7, dtype=np.float64), nn.BatchNorm(4, dtype=np.float64)
    )
    net = nn.Sequential(
        nn.Residual(block(0, channels=3, stride=2), projection),
        nn.Residual(block(2)),
        nn.Residual(block(4), activation=None),
        nn.Residual(block(6, norm_last=False)),
        nn.Residual(nn.Sequential(block(10, norm_last=False), nn.Dropout(0.1))),
        nn.Residual(block(8, norm_last=False), activation=None),
        nn.Residual(nn.BatchNorm(4, dtype=np.float64)),
        nn.Residual(nn.Sequential()),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(4 * 2 * 2, 3, rng=9, dtype=np.float64),
    )
    check_gradients(net, normal(6, 3, 8, 8), training=training)


def test_small_cnn():
    for norm in ("batch", None):
        model = nn.SmallCNN(2, 3, width=3, norm=norm, dtype=np.float64)
        check_gradients(model, normal(4, 2, 6, 5))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(smoothing):
    loss = nn.CrossEntropy(smoothing)
    logits, labels = 3 * normal(7, 5), np.array([0, 4, 2, 2, 1, 3, 0])
    loss.forward(logits, labels)
    dlogits = loss.backward().copy()
    for index in np.ndindex(logits.shape):
        values = []
        for sign in (1, -1):
            moved = logits.copy()
            moved[index] += sign * STEP
            values.append(loss.forward(moved, labels))
        assert abs(dlogits[index] - (values[0] - values[1]) / (2 * STEP)) < 1e-9
