"""Losses, optimisers and schedules against hand-worked numbers, and whether all of it learns."""

from math import exp, log, sqrt

import numpy as np
import pytest

from numbabn import nn


def parameter(value, grad, kind="weight"):
    made = nn.Parameter(np.array([float(value)]), kind)
    made.grad = np.array([float(grad)])
    return made


def steps(optimizer, weight, grads):
    values = []
    for grad in grads:
        weight.grad[...] = grad
        optimizer.step()
        values.append(float(weight.value[0]))
    return values


def test_sgd():
    weight = parameter(1, 0)
    assert steps(nn.SGD([weight], 0.1), weight, [2, -1]) == pytest.approx([0.8, 0.9])


def test_sgd_with_momentum():
    weight = parameter(1, 0)
    # v = 2, 0.5 * 2 + 2 = 3, 0.5 * 3 - 1 = 0.5
    assert steps(nn.SGD([weight], 0.1, momentum=0.5), weight, [2, 2, -1]) == pytest.approx([0.8, 0.5, 0.45])


def test_sgd_with_nesterov():
    weight = parameter(1, 0)
    # g + 0.5 v = 2 + 1 = 3, 2 + 1.5 = 3.5
    values = steps(nn.SGD([weight], 0.1, momentum=0.5, nesterov=True), weight, [2, 2])
    assert values == pytest.approx([0.7, 0.35])


def test_sgd_with_weight_decay():
    weight = parameter(1, 0)
    # g = 2 + 0.5 * 1 = 2.5, then 1 + 0.5 * 0.75 = 1.375; v = 2.5, then 0.5 * 2.5 + 1.375
    optimizer = nn.SGD([weight], 0.1, momentum=0.5, weight_decay=0.5)
    assert steps(optimizer, weight, [2, 1]) == pytest.approx([0.75, 0.75 - 0.1 * 2.625])


def test_adamw():
    weight = parameter(2, 0)
    optimizer = nn.AdamW([weight], 0.1, betas=(0.5, 0.75), eps=0.5, weight_decay=0.25)
    # decay: 2 * (1 - 0.1 * 0.25). First step: m = 0.5 * 4 / 0.5 = 4, v = 0.25 * 16 / 0.25 = 16
    first = 2 * 0.975 - 0.1 * 4 / (4 + 0.5)
    # Second: m = (0.5 * 2 - 0.5 * 1) / 0.75, v = (0.75 * 4 + 0.25 * 1) / (1 - 0.75**2)
    second = first * 0.975 - 0.1 * (0.5 / 0.75) / (sqrt(3.25 / 0.4375) + 0.5)
    assert steps(optimizer, weight, [4, -1]) == pytest.approx([first, second])


@pytest.mark.parametrize("make", [nn.SGD, nn.AdamW])
def test_kinds_can_be_left_out_of_decay(make):
    parameters = {kind: parameter(1, 0, kind) for kind in ("weight", "bias", "norm")}
    make(parameters, 0.1, weight_decay=0.5, exclude=("norm", "bias")).step()
    assert {kind: float(p.value[0]) for kind, p in parameters.items()} == {"weight": 0.95, "bias": 1, "norm": 1}


def test_rate_can_be_set():
    weight = parameter(1, 1)
    optimizer = nn.SGD([weight], 0.1)
    optimizer.lr = 0.5
    optimizer.step()
    assert weight.value == 0.5
    with pytest.raises(ValueError, match="lr is -1"):
        optimizer.lr = -1
    assert optimizer.lr == 0.5


def test_parameters_without_gradient_are_left_alone():
    weight, other = parameter(1, 1), nn.Parameter(np.array([1.0]), "weight")
    for make in (nn.SGD, nn.AdamW):
        make([weight, other], 0.1, weight_decay=0.1).step()
    assert other.value == 1


MAKERS = {
    "SGD": lambda model: nn.SGD(model, 0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "AdamW": lambda model: nn.AdamW(model, 0.01),
}


def train(model, optimizer, count):
    loss, rng = nn.CrossEntropy(0.1), np.random.default_rng(0)
    x, labels = rng.standard_normal((12, 1, 6, 6), dtype=np.float32), np.arange(12) % 3
    for _ in range(count):
        value = loss.forward(model.forward(x, training=True), labels)
        model.backward(loss.backward())
        optimizer.step()
    return value


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_state_lets_training_go_on_bit_for_bit(make):
    straight = nn.SmallCNN(classes=3, width=4)
    train(straight, make(straight), 6)
    first, second = nn.SmallCNN(classes=3, width=4), nn.SmallCNN(classes=3, width=4, seed=5)
    optimizer = make(first)
    train(first, optimizer, 4)
    second.load_state_dict(first.state_dict())
    resumed = make(second)
    resumed.load_state_dict(optimizer.state_dict())
    train(second, resumed, 2)
    for name, value in second.state_dict().items():
        np.testing.assert_array_equal(value, straight.state_dict()[name])


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_optimizer_state_that_does_not_fit_changes_nothing(make):
    model = nn.SmallCNN(classes=3, width=4)
    optimizer = make(model)
    train(model, optimizer, 2)
    kept = optimizer.state_dict()
    assert all(isinstance(value, np.ndarray) for value in kept.values())
    name = list(kept)[-1]
    for spoiled in ({name: kept[name][:1]}, {name: kept[name].astype(np.float64)}, {"else": kept[name]}):
        with pytest.raises(ValueError, match="state does not fit"):
            optimizer.load_state_dict({key: value + 1 for key, value in kept.items()} | spoiled)
    with pytest.raises(ValueError, match=f"{name} is missing"):
        optimizer.load_state_dict({key: value + 1 for key, value in kept.items() if key != name})
    for key, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, kept[key])


