"""The models: what they compute, their gradients, names, parameters and state."""

import itertools
from functools import partial

import numpy as np
import pytest
from test_nn_gradients import NETWORK_STEP, check_gradients, normal

from numbabn import nn
from numbabn.nn import memory

MODELS = {
    "SmallCNN": lambda **options: nn.SmallCNN(2, 3, width=3, **options),
    "MLP": lambda **options: nn.MLP(2 * 4 * 5, 3, hidden=(7, 6), **options),
    "ResNet": lambda **options: nn.ResNet(8, 2, 3, width=2, **options),
    "plain ResNet": lambda **options: nn.ResNet(8, 2, 3, width=2, shortcut=False, **options),
}
NORMS = {
    "norm before": {"norm": "batch", "placement": "before"},
    "norm after": {"norm": "batch", "placement": "after"},
    "no norm": {"norm": None},
}
models = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
norms = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
IMAGES = normal(6, 2, 4, 5)


def randomised(model, seed=0):
    """The model, with no parameter or running statistic left at a value like 0 or 1."""
    rng = np.random.default_rng(seed)
    for name, array in model._state().items():
        if name.endswith(("running_var", "gamma")):
            array[...] = rng.uniform(0.5, 2, array.shape)
        elif array.dtype.kind == "f" and not name.endswith("weight"):
            array[...] = rng.normal(0, 0.5, array.shape)
    return model


def step(model, x, labels):
    loss = nn.CrossEntropy()
    value = loss.forward(model.forward(x, training=True), labels)
    model.backward(loss.backward())
    return value


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@norms
@models
def test_gradients(make, norm, dropout, training):
    check_gradients(
        randomised(make(**norm, dropout=dropout, dtype=np.float64)), IMAGES, training=training, step=NETWORK_STEP
    )


@norms
def test_gradients_of_stages_with_several_blocks(norm):
    model = nn.ResNet(14, 2, 3, width=1, **norm, dtype=np.float64)
    check_gradients(randomised(model), normal(4, 2, 5, 4), step=NETWORK_STEP)


def test_gradients_of_zero_gamma():
    model = nn.ResNet(8, 2, 3, width=2, placement="after", zero_init_last_gamma=True, dtype=np.float64)
    check_gradients(model, IMAGES, step=NETWORK_STEP)


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (3, 2, 4, 4), (2, 3, 1, 1), (0, 3, 4, 4)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_subsample(shape, stride):
    layer = nn.Subsample(shape[1], 4, stride)
    x = normal(*shape)
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(y[:, : shape[1]], x[:, :, ::stride, ::stride])
    assert not y[:, shape[1] :].any()
    conv = nn.Conv2d(shape[1], 4, 3, stride=stride, padding=1, dtype=np.float64)
    like = conv.forward(x, training=True)
    assert (y.shape, y.strides) == (like.shape, like.strides)
    check_gradients(layer, x)
    check_gradients(layer, np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2))


def test_parameter_counts_are_the_papers():
    """0.27, 0.46, 0.66, 0.85 and 1.7 million, He et al. 2015, table 6."""
    published = {20: 0.27e6, 32: 0.46e6, 44: 0.66e6, 56: 0.85e6, 110: 1.7e6}
    for depth, count in published.items():
        assert nn.ResNet(depth).count_parameters() == pytest.approx(count, abs=0.005e6 if depth < 100 else 0.05e6)


def convolutions(depth, width=16):
    """Channels and filters of each 3x3 convolution, by the paper's description."""
    n = (depth - 2) // 6
    filters = [width, *(2 * n) * [width], *(2 * n) * [2 * width], *(2 * n) * [4 * width]]
    return list(zip([3, *filters], filters, strict=False))


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize(("norm", "each"), [("norm before", 2), ("norm after", 3), ("no norm", 1)])
@pytest.mark.parametrize("depth", [8, 20, 32])
def test_parameters_counted_by_hand(depth, norm, each, shortcut):
    model = nn.ResNet(depth, **NORMS[norm], shortcut=shortcut)
    convs = convolutions(depth)
    assert len(convs) + 1 == depth  # weighted layers
    assert model.count_parameters() == sum(9 * c * f + each * f for c, f in convs) + 64 * 10 + 10


def test_a_parameter_with_two_places_counts_once():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert nn.Sequential(first, second).count_parameters() == 16 + 4 + 4
    assert nn.MLP(10, 3, hidden=(5,)).count_parameters() == 50 + 2 * 5 + 15 + 3
    assert nn.MLP(10, 3, hidden=()).count_parameters() == 33


