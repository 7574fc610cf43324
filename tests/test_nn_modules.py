"""Sequential, Residual, what they fuse, and the state of modules."""

from functools import partial

import numpy as np
import pytest

from numbabn import nn


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def layers(seed=0):
    return [
        nn.Conv2d(3, 4, 3, padding=1, bias=False, rng=seed, dtype=np.float64),
        nn.BatchNorm(4, dtype=np.float64),
        nn.ReLU(),
        nn.Conv2d(4, 3, 1, rng=seed + 1, dtype=np.float64),
        nn.BatchNorm(3, dtype=np.float64),
    ]


def gradients(modules):
    return [p.grad for module in modules for p in module.named_parameters().values()]


@pytest.mark.parametrize("training", [True, False])
def test_fused_layers_give_what_single_ones_give(training):
    fused, single = layers(), layers()
    net = nn.Sequential(*fused, nn.ReLU())
    x, dy = normal(5, 3, 6, 7), normal(5, 3, 6, 7, seed=1)
    y, relu = x, nn.ReLU()
    for layer in [*single, relu]:
        y = layer.forward(y, training=training)
    np.testing.assert_allclose(net.forward(x, training=training), y, rtol=1e-12, atol=1e-12)
    dx = dy
    for layer in [relu, *single[::-1]]:
        dx = layer.backward(dx)
    np.testing.assert_allclose(net.backward(dy), dx, rtol=1e-11, atol=1e-12)
    for mine, other in zip(gradients(fused), gradients(single), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", None])
@pytest.mark.parametrize("shortcut", [True, False])
def test_fused_residual_gives_what_single_layers_give(shortcut, activation):
    fused, single = layers(), layers()
    x, dy = normal(5, 3, 6, 7), normal(5, 3, 6, 7, seed=1)
    mine, other = (nn.Conv2d(3, 3, 1, rng=9, dtype=np.float64) if shortcut else None for _ in range(2))
    block = nn.Residual(nn.Sequential(fused[0], nn.Sequential(*fused[1:])), mine, activation)
    body = x
    for layer in single:
        body = layer.forward(body, training=True)
    y = body + (other.forward(x, training=True) if shortcut else x)
    mask = y > 0 if activation else np.ones(y.shape, bool)
    np.testing.assert_allclose(block.forward(x, training=True), np.where(mask, y, 0), rtol=1e-11, atol=1e-12)
    dx = masked = np.where(mask, dy, 0)
    for layer in single[::-1]:
        dx = layer.backward(dx)
    dx = dx + (other.backward(masked) if shortcut else masked)
    np.testing.assert_allclose(block.backward(dy), dx, rtol=1e-11, atol=1e-12)
    for one, two in zip(gradients(fused), gradients(single), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-11, atol=1e-12)


def test_relu_and_sums_are_part_of_the_call_before(monkeypatch):
    def refuse(self, x, *, training):
        raise AssertionError("the ReLU was called by itself")

    monkeypatch.setattr(nn.ReLU, "forward", refuse)
    monkeypatch.setattr(nn.Residual, "_recall", refuse)
    x = normal(4, 3, 1, 1)
    for make, values in (
        (lambda: nn.BatchNorm(3), x),
        (lambda: nn.Conv2d(3, 3, 1, rng=0, dtype=np.float64), x),
        (lambda: nn.Linear(3, 3, rng=0, dtype=np.float64), x[..., 0, 0]),
    ):
        net = nn.Sequential(make(), nn.ReLU())
        assert net.forward(values, training=True).min() == 0
        block = nn.Residual(nn.Sequential(make()))
        assert block.forward(values, training=True).min() == 0
        block.backward(values)


FUSING = {
    "Conv2d": lambda: (nn.Conv2d(3, 3, 3, padding=1, rng=0, dtype=np.float64), normal(5, 3, 6, 7)),
    "Conv2d, pointwise": lambda: (nn.Conv2d(3, 3, 1, bias=False, rng=0, dtype=np.float64), normal(5, 3, 6, 7)),
    "Linear": lambda: (nn.Linear(6, 6, rng=0, dtype=np.float64), normal(90, 6)),
    "Linear without bias": lambda: (nn.Linear(6, 6, bias=False, rng=0, dtype=np.float64), normal(90, 6)),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("activation", ["relu", None])
@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("make", FUSING.values(), ids=FUSING)
def test_layers_add_and_rectify_as_arrays_do(make, add, activation, order):
    layer, x = make()
    if layer.bias is not None:
        layer.bias.value[...] = normal(len(layer.bias.value), seed=3)
    y = layer.forward(x, training=True).copy()
    residual = np.asarray(normal(*y.shape, seed=2), order=order) if add else None
    if add:
        residual[0, 0] = np.nan
        y += residual
    dy, mask = normal(*y.shape, seed=1), ~(y <= 0) if activation else np.ones(y.shape, bool)
    np.testing.assert_array_equal(
        layer.forward(x, training=True, activation=activation, residual=residual), np.where(mask, y, 0)
    )
    kept = dy.copy()
    dx = layer.backward(dy).copy()
    grads = [p.grad.copy() for p in layer.named_parameters().values()]
    if add:
        np.testing.assert_array_equal(layer.dresidual, np.where(mask, dy, 0))
    else:
        assert layer.dresidual is None
    np.testing.assert_array_equal(dy, kept)
    layer.forward(x, training=True)
    np.testing.assert_array_equal(layer.backward(np.where(mask, dy, 0)), dx)
    for parameter, grad in zip(layer.named_parameters().values(), grads, strict=True):
        np.testing.assert_array_equal(parameter.grad, grad)


class Shifted(nn.Conv2d):
    """A subclass that does not know of options: nothing is fused with it."""

    def forward(self, x, *, training):
        return super().forward(x, training=training) - 1


class Halved(nn.Sequential):
    """The same for a container."""

    def forward(self, x, *, training):
        return super().forward(x, training=training) / 2

    def backward(self, dy, *, need_dx=True):
        return super().backward(dy / 2, need_dx=need_dx)


def test_subclasses_are_called_as_they_are():
    x = normal(4, 3, 5, 5)
    plain = nn.Conv2d(3, 3, 1, rng=0, dtype=np.float64).forward(x, training=True).copy()
    shifted = nn.Sequential(Shifted(3, 3, 1, rng=0, dtype=np.float64), nn.ReLU())
    np.testing.assert_array_equal(shifted.forward(x, training=True), np.maximum(plain - 1, 0))
    block = nn.Residual(Halved(nn.Conv2d(3, 3, 1, rng=0, dtype=np.float64)))
    np.testing.assert_array_equal(block.forward(x, training=True), np.maximum(plain / 2 + x, 0))
    assert block.backward(x).shape == x.shape
    model = nn.Residual(nn.MLP(6, 6, hidden=(4,), dtype=np.float64))
    assert model.backward(model.forward(normal(5, 6), training=True)).shape == (5, 6)


def test_two_rectifiers_in_a_row():
    net = nn.Sequential(nn.BatchNorm(3), nn.ReLU(), nn.ReLU())
    x, dy = normal(6, 3), normal(6, 3, seed=1)
    y = net.forward(x, training=True)
    alone = nn.Sequential(nn.BatchNorm(3), nn.ReLU())
    np.testing.assert_array_equal(y, alone.forward(x, training=True))
    np.testing.assert_array_equal(net.backward(dy), alone.backward(dy))


def test_a_sequential_without_layers_passes_x_on_but_takes_no_options():
    empty, x = nn.Sequential(), normal(4, 3)
    assert empty.forward(x, training=True) is x
    assert empty.backward(x) is x
    with pytest.raises(TypeError, match="residual given to a Sequential without layers"):
        empty.forward(x, training=True, residual=x)
    block = nn.Residual(empty)
    np.testing.assert_array_equal(block.forward(x, training=True), np.maximum(2 * x, 0))


def test_read_only_input_is_as_good():
    block = nn.Residual(nn.Conv2d(3, 3, 1, rng=0, dtype=np.float64))
    x = normal(2, 3, 4, 4)
    y, dx = block.forward(x, training=True).copy(), block.backward(x).copy()
    x.flags.writeable = False
    np.testing.assert_array_equal(block.forward(x, training=True), y)
    np.testing.assert_array_equal(block.backward(x), dx)


@pytest.mark.parametrize("base", [nn.Module, nn.Optimizer])
def test_a_base_class_is_not_for_use(base):
    with pytest.raises(TypeError, match="abstract"):
        base()


def test_gradient_by_the_input_can_be_left_out(monkeypatch):
    from numbabn.nn import convolution, products

    calls = []
    for module in (convolution, products):
        counted = partial(lambda original, *args: calls.append(1) or original(*args), module.input_gradient)
        monkeypatch.setattr(module, "input_gradient", counted)
    x, dy = normal(4, 1, 8, 8).astype(np.float32), normal(4, 10, seed=1).astype(np.float32)
    model = nn.SmallCNN()
    model.forward(x, training=True)
    assert model.backward(dy) is None
    kept = {name: parameter.grad.copy() for name, parameter in model.named_parameters().items()}
    assert len(calls) == 3  # two convolutions and the linear layer, not the first convolution
    assert model.backward(dy, need_dx=True).shape == x.shape
    assert len(calls) == 7
    for name, parameter in model.named_parameters().items():
        np.testing.assert_array_equal(parameter.grad, kept[name])
    outer = nn.Sequential(nn.Conv2d(1, 1, 1, rng=0), nn.SmallCNN())
    outer.forward(x, training=True)
    assert outer.backward(dy).shape == x.shape
    block = nn.Residual(nn.Conv2d(1, 1, 1, rng=0), nn.Conv2d(1, 1, 1, rng=0))
    block.forward(x, training=True)
    assert block.backward(x, need_dx=False) is None


def test_names_and_kinds():
    block = nn.Residual(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm(2)), nn.Sequential(nn.Linear(2, 2)))
    model = nn.Sequential(block, nn.Dropout(0.5))
    kinds = {name: parameter.kind for name, parameter in model.named_parameters().items()}
    assert kinds == {
        "0.body.0.weight": "weight",
        "0.body.0.bias": "bias",
        "0.body.1.gamma": "norm",
        "0.body.1.beta": "norm",
        "0.shortcut.0.weight": "weight",
        "0.shortcut.0.bias": "bias",
    }
    buffers = {"0.body.1.running_mean", "0.body.1.running_var", "0.body.1.num_batches_tracked", "1.calls"}
    assert set(model.state_dict()) == set(kinds) | buffers


def test_repr_shows_shapes_and_what_is_inside():
    net = nn.Sequential(nn.Linear(3, 2), nn.Sequential(nn.BatchNorm(2), nn.ReLU()))
    lines = ["Sequential(", "  0: Linear(weight (2, 3), bias (2,))", "  1: Sequential("]
    assert repr(net).splitlines() == [*lines, "    0: BatchNorm(gamma (2,), beta (2,))", "    1: ReLU()))"]


def test_state_goes_round(tmp_path):
    model, other = nn.SmallCNN(seed=0), nn.SmallCNN(seed=1)
    model.forward(normal(8, 1, 6, 6).astype(np.float32), training=True)
    state = model.state_dict()
    for name, value in state.items():
        assert value.flags.c_contiguous, name
        assert not np.shares_memory(value, model.named_parameters().get(name, nn.Parameter(np.zeros(1), "bias")).value)
    np.savez(tmp_path / "state.npz", **state)
    places = {name: parameter.value.ctypes.data for name, parameter in other.named_parameters().items()}
    with np.load(tmp_path / "state.npz", allow_pickle=False) as loaded:
        other.load_state_dict(loaded)
    assert places == {name: parameter.value.ctypes.data for name, parameter in other.named_parameters().items()}
    x = normal(3, 1, 9, 5, seed=5).astype(np.float32)
    np.testing.assert_array_equal(other.forward(x, training=False), model.forward(x, training=False))


def spoil_missing(state):
    del state["3.bias"]


def spoil_unexpected(state):
    state["3.scale"] = np.zeros(1)


def spoil_shape(state):
    state["3.weight"] = state["3.weight"][:, :1]


def spoil_dtype(state):
    state["1.running_var"] = state["1.running_var"].astype(np.float32)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_missing, "3.bias is missing"),
        (spoil_unexpected, "3.scale is unexpected"),
        (spoil_shape, r"3.weight is float64 \(3, 1, 1, 1\), expected float64 \(3, 4, 1, 1\)"),
        (spoil_dtype, r"1.running_var is float32 \(4,\), expected float64 \(4,\)"),
    ],
)
def test_state_that_does_not_fit_changes_nothing(spoil, message):
    model = nn.Sequential(*layers())
    kept = model.state_dict()
    state = {name: value + 1 for name, value in kept.items()}
    spoil(state)
    with pytest.raises(ValueError, match=message):
        model.load_state_dict(state)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, kept[name])