@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_handful_of_samples_is_learnt_by_heart(make, norm):
    model = nn.SmallCNN(classes=3, width=8, norm=norm)
    lowest = -(0.9 + 0.1 / 3) * log(0.9 + 0.1 / 3) - 2 * (0.1 / 3) * log(0.1 / 3)  # the smoothed targets' entropy
    assert train(model, make(model), 120) - lowest < 0.05


def test_cross_entropy_by_hand():
    logits, labels = np.array([[0.0, log(3)], [log(3), 0.0]]), np.array([1, 1])
    loss = nn.CrossEntropy()
    assert loss.forward(logits, labels) == pytest.approx((-log(3 / 4) - log(1 / 4)) / 2)
    np.testing.assert_allclose(loss.backward(), [[1 / 8, -1 / 8], [3 / 8, -3 / 8]])
    smooth = nn.CrossEntropy(0.2)  # targets 0.1 and 0.9
    assert smooth.forward(logits[:1], labels[:1]) == pytest.approx(-0.9 * log(3 / 4) - 0.1 * log(1 / 4))
    np.testing.assert_allclose(smooth.backward(), [[1 / 4 - 0.1, 3 / 4 - 0.9]])


def test_cross_entropy_of_extreme_logits():
    loss = nn.CrossEntropy()
    logits = np.array([[1e4, 0.0, -1e4]], np.float32)
    assert loss.forward(logits, [0]) == 0
    assert loss.forward(logits, [2]) == 2e4
    np.testing.assert_array_equal(loss.backward(), [[1, 0, -1]])
    assert loss.forward(np.array([[0.0, -np.inf]]), [0]) == 0
    assert np.isnan(loss.forward(np.array([[np.nan, 0.0]]), [1]))
    assert np.isnan(loss.forward(np.array([[np.inf, 0.0]]), [1]))
    assert loss.forward(np.array([[0.0, 0.0]]) - 800, [1]) == pytest.approx(log(2))
    assert exp(-loss.forward(np.zeros((1, 7)), np.uint8([3]))) == pytest.approx(1 / 7)


def test_schedules():
    cosine = nn.cosine_schedule(10)
    assert [cosine(0), cosine(5), cosine(10), cosine(11)] == pytest.approx([1, 0.5, 0, 0])
    assert cosine(2) == pytest.approx((1 + np.cos(0.2 * np.pi)) / 2)
    assert nn.cosine_schedule(10, final=0.2)(5) == pytest.approx(0.6)
    falling = nn.step_schedule([20, 10])
    assert [falling(step) for step in (0, 9, 10, 19, 20)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert nn.step_schedule([])(100) == 1
    warm = nn.warmup_schedule(5, cosine)
    assert [warm(0), warm(3), warm(4), warm(5)] == pytest.approx([0.2, 0.8 * cosine(3), cosine(4), cosine(5)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.SGD([], 0.1),
        lambda: nn.SGD([parameter(1, 1)], -0.1),
        lambda: nn.SGD([parameter(1, 1)], float("nan")),
        lambda: nn.SGD([parameter(1, 1)], 0.1, momentum=1.5),
        lambda: nn.SGD([parameter(1, 1)], 0.1, nesterov=True),
        lambda: nn.SGD([parameter(1, 1)], 0.1, weight_decay=-1),
        lambda: nn.SGD([parameter(1, 1)], 0.1, exclude=("norms",)),
        lambda: nn.SGD([parameter(1, 1)], 0.1, exclude="norm"),
        lambda: nn.AdamW([parameter(1, 1)], betas=(0.9,)),
        lambda: nn.AdamW([parameter(1, 1)], betas=(0.9, 1.0)),
        lambda: nn.AdamW([parameter(1, 1)], eps=-1e-8),
        lambda: nn.Parameter(np.zeros(1), "scale"),
        lambda: nn.CrossEntropy(1.5),
        lambda: nn.cosine_schedule(0),
        lambda: nn.cosine_schedule(10, final=2),
        lambda: nn.step_schedule([-1]),
        lambda: nn.step_schedule([1], gamma=-1),
        lambda: nn.warmup_schedule(0, nn.cosine_schedule(3)),
    ],
)
def test_values_that_make_no_sense(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_things_that_are_no_parameters():
    with pytest.raises(TypeError, match="parameter 0 is ndarray; expected a Parameter"):
        nn.SGD([np.zeros(3)], 0.1)
    with pytest.raises(TypeError, match="lr is 'fast'"):
        nn.SGD([parameter(1, 1)], "fast")


@pytest.mark.parametrize(
    ("logits", "labels", "error", "message"),
    [
        (np.zeros((2, 3)), [0, 3], ValueError, "from 0 to 3; expected 0 to 2"),
        (np.zeros((2, 3)), [-1, 0], ValueError, "from -1 to 0"),
        (np.zeros((2, 3)), [0.0, 1.0], TypeError, "labels has dtype float64"),
        (np.zeros((2, 3)), [True, False], TypeError, "labels has dtype bool"),
        (np.zeros((2, 3)), [0], ValueError, r"labels has shape \(1,\)"),
        (np.zeros((0, 3)), np.zeros(0, int), ValueError, "logits has no rows"),
        (np.zeros(3), [0], ValueError, r"logits has shape \(3,\)"),
        (np.zeros((2, 3), int), [0, 1], TypeError, "logits has dtype int64"),
    ],
)
def test_bad_logits_and_labels(logits, labels, error, message):
    with pytest.raises(error, match=message):
        nn.CrossEntropy().forward(logits, labels)


def test_loss_has_no_gradient_before_it_has_a_value():
    with pytest.raises(RuntimeError, match="before forward"):
        nn.CrossEntropy().backward()
