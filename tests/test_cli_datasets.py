"""``numbabn train --dataset``, on tiny files that these tests write."""

import functools
import json
import shutil
import threading

import numpy as np
import pytest
from data_files import CIFAR10, IDX, write_cifar10, write_cifar100, write_idx
from test_cli import assert_same_end, interrupt, refused, some_digits

from numbabn.cli import main
from numbabn.training import checkpoint, command, recipe, sources, synthetic

TRAIN = ["train", "--no-progress", "--epochs", "2", "--batch-size", "10"]
WRITERS = {"mnist": write_idx, "fashion-mnist": write_idx, "cifar10": write_cifar10, "cifar100": write_cifar100}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test in an empty folder, with few digits and few synthetic images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "digits", some_digits)
    small = functools.partial(synthetic, classes=4, channels=2, height=8, width=8, train=40, test=20)
    monkeypatch.setattr(sources, "synthetic", small)
    return tmp_path


@pytest.fixture
def cifar(here):
    """Arguments that train on CIFAR-10 in the folder ``files``."""
    write_cifar10(here / "files")
    return [*TRAIN, "--dataset", "cifar10", "--data-dir", "files"]


def config(folder):
    return checkpoint.load_place(f"{folder}/last.npz").config


def failed(capsys, *argv):
    """The one line on standard error of a command that exits with 1."""
    assert main(list(argv)) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    return shown


@pytest.mark.parametrize(
    ("name", "channels", "classes"),
    [("mnist", 1, 10), ("fashion-mnist", 1, 10), ("cifar10", 3, 10), ("cifar100", 3, 100)],
)
def test_it_trains_on_files(here, monkeypatch, name, channels, classes):
    titles = []
    save_curves = command.save_curves
    monkeypatch.setattr(command, "save_curves", lambda *a, title: (titles.append(title), save_curves(*a, title=title)))
    WRITERS[name](here / "files")
    threads = threading.active_count()
    assert main([*TRAIN, "--dataset", name, "--data-dir", "files"]) == 0
    folder = here / "runs" / name
    names = {path.name for path in folder.iterdir()}
    assert names == {"best.npz", "config.json", "curves.png", "history.csv", "history.json", "last.npz"}
    assert titles == [f"{name}, small-cnn, seed 0"]
    saved = config(folder)
    assert (saved["dataset"], saved["data_dir"], saved["data"]) == (name, "files", name)
    with np.load(folder / "last.npz") as file:
        weights = [file[key] for key in file.files if key.startswith("model/") and key.endswith("weight")]
    assert weights[0].shape[1] == channels
    assert weights[-1].shape[0] == classes
    assert threading.active_count() == threads


def test_synthetic_images_need_no_files(here):
    assert main([*TRAIN, "--dataset", "synthetic", "--seed", "3"]) == 0
    assert config("runs/synthetic")["dataset"] == "synthetic"


def test_runs_of_each_data_set_are_numbered(here, cifar):
    write_cifar100(here / "files")
    hundred = ["cifar100" if word == "cifar10" else word for word in cifar]
    for arguments in (cifar, TRAIN, hundred, cifar):
        assert main([*arguments, "--epochs", "1"]) == 0
    names = sorted(path.name for path in (here / "runs").iterdir())
    assert names == ["cifar10", "cifar10-2", "cifar100", "digits"]
    shutil.copytree("runs/cifar10", "runs/cifar10-007")  # by hand: none of the numbers that are given
    assert main(["train", "--no-progress", "--resume", "--dataset", "cifar10", "--epochs", "2"]) == 0
    epochs = {name: checkpoint.load_place(f"runs/{name}/last.npz").epoch for name in names}
    assert epochs == {"cifar10": 1, "cifar10-2": 2, "cifar100": 1, "digits": 1}


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_an_augmented_run_is_resumed_bit_for_bit(monkeypatch, cifar, batch):
    assert main([*cifar, "--out", "whole"]) == 0
    with monkeypatch.context() as patch:
        interrupt(patch, batch)
        assert main([*cifar, "--out", "parts"]) == 130
    assert main(["train", "--no-progress", "--resume", "--out", "parts"]) == 0
    assert_same_end("whole", "parts")