def test_all_faults_of_a_state_are_told_at_once():
    model = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"bias is missing; scale is unexpected; weight is float64 \(1,\)"):
        model.load_state_dict({"weight": np.zeros(1), "scale": np.zeros(1)})


def test_seed_decides_the_weights():
    first, second, third = nn.SmallCNN(seed=1), nn.SmallCNN(seed=1), nn.SmallCNN(seed=2)
    plain = nn.SmallCNN(seed=1, norm=None)
    for name, parameter in first.named_parameters().items():
        np.testing.assert_array_equal(parameter.value, second.named_parameters()[name].value)
    assert np.any(first.layers[0].weight.value != third.layers[0].weight.value)
    np.testing.assert_array_equal(first.layers[0].weight.value, plain.layers[0].weight.value)
    np.testing.assert_array_equal(first.layers[-1].weight.value, plain.layers[-1].weight.value)


def test_he_normal():
    weight = nn.he_normal((200, 10, 3, 3), rng=0, dtype=np.float64)
    assert abs(weight.std() / np.sqrt(2 / 90) - 1) < 0.02  # 18,000 draws: standard deviation 0.005
    assert abs(weight.mean()) < 0.005
    np.testing.assert_array_equal(weight, nn.he_normal((200, 10, 3, 3), np.random.default_rng(0), np.float64))


