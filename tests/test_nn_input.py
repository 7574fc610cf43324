"""Bad input of layers gets one clear error, and changes nothing."""

import numpy as np
import pytest

from numbabn import nn

IMAGES = np.ones((2, 3, 5, 5), np.float32)

RELU = nn.ReLU()

MAKE = [
    (lambda: nn.Conv2d(0, 1, 1), ValueError, "in_channels is 0; expected at least 1"),
    (lambda: nn.Conv2d(1, 2.0, 1), TypeError, "out_channels is 2.0; expected an integer"),
    (lambda: nn.Conv2d(1, 1, (3, 3, 3)), ValueError, "kernel_size has 3 values"),
    (lambda: nn.Conv2d(1, 1, 3, stride=0), ValueError, "stride is 0"),
    (lambda: nn.Conv2d(1, 1, 3, padding=-1), ValueError, "padding is -1; expected at least 0"),
    (lambda: nn.Conv2d(1, 1, 3, dtype=np.float16), TypeError, "dtype is float16; expected float32 or float64"),
    (lambda: nn.Linear(True, 1), TypeError, "in_features is True"),
    (lambda: nn.Linear(1, -1), ValueError, "out_features is -1"),
    (lambda: nn.BatchNorm(0), ValueError, "num_features is 0"),
    (lambda: nn.BatchNorm(3, eps=-1), ValueError, "eps is -1"),
    (lambda: nn.BatchNorm(3, momentum=1.1), ValueError, "momentum is 1.1"),
    (lambda: nn.BatchNorm(3, axis=1.0), TypeError, "axis is 1.0"),
    (lambda: nn.BatchNorm(3, dtype=int), TypeError, "dtype is int64"),
    (lambda: nn.MaxPool2d(0), ValueError, "kernel_size is 0"),
    (lambda: nn.MaxPool2d(3, padding=2), ValueError, "padding is .*; expected at most half of kernel_size"),
    (lambda: nn.Dropout(1.0), ValueError, "p is 1.0; expected a number of at least 0 and less than 1"),
    (lambda: nn.Dropout(-0.1), ValueError, "p is -0.1"),
    (lambda: nn.Dropout(0.5, seed=-1), ValueError, "seed is -1"),
    (lambda: nn.Sequential(nn.ReLU(), np.tanh), TypeError, "layer 1 is ufunc; expected a Module"),
    (lambda: nn.Sequential(*[nn.ReLU()] * 2), ValueError, "layer 1 was given before, as 0"),
    (lambda: nn.Sequential(RELU, nn.Sequential(nn.Flatten(), RELU)), ValueError, "layer 1.1 was given before, as 0"),
    (lambda: nn.Residual(nn.Sequential(RELU), RELU), ValueError, "layer shortcut was given before, as body.0"),
    (lambda: nn.Residual(None), TypeError, "body is NoneType"),
    (lambda: nn.Residual(nn.ReLU(), np.tanh), TypeError, "shortcut is ufunc"),
    (lambda: nn.Residual(nn.ReLU(), activation="gelu"), ValueError, "activation is 'gelu'"),
    (lambda: nn.SmallCNN(norm="layer"), ValueError, "norm is 'layer'; expected 'batch' or None"),
    (lambda: nn.SmallCNN(width=0), ValueError, "width is 0"),
    (lambda: nn.he_normal((2, 2), dtype=int), TypeError, "dtype is int64"),
]


@pytest.mark.parametrize(("make", "error", "message"), MAKE)
def test_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