def by_hand(model, x, norm):
    """A ResNet's output in training, block by block, by the formulas of its docstring and single layers."""

    def run(layer, x):
        return layer.forward(x, training=True).copy()

    def relu(x):
        return np.maximum(x, 0)

    def block(parts, x, number, inner=True):
        x = run(parts[f"conv{number}"], x)
        if norm["norm"] is None:
            return relu(x) if inner else x
        if norm["placement"] == "after":
            return run(parts[f"norm{number}"], relu(x))
        x = run(parts[f"norm{number}"], x)
        return relu(x) if inner else x

    children = model.children()
    x = block({f"{name}0": part for name, part in children["stem"].children().items()}, x, 0)
    for stage in ("stage1", "stage2", "stage3"):
        for residual in children[stage].layers:
            parts, short = residual.body.children(), x
            if stage != "stage1" and residual is children[stage].layers[0]:
                short = np.zeros((len(x), 2 * x.shape[1], -(-x.shape[2] // 2), -(-x.shape[3] // 2)))
                short[:, : x.shape[1]] = x[:, :, ::2, ::2]
            x = block(parts, block(parts, x, 1), 2, inner=False) + short
            x = x if norm.get("placement") == "after" else relu(x)
    return run(children["linear"], x.mean(axis=(2, 3)))


@norms
def test_resnet_is_what_its_docstring_says(norm):
    model = randomised(nn.ResNet(14, 3, 4, width=3, **norm, dtype=np.float64))
    x = normal(5, 3, 9, 8)
    y = model.forward(x, training=True).copy()
    np.testing.assert_allclose(y, by_hand(model, x, norm), rtol=1e-10, atol=1e-10)


@norms
@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
def test_blocks_do_not_copy_activations(norm, order, monkeypatch):
    model = nn.ResNet(8, **norm)
    x = normal(3, 3, 8, 8).astype(np.float32)
    x = x if order == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    copies = []
    monkeypatch.setattr(memory, "_contiguous", partial(noting_copies, copies, memory._contiguous))
    step(model, x, np.arange(3))
    assert copies == [x.shape[:1] + x.shape[2:] + x.shape[1:2]] * (order == "NCHW")


def noting_copies(copies, contiguous, x, take):
    result = contiguous(x, take)
    if result is not x:
        copies.append(x.shape)
    return result


def modules(module, name=""):
    yield name, module
    for child, inside in module.children().items():
        yield from modules(inside, f"{name}.{child}".strip("."))


@pytest.mark.parametrize("placement", ["before", "after"])
def test_zero_gamma_makes_each_block_its_shortcut(placement):
    model = nn.ResNet(14, 3, 4, width=2, placement=placement, zero_init_last_gamma=True)
    gammas = [p.value for name, p in model.named_parameters().items() if name.endswith("norm2.gamma")]
    assert len(gammas) == 6
    assert not any(map(np.any, gammas))
    for number in (1, 2, 3):
        for block in model.children()[f"stage{number}"].layers:
            x = normal(4, block.body.layers[0].weight.value.shape[1], 6, 6).astype(np.float32)
            short = x if block.shortcut is None else block.shortcut.forward(x, training=True)
            expected = np.maximum(short, 0) if placement == "before" else short
            np.testing.assert_array_equal(block.forward(x, training=True), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@norms
@models
def test_seed_decides_everything(make, norm, dtype):
    x, labels = IMAGES.astype(dtype), np.arange(6) % 3
    found = []
    for seed in (3, 3, 4):
        model = make(**norm, dropout=0.4, seed=seed, dtype=dtype)
        optimizer = nn.SGD(model, 0.1)
        values = []
        for _ in range(3):
            values.append(step(model, x, labels))
            optimizer.step()
        found.append((values, model.state_dict()))
    assert found[0][0] == found[1][0]
    assert found[0][0] != found[2][0]
    for name, value in found[0][1].items():
        assert value.dtype == (np.int64 if value.ndim == 0 else dtype)
        np.testing.assert_array_equal(value, found[1][1][name])


@models
def test_weights_do_not_depend_on_norm_and_dropout(make):
    weights = []
    for norm, dropout in itertools.product(NORMS.values(), (0.0, 0.5)):
        parameters = make(**norm, dropout=dropout, seed=5).named_parameters().values()
        weights.append([p.value for p in parameters if p.kind == "weight"])
    for others in weights[1:]:
        for first, other in zip(weights[0], others, strict=True):
            np.testing.assert_array_equal(first, other)


def test_plain_networks_have_the_names_and_weights_of_residual_ones():
    for norm in NORMS.values():
        plain, residual = (nn.ResNet(20, **norm, shortcut=shortcut).state_dict() for shortcut in (False, True))
        assert list(plain) == list(residual)
        for name, value in plain.items():
            np.testing.assert_array_equal(value, residual[name])


@norms
@models
def test_state_goes_round(make, norm):
    model, other = make(**norm, dropout=0.2), randomised(make(**norm, dropout=0.2), seed=1)
    x, labels = IMAGES.astype(np.float32), np.arange(6) % 3
    step(model, x, labels)
    other.load_state_dict(model.state_dict())
    assert step(other, x, labels) == step(model, x, labels)
    np.testing.assert_array_equal(other.forward(x, training=False), model.forward(x, training=False))


def test_names():
    names = list(nn.ResNet(8, placement="after", dropout=0.1).state_dict())
    norm = ["gamma", "beta", "running_mean", "running_var", "num_batches_tracked"]
    body = [
        f"{part}{number}.{name}"
        for number in (1, 2)
        for part, own in (("conv", ["weight", "bias"]), ("norm", norm))
        for name in own
    ]
    expected = [f"stem.conv.{name}" for name in ("weight", "bias")] + [f"stem.norm.{name}" for name in norm]
    expected += [f"stage{stage}.0.body.{name}" for stage in (1, 2, 3) for name in body]
    expected += [f"stage{stage}.0.body.dropout1.calls" for stage in (1, 2, 3)] + ["linear.weight", "linear.bias"]
    assert sorted(names) == sorted(expected)
    assert list(nn.SmallCNN().named_parameters()) == [
        *("0.weight", "1.gamma", "1.beta", "3.weight", "4.gamma", "4.beta", "7.weight", "8.gamma", "8.beta"),
        *("11.weight", "11.bias"),
    ]


@norms
@models
def test_inference_is_deterministic_and_leaves_the_state_alone(make, norm):
    model = randomised(make(**norm, dropout=0.5))
    x = IMAGES.astype(np.float32)
    kept = model.state_dict()
    y = model.forward(x, training=False).copy()
    np.testing.assert_array_equal(model.forward(x, training=False), y)
    np.testing.assert_allclose(model.forward(x[:2], training=False), y[:2], rtol=1e-5, atol=1e-6)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, kept[name])


@models
def test_dropout_of_each_layer_is_its_own(make):
    layers = [module for _, module in modules(make(dropout=0.5, seed=2)) if isinstance(module, nn.Dropout)]
    assert len(layers) >= 2
    x = np.ones(64)
    masks = {tuple(layer.forward(x, training=True)) for layer in layers}
    assert len(masks) == len(layers)


@norms
def test_dropout_stands_behind_activation_and_normalization(norm):
    """Never right before a normalization, which would measure a variance that inference does not have."""
    for make in MODELS.values():
        for _, module in modules(make(**norm, dropout=0.5)):
            kinds = [type(layer).__name__ for layer in getattr(module, "layers", ())]
            for index in (i for i, kind in enumerate(kinds) if kind == "Dropout"):
                assert set(kinds[index - (2 if norm["norm"] else 1) : index]) <= {"BatchNorm", "ReLU"}
                assert (kinds + ["end"])[index + 1] != "BatchNorm"


def test_dropout_before_batch_norm_can_be_built_by_hand():
    """X. Li et al., 2018: the running variance counts dropout's noise, which inference does not have."""
    norm = nn.BatchNorm(30, momentum=None)
    net = nn.Sequential(nn.Linear(20, 30, rng=0), nn.ReLU(), nn.Dropout(0.5, seed=1), norm)
    x = normal(2000, 20).astype(np.float32)
    np.testing.assert_allclose(net.forward(x, training=True).var(axis=0), 1, rtol=1e-3)
    # A half-normal value has variance 1/2 - 1/(2 pi) = 0.34; half of the time dropped and else doubled, 1 - 1/(2 pi).
    np.testing.assert_allclose(net.forward(x, training=False).var(axis=0), 0.34 / 0.84, rtol=0.3)


@norms
def test_resnet_learns_a_handful_of_images_by_heart(norm):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((8, 3, 8, 8), dtype=np.float32), np.arange(8) % 4
    model = nn.ResNet(8, 3, 4, width=8, **norm)
    optimizer = nn.AdamW(model, 0.01)
    for _ in range(40):
        value = step(model, x, labels)
        optimizer.step()
    assert value < 0.02


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.ResNet(10), ValueError, r"depth is 10; expected 6n \+ 2, such as 8, 14, 20"),
        (lambda: nn.ResNet(2), ValueError, "depth is 2; expected at least 8"),
        (lambda: nn.ResNet(20.0), TypeError, "depth is 20.0; expected an integer"),
        (lambda: nn.ResNet(8, norm="group"), ValueError, "norm is 'group'; expected 'batch' or None"),
        (lambda: nn.ResNet(8, placement="behind"), ValueError, "placement is 'behind'; expected 'before' or 'after'"),
        (lambda: nn.ResNet(8, norm=None, placement="behind"), ValueError, "placement is 'behind'"),
        (lambda: nn.ResNet(8, dropout=1), ValueError, "dropout is 1; expected a number of at least 0 and less than 1"),
        (lambda: nn.ResNet(8, dropout=-0.1), ValueError, "dropout is -0.1"),
        (lambda: nn.ResNet(8, 0), ValueError, "in_channels is 0"),
        (lambda: nn.ResNet(8, width=0), ValueError, "width is 0"),
        (lambda: nn.ResNet(8, seed=-1), ValueError, "seed is -1"),
        (lambda: nn.ResNet(8, dtype=np.float16), TypeError, "dtype is float16"),
        (
            lambda: nn.ResNet(8, shortcut=False, zero_init_last_gamma=True),
            ValueError,
            "zero_init_last_gamma is True and shortcut is False; expected norm='batch' and shortcut=True",
        ),
        (lambda: nn.ResNet(8, norm=None, zero_init_last_gamma=True), ValueError, "and norm is None"),
        (lambda: nn.MLP(0, 2), ValueError, "in_features is 0"),
        (lambda: nn.MLP(4, 2, hidden=3), TypeError, "hidden is 3; expected a tuple of integers"),
        (lambda: nn.MLP(4, 2, hidden=(3, 0)), ValueError, "hidden is 0"),
        (lambda: nn.MLP(4, 2, placement=None), ValueError, "placement is None"),
        (lambda: nn.SmallCNN(placement=["before"]), ValueError, r"placement is \['before'\]"),
        (lambda: nn.Subsample(4, 3, 2), ValueError, "out_channels is 3; expected at least 4"),
        (lambda: nn.Subsample(4, 4, 0), ValueError, "stride is 0"),
        (lambda: nn.Sequential(nn.ReLU(), **{"0": nn.ReLU()}), ValueError, "a layer is named '0'"),
        (
            lambda: nn.Sequential(**{"a.b": nn.ReLU()}),
            ValueError,
            "a layer is named 'a.b'; expected a name without dots",
        ),
        (lambda: nn.Sequential(relu=max), TypeError, "layer relu is builtin_function_or_method; expected a Module"),
    ],
)
def test_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (nn.ResNet(8), (2, 3, 3, 8), "images of 3x8; expected at least 4x4"),
        (nn.ResNet(8), (2, 1, 8, 8), r"x has shape \(2, 1, 8, 8\); expected \(N, 3, H, W\)"),
        (nn.ResNet(8), (3, 8, 8), r"expected \(N, 3, H, W\)"),
        (nn.MLP(12, 2), (5, 3, 3), r"x has shape \(5, 3, 3\); expected 12 values for each of 5 samples"),
        (nn.MLP(12, 2), (), "x has no axes"),
        (nn.Subsample(3, 3, 1), (2, 4, 8, 8), r"x has shape \(2, 4, 8, 8\); expected \(N, 3, H, W\)"),
    ],
)
def test_images_that_do_not_fit(model, shape, message):
    kept = model.state_dict()
    with pytest.raises(ValueError, match=message):
        model.forward(np.ones(shape, np.float32), training=True)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, kept[name])


def test_repr():
    lines = repr(nn.ResNet(8, dropout=0.1)).splitlines()
    assert lines[:4] == [
        "ResNet(",
        "  stem: Sequential(",
        "    conv: Conv2d(weight (16, 3, 3, 3), stride=(1, 1), padding=(1, 1))",
        "    norm: BatchNorm(gamma (16,), beta (16,))",
    ]
    assert "        dropout1: Dropout(p=0.1)" in lines
    assert "      shortcut: Subsample(in_channels=16, out_channels=32, stride=2)))" in lines
    assert lines[-1] == "  linear: Linear(weight (10, 64), bias (10,)))"
