"""Batch normalizations that have become part of the layer in front."""

import copy

import numpy as np
import pytest
from test_nn_gradients import normal
from test_nn_models import IMAGES, MODELS, NORMS, models, modules, norms, randomised, step

from numbabn import nn


def norms_in(model):
    return [name for name, module in modules(model) if isinstance(module, nn.BatchNorm)]


def infer(model, x):
    return model.forward(x, training=False).copy()


@norms
@models
def test_a_folded_model_gives_what_the_model_gives(make, norm):
    """float64: to a few roundings. float32: no further from float64 than the model, but for a factor."""
    options = {**norm, "dropout": 0.3}
    wide, narrow = randomised(make(**options, dtype=np.float64)), make(**options)
    narrow.load_state_dict({k: v.astype(narrow.state_dict()[k].dtype) for k, v in wide.state_dict().items()})
    wide.load_state_dict({k: v.astype(wide.state_dict()[k].dtype) for k, v in narrow.state_dict().items()})
    y = infer(wide, IMAGES)
    size = np.abs(y).max()
    assert np.abs(infer(nn.fold(wide), IMAGES) - y).max() <= 100 * np.finfo(np.float64).eps * size
    x = IMAGES.astype(np.float32).astype(np.float64)
    y = infer(wide, x)
    own, folded = (np.abs(infer(m, x.astype(np.float32)) - y).max() for m in (narrow, nn.fold(narrow)))
    assert folded <= 8 * own + 8 * np.finfo(np.float32).eps * size


@models
def test_nothing_is_left_of_norms_that_follow_a_layer(make):
    folded = nn.fold(make(norm="batch", placement="before"))
    assert norms_in(folded) == []
    plain = make(norm=None)
    assert folded.count_parameters() == plain.count_parameters()
    assert type(folded) is type(plain)


@models
def test_norms_behind_an_activation_stay(make):
    model = make(norm="batch", placement="after")
    folded = nn.fold(model)
    assert norms_in(folded) == norms_in(model) != []
    np.testing.assert_array_equal(infer(folded, IMAGES.astype(np.float32)), infer(model, IMAGES.astype(np.float32)))


@norms
@models
def test_the_model_is_left_alone(make, norm):
    model, x, labels = make(**norm, dropout=0.2), IMAGES.astype(np.float32), np.arange(6) % 3
    step(model, x, labels)
    kept, text = model.state_dict(), repr(model)
    folded = nn.fold(model)
    for array in folded._state().values():
        array[...] = 7
    assert repr(model) == text
    assert list(model.state_dict()) == list(kept)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, kept[name])


def test_names_of_what_is_left():
    folded = nn.fold(nn.SmallCNN())
    assert list(folded.children()) == ["0", "2", "3", "5", "6", "7", "9", "10", "11"]
    assert list(nn.fold(nn.ResNet(8)).children()["stage2"].layers[0].body.children()) == ["conv1", "relu1", "conv2"]
    folded.load_state_dict(nn.fold(nn.SmallCNN(seed=1)).state_dict())