FORWARD = [
    (nn.Conv2d(3, 2, 3), IMAGES[0], ValueError, r"x has shape \(3, 5, 5\); expected \(N, 3, H, W\)"),
    (nn.Conv2d(4, 2, 3), IMAGES, ValueError, r"expected \(N, 4, H, W\)"),
    (nn.Conv2d(3, 2, 3), IMAGES.astype(np.float64), TypeError, "x has dtype float64; expected float32"),
    (nn.Conv2d(3, 2, 3), IMAGES.astype(int), TypeError, "x has dtype int64"),
    (nn.Conv2d(3, 2, 7, padding=(1, 0)), IMAGES[:, :, :4], ValueError, "images of 4x5; expected at least 5x7"),
    (nn.Conv2d(3, 2, 1, padding=1), IMAGES[:, :, :0], ValueError, r"x has shape \(2, 3, 0, 5\)"),
    (nn.Linear(4, 2), np.ones((2, 3), np.float32), ValueError, r"expected \(N, 4\)"),
    (nn.Linear(3, 2), np.ones((2, 3)), TypeError, "x has dtype float64"),
    (nn.Linear(3, 2), IMAGES, ValueError, r"expected \(N, 3\)"),
    (nn.BatchNorm(4), IMAGES, ValueError, r"x has shape \(2, 3, 5, 5\); expected 4 channels on axis 1"),
    (nn.BatchNorm(3, axis=4), IMAGES, ValueError, "expected 3 channels on axis 4"),
    (nn.BatchNorm(3), IMAGES[:1, :, :1, :1], ValueError, "one value per channel"),
    (nn.BatchNorm(3), IMAGES.astype(np.int32), TypeError, "x has dtype int32"),
    (nn.ReLU(), IMAGES.astype(np.float16), TypeError, "x has dtype float16"),
    (nn.MaxPool2d(2), IMAGES[0], ValueError, r"expected \(N, C, H, W\)"),
    (nn.MaxPool2d(6), IMAGES, ValueError, "images of 5x5; expected at least 6x6"),
    (nn.GlobalAvgPool2d(), IMAGES[:, :, :, :0], ValueError, r"x has shape \(2, 3, 5, 0\)"),
    (nn.Flatten(), np.float32(3), ValueError, "x has no axes"),
    (nn.Dropout(0.5), IMAGES.astype(int), TypeError, "x has dtype int64"),
    (nn.SmallCNN(3), IMAGES[:, :, :3], ValueError, "images of 3x5; expected at least 4x4"),
    (nn.Residual(nn.MaxPool2d(2)), IMAGES, ValueError, r"body gives shape \(2, 3, 2, 2\), the shortcut"),
    (
        nn.Residual(nn.Conv2d(3, 2, 1)),
        IMAGES,
        ValueError,
        r"residual has shape \(2, 3, 5, 5\); expected \(2, 2, 5, 5\)",
    ),
    (nn.Residual(nn.Linear(3, 2)), IMAGES[:, :, 0, 0], ValueError, r"residual has shape \(2, 3\); expected \(2, 2\)"),
    (nn.Residual(nn.BatchNorm(3), nn.Conv2d(3, 2, 1)), IMAGES, ValueError, "residual has shape"),
]


@pytest.mark.parametrize(("layer", "x", "error", "message"), FORWARD)
def test_forward(layer, x, error, message):
    kept = layer.state_dict()
    with pytest.raises(error, match=message):
        layer.forward(x, training=True)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, kept[name])


@pytest.mark.parametrize(("layer", "x"), [(nn.Conv2d(3, 3, 1, rng=0), IMAGES), (nn.Linear(5, 5, rng=0), IMAGES[0, 0])])
def test_options_of_layers(layer, x):
    for options, error, message in (
        ({"activation": "gelu"}, ValueError, "activation is 'gelu'; expected None or 'relu'"),
        ({"residual": x[:1]}, ValueError, "residual has shape"),
        ({"residual": x.astype(np.float64)}, TypeError, "residual has dtype float64; expected float32"),
    ):
        with pytest.raises(error, match=message):
            layer.forward(x, training=True, **options)


def test_failed_forward_of_batch_norm_changes_nothing():
    norm = nn.BatchNorm(3)
    norm.forward(np.random.default_rng(0).standard_normal((4, 3)), training=True)
    kept = norm.state_dict()
    for options in ({"activation": "gelu"}, {"residual": np.ones((4, 2))}):
        with pytest.raises(ValueError, match="expected"):
            norm.forward(np.ones((4, 3)), training=True, **options)
    for name, value in norm.state_dict().items():
        np.testing.assert_array_equal(value, kept[name])


BACKWARD = {
    "Conv2d": nn.Conv2d(3, 2, 3),
    "Linear": nn.Sequential(nn.Flatten(), nn.Linear(75, 2)),
    "BatchNorm": nn.BatchNorm(3),
    "ReLU": nn.ReLU(),
    "MaxPool2d": nn.MaxPool2d(2),
    "GlobalAvgPool2d": nn.GlobalAvgPool2d(),
    "Flatten": nn.Flatten(),
    "Dropout": nn.Dropout(0.5),
    "Residual": nn.Residual(nn.ReLU()),
}


@pytest.mark.parametrize("layer", BACKWARD.values(), ids=BACKWARD)
def test_backward(layer):
    with pytest.raises(RuntimeError, match="backward was called before forward"):
        layer.backward(IMAGES)
    y = layer.forward(IMAGES, training=True)
    dy = np.ones(y.shape, y.dtype)
    with pytest.raises(ValueError, match="dy has shape"):
        layer.backward(dy[:1])
    with pytest.raises(TypeError, match="dy has dtype float64"):
        layer.backward(dy.astype(np.float64))
    for parameter in layer.named_parameters().values():
        assert parameter.grad is None
