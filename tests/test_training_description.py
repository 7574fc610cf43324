"""``config.json``: that it tells what the run is, and that nothing depends on it."""

import json
import platform
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from test_cli import assert_same_end, interrupt, some_digits
from training_helpers import sgd, small_data, small_model

import numbabn
from numbabn import nn
from numbabn.cli import main
from numbabn.training import checkpoint, fit, recipe, sources
from numbabn.training.description import Description, RunError

TRAIN = ["train", "--no-progress", "--epochs", "2", "--batch-size", "10"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test in an empty folder, with few digits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "digits", some_digits)
    return tmp_path


def config(folder):
    with open(f"{folder}/config.json", encoding="ascii") as file:
        return json.load(file)


def test_it_tells_what_the_run_is():
    before = datetime.now(UTC)
    assert main([*TRAIN, "--seed", "3", "--out", "run"]) == 0
    told = config("run")
    assert (told["format"], told["version"], told["from_epoch"]) == ("numbabn run", 1, 0)
    assert timedelta(seconds=-1) < datetime.fromisoformat(told["date"]) - before < timedelta(minutes=10)
    assert told["data"] == {"name": "data", "train_images": 50, "test_images": 20, "shape": [1, 8, 8], "classes": 10}
    assert (told["model"], told["parameters"]) == ("SmallCNN", nn.SmallCNN().count_parameters())
    assert told["versions"].keys() == {"numbabn", "python", "numba", "numpy", "scipy"}
    assert told["versions"]["numpy"] == np.__version__
    assert told["versions"]["numbabn"] == numbabn.__version__
    assert told["versions"]["python"] == platform.python_version()
    assert told["machine"]["cpus"] >= 1
    assert told["settings"] == checkpoint.load_place("run/last.npz").config
    options = told["notes"]["options"]
    assert recipe.Options(**options) == recipe.saved_options("run")
    assert options.keys() == set(recipe.NAMES)  # those that checkpoints leave out, too
    assert told["notes"]["command"] == "numbabn train --epochs 2 --batch-size 10 --seed 3"
    assert Description.read("run/config.json").parameters == told["parameters"]


def test_a_resumed_run_tells_from_where():
    assert main([*TRAIN, "--out", "run"]) == 0
    assert main(["train", "--no-progress", "--resume", "--out", "run", "--epochs", "3"]) == 0
    told = config("run")
    assert (told["from_epoch"], told["settings"]["epochs"], told["notes"]["options"]["epochs"]) == (2, 3, 3)


@pytest.mark.parametrize("content", [None, b"", b"[1]"])
def test_resuming_does_not_look_at_it(monkeypatch, here, content):
    assert main([*TRAIN, "--out", "whole"]) == 0
    with monkeypatch.context() as patch:
        interrupt(patch, batches=4)
        assert main([*TRAIN, "--out", "parts"]) == 130
    path = here / "parts" / "config.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert main(["train", "--no-progress", "--resume", "--out", "parts"]) == 0
    assert_same_end("whole", "parts")
    Description.read(path)


def test_a_resume_that_is_refused_leaves_it_as_it_was(here):
    options = {"epochs": 1, "batch_size": 16, "progress": False, "out": here / "run"}
    model = small_model()
    fit(model, small_data(), sgd(model), notes={"why": "first"}, **options)
    before = (here / "run" / "config.json").read_bytes()
    with pytest.raises(checkpoint.CheckpointError, match="seed is 1"):
        fit(model, small_data(), sgd(model), seed=1, resume=True, notes={"why": "second"}, **options)
    assert (here / "run" / "config.json").read_bytes() == before


def test_notes_are_told_and_not_compared(here):
    options = {"batch_size": 16, "progress": False, "out": here / "run"}
    model = small_model()
    fit(model, small_data(), sgd(model), epochs=1, notes={"why": "first"}, **options)
    assert config("run")["notes"] == {"why": "first"}
    assert "notes" not in checkpoint.load_place("run/last.npz").config
    fit(model, small_data(), sgd(model), epochs=2, notes={"why": "second"}, resume=True, **options)
    assert config("run")["notes"] == {"why": "second"}
    assert config("run")["model"] == "Sequential"


def test_it_is_replaced_in_one_step(here, monkeypatch):
    model = small_model()
    description = Description.of(model, small_data(), {"epochs": 1})
    description.write("config.json")
    before = (here / "config.json").read_bytes()
    broken = Description.of(model, small_data(), {"epochs": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.write("config.json")
    assert (here / "config.json").read_bytes() == before
    assert [path.name for path in here.iterdir()] == ["config.json"]
    assert Description.read("config.json") == description


def test_other_files_are_refused(here):
    with pytest.raises(RunError, match=r"config\.json is not there"):
        Description.read(here / "config.json")


@pytest.mark.parametrize(
    ("options", "command"),
    [
        (recipe.Options(), "numbabn train"),
        (recipe.defaults("synthetic"), "numbabn train --dataset synthetic"),
        (recipe.Options("synthetic"), "numbabn train --dataset synthetic --epochs 30 --batch-size 64"),
        (recipe.Options(compare=True, batch_norm=False), "numbabn train --compare"),
        (recipe.Options(augment=False, placement="after"), "numbabn train --no-augment --placement after"),
        (recipe.Options(backend="cpu", dropout=0.5), "numbabn train --dropout 0.5 --backend cpu"),
    ],
)
def test_the_command_is_as_short_as_can_be(options, command):
    assert recipe.command_line(options) == command
