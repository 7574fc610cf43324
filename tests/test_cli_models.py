"""``numbabn train --model``, ``--placement``, ``--dropout`` and ``--profile``, on tiny images."""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
from test_cli import assert_same_end, final_weights, interrupt, refused, some_digits
from test_cli_datasets import config, failed, rewritten
from training_helpers import assert_same_state, without_times

from numbabn import nn
from numbabn.cli import main
from numbabn.training import (
    Dataset,
    checkpoint,
    evaluate,
    fit,
    load_checkpoint,
    load_run,
    networks,
    recipe,
    sources,
    synthetic,
)
from numbabn.training.checkpoint import load_place

TRAIN = ["train", "--no-progress", "--epochs", "2", "--batch-size", "10"]
SYNTHETIC = [*TRAIN, "--dataset", "synthetic"]
CLASSES, CHANNELS, SIDE = 4, 2, 8


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test in an empty folder, with few digits and few synthetic images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "digits", some_digits)
    small = functools.partial(synthetic, CLASSES, CHANNELS, SIDE, SIDE, train=40, test=20)
    monkeypatch.setattr(sources, "synthetic", small)
    return tmp_path


def images_of(height, width):
    """A data set with images of this size."""
    images, labels = np.zeros((2, 3, height, width), np.float32), np.arange(2)
    return Dataset(images, labels, images, labels, name="tiny")


@pytest.mark.parametrize("name", ["small-cnn", "mlp", "resnet8"])
def test_each_kind_of_network_is_made_for_the_images(capsys, here, name):
    assert main([*SYNTHETIC, "--model", name]) == 0
    saved = final_weights("runs/synthetic")
    weights = [array for key, array in saved.items() if key.startswith("model/") and array.ndim > 1]
    assert weights[0].shape[1] == (CHANNELS * SIDE * SIDE if name == "mlp" else CHANNELS)
    assert weights[-1].shape[0] == CLASSES
    trained = sum(
        array.size
        for key, array in saved.items()
        if key.startswith("model/") and key.endswith(("weight", "bias", "gamma", "beta"))
    )
    assert f"model          {name}, {trained:,} parameters\n" in capsys.readouterr().out


@pytest.mark.parametrize("depth", [8, 20, 32, 56])
def test_a_resnet_has_its_depth(depth):
    model = networks.build(f"resnet{depth}", images_of(32, 32), seed=3)
    assert_same_state(model, nn.ResNet(depth, 3, 2, seed=3))


def test_without_options_the_network_is_what_it_was():
    """Against the run written out: no other option changes a bit of it."""
    assert main([*TRAIN, "--seed", "3"]) == 0
    data, model = some_digits(3), nn.SmallCNN(seed=3)
    optimizer = nn.SGD(model, 0.1, momentum=0.9, nesterov=True, weight_decay=1e-3, exclude=("norm", "bias"))
    schedule = nn.warmup_schedule(1, nn.cosine_schedule(10))
    options = {"batch_size": 10, "label_smoothing": 0.1, "seed": 3, "progress": False}
    history = fit(model, data, optimizer, epochs=2, schedule=schedule, **options)
    trained = nn.SmallCNN()
    saved = load_checkpoint("runs/digits/last.npz", trained)
    assert_same_state(trained, model)
    assert without_times(saved.history) == without_times(history)


def test_placement_and_dropout_reach_the_network():
    model = ["--model", "mlp", "--placement", "after", "--dropout", "0.25"]
    assert main([*SYNTHETIC, *model]) == 0
    trained = nn.MLP(CHANNELS * SIDE * SIDE, CLASSES, placement="after", dropout=0.25)
    load_checkpoint("runs/synthetic/last.npz", trained)  # has the biases that go with it, and dropout's counters
    settings = config("runs/synthetic")
    assert [settings[name] for name in ("model", "placement", "dropout")] == ["mlp", "after", 0.25]


@pytest.mark.parametrize("options", [("mlp", "before", "0.5"), ("resnet8", "after", "0.2")])
def test_an_interrupted_run_is_resumed_with_its_network(monkeypatch, options):
    names = ("--model", "--placement", "--dropout")
    asked = [word for pair in zip(names, options, strict=True) for word in pair]
    assert main([*SYNTHETIC, *asked, "--out", "whole"]) == 0
    with monkeypatch.context() as patch:
        interrupt(patch, batches=6)
        assert main([*SYNTHETIC, *asked, "--out", "parts"]) == 130
    assert main(["train", "--no-progress", "--resume", "--out", "parts"]) == 0
    assert_same_end("whole", "parts")


def test_what_contradicts_the_run_to_resume_is_named(capsys):
    assert main([*TRAIN, "--epochs", "1", "--out", "run"]) == 0
    for option, value, before in [("model", "mlp", "small-cnn"), ("placement", "after", "before"), ("dropout", 0.5, 0)]:
        words = f"--{option} {value} contradicts the run to resume, which has {option} = {before}"
        assert words in refused(capsys, "train", "--resume", "--out", "run", f"--{option}", str(value))