def layer_of(kind, dtype, bias, seed=0):
    if kind == "Conv2d":
        return nn.Conv2d(5, 6, 3, stride=2, padding=1, bias=bias, rng=seed, dtype=dtype), normal(4, 5, 7, 6)
    return nn.Linear(5, 6, bias=bias, rng=seed, dtype=dtype), normal(9, 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("norm_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "axis"), [("Conv2d", 1), ("Conv2d", -3), ("Linear", 1), ("Linear", -1)])
@pytest.mark.parametrize("mean", [0, 1e4])
def test_one_layer_by_the_formula(kind, axis, bias, affine, norm_dtype, dtype, mean):
    layer, x = layer_of(kind, dtype, bias)
    norm = nn.BatchNorm(6, axis=axis, eps=1e-3, affine=affine, dtype=norm_dtype)
    model = randomised(nn.Sequential(layer, norm))
    norm.running_mean += norm_dtype(mean)
    folded = nn.fold(model)
    assert norms_in(folded) == []
    wide = [a.astype(np.float64) for a in (norm.running_mean, norm.running_var, layer.weight.value)]
    scale = (norm.gamma.value.astype(np.float64) if affine else 1) / np.sqrt(wide[1] + 1e-3)
    shift = (layer.bias.value if bias else 0) - wide[0]
    weight = wide[2] * scale.reshape(6, *(1,) * (wide[2].ndim - 1))
    bias = shift * scale + (norm.beta.value if affine else 0)
    half = 0.5 * np.finfo(dtype).eps  # one rounding; the float64 formula may have taken a few of its own
    limit = half + 8 * np.finfo(np.float64).eps
    result = folded.layers[0]
    assert (result.weight.value.dtype, result.bias.value.dtype, result.bias.kind) == (dtype, dtype, "bias")
    np.testing.assert_allclose(result.weight.value, weight, rtol=limit)
    np.testing.assert_allclose(result.bias.value, bias, rtol=limit, atol=8 * np.finfo(float).eps * abs(mean))
    x = x.astype(dtype)
    sums = nn.Sequential(layer).forward(np.abs(x), training=False).max() + mean
    limit = 64 * np.finfo(dtype).eps * sums * scale.max()
    np.testing.assert_allclose(infer(folded, x), infer(model, x), rtol=0, atol=limit)


def chain(*layers):
    return randomised(nn.Sequential(*layers), seed=3)


def conv(seed=0, **options):
    return nn.Conv2d(4, 4, 3, padding=1, rng=seed, dtype=np.float64, **options)


def norm(**options):
    return nn.BatchNorm(4, dtype=np.float64, **options)


def tied():
    first, second = conv(), conv(1)
    second.weight = first.weight
    return chain(first, norm(), second, norm())


class Both(nn.Module):
    """A container that lets a layer occur twice, as those of the package do not."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x, *, training):
        return self.second.forward(self.first.forward(x, training=training), training=training)

    def backward(self, dy, *, need_dx=True):
        raise NotImplementedError


def shared_layer():
    once = conv()
    return Both(nn.Sequential(once, norm()), nn.Sequential(once))


def shared_norm():
    once = norm()
    return Both(nn.Sequential(conv(), once), nn.Sequential(conv(1), once))


class Halved(nn.Sequential):
    def forward(self, x, *, training):
        return super().forward(x, training=training) / 2


class Doubled(nn.Conv2d):
    """A subclass may compute anything."""

    def forward(self, x, *, training):
        return 2 * super().forward(x, training=training)


class Loud(nn.BatchNorm):
    """A subclass of the other one."""

    def forward(self, x, *, training, **options):
        return 2 * super().forward(x, training=training, **options)


CHAINS = {
    "one after another": (lambda: chain(conv(), norm(), norm(), nn.ReLU(), conv(1), norm()), []),
    "across Sequentials": (
        lambda: chain(nn.Sequential(nn.Sequential(conv()), nn.Sequential()), nn.Sequential(norm(), nn.ReLU(), norm())),
        ["1.2"],
    ),
    "first": (lambda: chain(norm(), conv(), norm()), ["0"]),
    "behind dropout": (lambda: chain(conv(), nn.Dropout(0.5), norm()), ["2"]),
    "behind a block": (lambda: chain(nn.Residual(conv()), norm()), ["1"]),
    "shortcut takes what the norm takes": (
        lambda: chain(conv(), nn.Residual(nn.Sequential(norm(), conv(1)))),
        ["1.body.0"],
    ),
    "in a shortcut": (lambda: chain(nn.Residual(conv(), nn.Sequential(conv(1), norm()), None)), []),
    "no running statistics": (lambda: chain(conv(), norm(track_running_stats=False)), ["1"]),
    "another axis": (lambda: chain(conv(), norm(axis=2)), ["1"]),
    "tied weights": (tied, ["1", "3"]),
    "a layer with two places": (shared_layer, ["first.1"]),
    "a norm with two places": (shared_norm, ["first.1", "second.1"]),
    "subclass of the norm": (lambda: chain(conv(), Loud(4, dtype=np.float64)), ["1"]),
    "in a subclass of Sequential": (lambda: Halved(conv(), norm()), ["1"]),
    "behind a subclass of Sequential": (lambda: chain(Halved(conv()), norm()), ["1"]),
    "subclass": (lambda: chain(Doubled(4, 4, 1, dtype=np.float64), norm()), ["1"]),
}


@pytest.mark.parametrize(("make", "left"), CHAINS.values(), ids=CHAINS)
def test_what_can_be_folded(make, left):
    model = make()
    folded = nn.fold(model)
    assert norms_in(folded) == left
    x = normal(3, 4, 4, 4)
    y = infer(model, x)
    np.testing.assert_allclose(infer(folded, x), y, rtol=0, atol=1e-13 * np.abs(y).max())


@pytest.mark.parametrize(("variance", "eps"), [(0, 0), (-1, 1e-5), (np.nan, 1e-5), (1e-300, 0)])
def test_values_that_would_be_infinite_or_nan_are_not_folded(variance, eps):
    model = nn.Sequential(nn.Linear(3, 4, rng=0), nn.BatchNorm(4, eps=eps, dtype=np.float64))
    model.layers[1].running_var[2] = variance
    kept = model.state_dict()
    folded = nn.fold(model)
    assert norms_in(folded) == ["1"]
    for name, value in folded.state_dict().items():
        np.testing.assert_array_equal(value, kept[name])


def test_a_single_layer_or_norm_is_copied():
    for layer in (nn.Linear(3, 4, rng=0), nn.BatchNorm(3), nn.Residual(nn.BatchNorm(3))):
        folded = nn.fold(layer)
        assert folded is not layer
        assert repr(folded) == repr(layer)
    with pytest.raises(TypeError, match="model is list; expected a Module"):
        nn.fold([nn.ReLU()])


def test_a_folded_model_can_be_trained_further():
    model = nn.fold(randomised(MODELS["ResNet"](**NORMS["norm before"])))
    optimizer = nn.SGD(model, 0.01)
    x, labels = IMAGES.astype(np.float32), np.arange(6) % 3
    first = step(model, x, labels)
    for _ in range(10):
        optimizer.step()
        last = step(model, x, labels)
    assert last < first


@norms
def test_copies_leave_the_memory_of_calls_behind(norm):
    model = nn.ResNet(8, 2, 3, width=2, **norm, dropout=0.2)
    x, labels = IMAGES.astype(np.float32), np.arange(6) % 3
    step(model, x, labels)
    other = copy.deepcopy(model)
    for _, module in modules(other):
        assert module._buffers._kept == {}
        with pytest.raises(RuntimeError, match="before forward"):
            module._recall()
        assert getattr(module, "dresidual", None) is None
    for _ in range(2):
        assert step(other, x, labels) == step(model, x, labels)
    gradients = (m.named_parameters().items() for m in (model, other))
    for (name, mine), (_, its) in zip(*gradients, strict=True):
        np.testing.assert_array_equal(mine.grad, its.grad, err_msg=name)
        assert not np.shares_memory(mine.value, its.value)
        assert mine.value.strides == its.value.strides
