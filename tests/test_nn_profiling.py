"""Times by layer: who is timed, that times add up, and that nothing is left behind."""

import numpy as np
import pytest
from test_nn_gradients import normal
from test_nn_models import modules, step

from numbabn import nn
from numbabn.nn import profiling

X, LABELS = normal(4, 3, 8, 8).astype(np.float32), np.arange(4)


@pytest.fixture
def ticks(monkeypatch):
    """A clock that a test moves by hand."""
    now = [0.0]
    monkeypatch.setattr(profiling, "perf_counter", lambda: now[0])
    return now


class Slow(nn.Module):
    """Takes as long as it is told, and runs what is inside."""

    def __init__(self, ticks, forward, backward, inside=None):
        super().__init__()
        self.ticks, self.times, self.inside = ticks, (forward, backward), inside

    def forward(self, x, *, training):
        self.ticks[0] += self.times[0]
        return x if self.inside is None else self.inside.forward(x, training=training)

    def backward(self, dy, *, need_dx=True):
        self.ticks[0] += self.times[1]
        return dy if self.inside is None else self.inside.backward(dy)


def test_times_are_each_modules_own(ticks):
    model = nn.Sequential(Slow(ticks, 1, 2), Slow(ticks, 3, 4, inside=Slow(ticks, 5, 1)))
    with nn.Profile(model) as profile:
        for _ in range(3):
            model.backward(model.forward(X, training=True))
    rows = profile.rows()
    assert [(row.name, row.kind, row.shape, row.parameters) for row in rows] == [
        ("0", "Slow", X.shape, 0),
        ("1", "Slow", X.shape, 0),
        ("1.inside", "Slow", X.shape, 0),
    ]
    assert [(row.forward, row.backward) for row in rows] == [(1000, 2000), (3000, 4000), (5000, 1000)]
    assert [row.share for row in rows] == pytest.approx([3 / 16, 7 / 16, 6 / 16])


def test_a_slow_first_call_does_not_count(ticks):
    layer = Slow(ticks, 100, 0)
    with nn.Profile(layer) as profile:
        for _ in range(5):
            layer.forward(X, training=True)
            layer.times = (2, 0)
    (row,) = profile.rows()
    assert (row.name, row.forward, row.backward, row.share) == ("", 2000, 0, 1)


def test_rows_and_table_of_a_network():
    model = nn.ResNet(8, width=4)
    with nn.Profile(model) as profile:
        for _ in range(2):
            step(model, X, LABELS)
    rows = profile.rows()
    called = [
        name for name, module in modules(model) if not isinstance(module, (nn.Sequential, nn.ReLU))
    ]  # each ReLU is part of a BatchNorm's call
    assert [row.name for row in rows] == called
    assert sum(row.parameters for row in rows) == model.count_parameters()
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert all(row.forward > 0 and row.backward > 0 for row in rows)
    first = rows[0]
    assert (first.name, first.kind, first.shape, first.parameters) == ("stem.conv", "Conv2d", (4, 4, 8, 8), 108)
    lines = str(profile).splitlines()
    assert lines[0].split() == ["layer", "class", "output", "parameters", "forward", "ms", "backward", "ms", "share"]
    assert lines[1].split()[:4] == ["stem.conv", "Conv2d", "4x4x8x8", "108"]
    assert lines[-1].split()[:2] == ["all", f"{model.count_parameters():,}"]
    assert lines[-1].endswith("100.0%")
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == len(rows) + 2


def test_the_model_runs_as_ever_afterwards():
    model, other = nn.ResNet(8, width=2, dropout=0.1), nn.ResNet(8, width=2, dropout=0.1)
    with nn.Profile(model):
        watched = step(model, X, LABELS)
    assert watched == step(other, X, LABELS)
    for _, module in modules(model):
        assert not {"forward", "backward"} & set(vars(module))
    assert step(model, X, LABELS) == step(other, X, LABELS)


def test_an_error_inside_leaves_nothing_behind():
    model = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))
    profile = nn.Profile(model)
    with profile, pytest.raises(ValueError, match="x has shape"):
        model.forward(X, training=True)
    assert not {"forward", "backward"} & set(vars(model.layers[1]))
    assert [row.name for row in profile.rows()] == ["0"]
    with profile:
        model.forward(np.ones((2, 3), np.float32), training=True)
    assert [row.name for row in profile.rows()] == ["0", "1"]
    assert profile._within == []


def test_profiles_may_be_nested_and_empty():
    model = nn.Sequential(nn.ReLU())
    with nn.Profile(model) as outer:
        with nn.Profile(model) as inner:
            model.forward(X, training=True)
        model.forward(X, training=True)
    counts = [[len(calls.forward) for calls in profile._calls.values()] for profile in (outer, inner)]
    assert counts == [[2, 2], [1, 1]]
    assert str(nn.Profile(model)).splitlines()[-1].split() == ["all", "0", "0.000", "0.000", "0.0%"]
    with pytest.raises(TypeError, match="model is int; expected a Module"):
        nn.Profile(3)


class Twice(nn.Module):
    """Runs its layers again and again, by two names."""

    def __init__(self, *layers):
        super().__init__()
        self.layers, self.again = layers, layers

    def forward(self, x, *, training):
        for layer in (*self.layers, *self.again):
            x = layer.forward(x, training=training)
        return x

    def backward(self, dy, *, need_dx=True):
        raise NotImplementedError


def test_a_layer_that_occurs_twice_has_one_row():
    once = nn.ReLU()
    model = Twice(once)
    with nn.Profile(model) as profile:
        model.forward(X, training=True)
    assert [row.name for row in profile.rows()] == ["", "layers.0"]
    assert len(profile._calls[once].forward) == 2