def test_augmentation_can_be_left_out(capsys, cifar):
    assert main([*cifar, "--out", "with"]) == 0
    assert main([*cifar, "--out", "without", "--no-augment"]) == 0
    assert config("with")["augmentation"] == {"pad": 4, "flip": True}
    assert config("without")["augmentation"] is None
    assert main(["train", "--no-progress", "--resume", "--out", "without", "--epochs", "3"]) == 0
    assert config("without")["augmentation"] is None
    words = "--augment contradicts the run to resume, which has augment = False"
    assert words in refused(capsys, "train", "--resume", "--out", "without", "--augment")


def test_a_run_is_resumed_with_files_that_have_moved(capsys, here, cifar):
    assert main([*cifar, "--out", "run"]) == 0
    shutil.move(here / "files", here / "elsewhere")
    resume = ["train", "--no-progress", "--resume", "--out", "run", "--epochs", "3"]
    capsys.readouterr()
    assert "files is not a folder; CIFAR-10" in failed(capsys, *resume)
    assert main([*resume, "--data-dir", "elsewhere"]) == 0
    assert config("run")["data_dir"] == "elsewhere"


def test_a_run_is_not_resumed_with_other_files(capsys, here, cifar):
    assert main([*cifar, "--out", "run"]) == 0
    path = here / "files" / CIFAR10[0]
    path.write_bytes(path.read_bytes()[:-1] + b"\x77")
    capsys.readouterr()
    shown = failed(capsys, "train", "--no-progress", "--resume", "--out", "run", "--epochs", "3")
    assert "transform is {'mean': [" in shown
    words = "--dataset digits contradicts the run to resume, which has dataset = cifar10"
    assert words in refused(capsys, "train", "--resume", "--out", "run", "--dataset", "digits")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--dataset", "imagenet"], "argument --dataset: invalid choice: 'imagenet'"),
        (["--dataset", "mnist"], "--dataset mnist needs --data-dir DIR, the folder with its files"),
        (["--data-dir", "files"], "--data-dir files: digits is read from no folder; leave it out"),
        (["--dataset", "synthetic", "--data-dir", "."], "--data-dir .: synthetic is read from no folder"),
        (["--dataset", "cifar10", "--resume"], "--resume: runs/cifar10 holds no run"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_code_2(capsys, here, argv, words):
    assert words in refused(capsys, "train", *argv)
    assert list(here.iterdir()) == []


def spoil_nothing(folder):
    """Leave no folder at all."""
    shutil.rmtree(folder)


def spoil_file(folder):
    (folder / IDX[2]).write_bytes(b"spoilt")


def spoil_name(folder):
    (folder / IDX[2]).unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_nothing, "numbabn: error: files is not a folder; MNIST can be had from https://"),
        (spoil_file, f"numbabn: error: files/{IDX[2]} starts with the bytes 73706f69; expected 00000803; MNIST can be"),
        (spoil_name, f"numbabn: error: {IDX[2]} is not in files; MNIST can be had from https://"),
    ],
)
def test_bad_files_are_one_line_and_exit_code_1(capsys, here, spoil, words):
    write_idx(here / "files")
    spoil(here / "files")
    assert failed(capsys, *TRAIN, "--dataset", "mnist", "--data-dir", "files").startswith(words)
    assert not (here / "runs").exists()


def rewritten(path, change):
    """Change the settings that a checkpoint keeps."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    metadata = json.loads(str(arrays["metadata"]))
    change(metadata["config"])
    np.savez(path, **{**arrays, "metadata": np.array(json.dumps(metadata))})


@pytest.mark.parametrize("change", [{"dataset": "imagenet"}, {"data_dir": 3}, {"augment": 1}, {"dataset": None}])
def test_settings_that_cannot_be_are_refused(capsys, here, change):
    assert main([*TRAIN, "--out", "run"]) == 0
    capsys.readouterr()
    rewritten("run/last.npz", lambda saved: saved.update(change))
    assert "run/last.npz is not of a run of numbabn train" in failed(capsys, "train", "--resume", "--out", "run")


def test_defaults_are_the_data_set_s(capsys):
    assert recipe.defaults("digits") == recipe.Options(epochs=30, batch_size=64, lr=0.1)
    assert recipe.defaults("cifar10") == recipe.Options("cifar10", epochs=20, batch_size=128, lr=0.1)
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "(default 30 for digits, else 20)" in shown
    assert "(default 64 for digits, else 128)" in shown