def test_layers_by_name():
    net = nn.Sequential(nn.ReLU(), conv=nn.Linear(3, 2), relu=nn.ReLU())
    assert list(net.children()) == ["0", "conv", "relu"]
    assert net.layers == tuple(net.children().values())
    assert list(net.state_dict()) == ["conv.weight", "conv.bias"]
    assert repr(net).splitlines()[1:] == ["  0: ReLU()", "  conv: Linear(weight (2, 3), bias (2,))", "  relu: ReLU())"]
    with pytest.raises(ValueError, match="layer relu was given before"):
        nn.Sequential(net.layers[0], relu=net.layers[0])


@pytest.mark.parametrize("activation", ["relu", None])
@pytest.mark.parametrize(
    "body",
    [
        lambda: nn.Sequential(),
        lambda: nn.Dropout(0.5),
        lambda: nn.BatchNorm(3, dtype=np.float64),
        lambda: nn.Conv2d(3, 3, 1, rng=0, dtype=np.float64),
        lambda: nn.Residual(nn.Sequential(), activation=None),
    ],
)
def test_the_sum_of_gradients_overwrites_nothing_of_the_callers(body, activation):
    block, x, dy = nn.Residual(body(), activation=activation), normal(5, 3, 4, 4), normal(5, 3, 4, 4, seed=1)
    block.forward(x, training=False)
    given = dy.copy(), x.copy()
    first = block.backward(dy).copy()
    np.testing.assert_array_equal(dy, given[0])
    np.testing.assert_array_equal(x, given[1])
    np.testing.assert_array_equal(block.backward(dy), first)