@pytest.mark.parametrize(
    "change", [{"model": "vgg"}, {"model": None}, {"placement": "left"}, {"dropout": 1.0}, {"dropout": "0.5"}]
)
def test_saved_settings_that_cannot_be_are_refused(capsys, change):
    assert main([*TRAIN, "--epochs", "1", "--out", "run"]) == 0
    rewritten("run/last.npz", lambda saved: saved.update(change))
    assert "run/last.npz is not of a run of numbabn train" in failed(capsys, "train", "--resume", "--out", "run")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--model", "resnet9"], "argument --model: invalid choice: 'resnet9'"),
        (["--placement", "between"], "argument --placement: invalid choice: 'between'"),
        (["--dropout", "1"], "argument --dropout: '1' is not a number from 0 to below 1"),
        (["--dropout", "nan"], "argument --dropout: 'nan' is not a number from 0 to below 1"),
        (["--placement", "after", "--no-batch-norm"], "--placement tells where batch norm goes; leave it or"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_code_2(capsys, here, argv, words):
    assert words in refused(capsys, "train", *argv)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", ["small-cnn", "resnet8"])
def test_images_that_are_too_small_are_one_line_and_exit_code_1(capsys, monkeypatch, here, name):
    monkeypatch.setattr(sources, "synthetic", lambda seed: images_of(8, 3))
    words = f"numbabn: error: tiny has images of 8x3; {name} needs at least 4x4\n"
    assert failed(capsys, *SYNTHETIC, "--model", name) == words
    assert list(here.iterdir()) == []


def test_the_smallest_images_that_are_accepted_can_be_trained_on():
    for name in ("small-cnn", "mlp", "resnet8"):
        data = images_of(4, 4)
        history = fit(model := networks.build(name, data), data, nn.SGD(model, 0.1), epochs=1, progress=False)
        assert [record.epoch for record in history.records] == [1]
    assert networks.build("mlp", images_of(1, 1)).count_parameters() > 0


def test_a_profile_leaves_the_run_as_it_is(capsys):
    compared = [*SYNTHETIC, "--dropout", "0.2", "--compare"]
    assert main([*compared, "--out", "without"]) == 0
    capsys.readouterr()
    assert main([*compared, "--out", "with", "--profile"]) == 0
    shown = capsys.readouterr().out
    for name in ("with-batch-norm", "without-batch-norm"):
        assert_same_end(f"without/{name}", f"with/{name}")
        assert config(f"without/{name}") == config(f"with/{name}")
    tables = re.findall(r"^layer +class +output .* share\n(?:.+\n)+?all .*100\.0%\n", shown, re.MULTILINE)
    assert ["BatchNorm" in table for table in tables] == [True, False]
    for table, counted in zip(tables, re.findall(r"small-cnn, ([\d,]+) parameters", shown), strict=True):
        assert table.splitlines()[-1].split()[1] == counted


def test_a_profile_is_of_training_steps_on_real_batches(monkeypatch):
    options = recipe.Options("synthetic", batch_size=15, dropout=0.2, backend="reference")
    data, model = recipe.prepare(options)
    before, seen = model.state_dict(), []
    train_batch = Dataset.train_batch

    def watched(self, indices, rng):
        batch = train_batch(self, indices, rng)
        seen.append(batch)
        return batch

    monkeypatch.setattr(Dataset, "train_batch", watched)
    rows = recipe.profile(options, data, model).rows()
    assert [len(labels) for _, labels in seen] == [14, 13, 13, 14, 13]  # an epoch is short: it starts again
    assert rows[0].shape == (13, 16, SIDE, SIDE)
    assert all(row.backward > 0 for row in rows)
    order = np.concatenate([images for images, _ in seen[:3]])
    np.testing.assert_array_equal(np.sort(order, axis=None), np.sort(data.transform(data.train_images), axis=None))
    after = model.state_dict()
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])


def test_an_interrupted_run_has_no_profile(capsys, monkeypatch):
    interrupt(monkeypatch, batches=3)
    assert main([*SYNTHETIC, "--profile", "--out", "run"]) == 130
    assert "forward ms" not in capsys.readouterr().out
    assert checkpoint.load_place("run/last.npz").batch == 3


@pytest.mark.parametrize("which", ["best", "last"])
def test_a_run_is_loaded_as_it_was_trained(which):
    assert main([*SYNTHETIC, "--model", "mlp", "--placement", "after", "--dropout", "0.25"]) == 0
    model, data = load_run("runs/synthetic", checkpoint=which)
    place = load_place(f"runs/synthetic/{which}.npz")
    record = place.history.best if which == "best" else place.history.final
    found = evaluate(model, data.test_images, data.test_labels, transform=data.transform)
    assert found.accuracy == record.test_accuracy
    with pytest.raises(ValueError, match="checkpoint is 'first'; expected 'best' or 'last'"):
        load_run("runs/synthetic", checkpoint="first")


def test_options_that_would_do_nothing_are_refused(capsys):
    assert main([*SYNTHETIC, "--augment"]) == 2
    assert "--augment: images of synthetic are not changed at random; leave it out" in capsys.readouterr().err
    Path("taken").write_text("")
    assert main([*SYNTHETIC, "--out", "taken"]) == 2
    assert "--out: taken is a file; expected a folder" in capsys.readouterr().err