def test_the_sum_of_gradients_takes_no_memory_of_its_own():
    block = nn.Residual(nn.Sequential(nn.Conv2d(3, 3, 1, rng=0, dtype=np.float64), nn.BatchNorm(3, dtype=np.float64)))
    y, results = block.forward(normal(5, 3, 4, 4), training=True), []
    backward = block.body.backward
    block.body.backward = lambda *args, **options: results.append(backward(*args, **options)) or results[0]
    assert np.shares_memory(block.backward(y), results[0])
    assert block._buffers._kept == {}
    assert block.body.layers[-1].dresidual is None


class Branches(nn.Module):
    """Sums what its branches make of x; they are in a list, and in a dictionary."""

    def __init__(self):
        super().__init__()
        self.branches = [nn.Linear(3, 2, rng=0), nn.Linear(3, 2, rng=1)]
        self.heads = {"left": nn.Linear(3, 2, rng=2)}
        self.scales = (nn.Parameter(np.ones(2, np.float32), "norm"), "no parameter")

    def forward(self, x, *, training):
        return sum(branch.forward(x, training=training) for branch in (*self.branches, *self.heads.values()))

    def backward(self, dy, *, need_dx=True):
        return sum(branch.backward(dy, need_dx=True) for branch in (*self.branches, *self.heads.values()))


def test_modules_and_parameters_in_lists_and_dictionaries_are_found():
    model = Branches()
    names = ["branches.0", "branches.1", "heads.left"]
    assert list(model.children()) == names
    expected = {"scales.0", *(f"{name}.{part}" for name in names for part in ("weight", "bias"))}
    assert set(model.named_parameters()) == set(model.state_dict()) == expected
    assert model.count_parameters() == 3 * 8 + 2
    assert "  branches.1: Linear(weight (2, 3), bias (2,))" in repr(model)
    dy = np.ones((4, 2), np.float32)
    model.forward(np.ones((4, 3), np.float32), training=True)
    model.backward(dy)
    assert all(model.named_parameters()[f"{name}.weight"].grad is not None for name in names)


def test_a_module_may_be_called():
    model = nn.Sequential(nn.Linear(3, 4, rng=0), nn.Dropout(0.5), nn.BatchNorm(4))
    x = normal(6, 3).astype(np.float32)
    inference = model.forward(x, training=False).copy()
    np.testing.assert_array_equal(model(x), inference)
    assert not np.array_equal(model(x, training=True), inference)
    assert len(model) == 3
    assert model[-1] is model.layers[2]
    assert list(model) == list(model.layers)
