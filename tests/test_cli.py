"""The command line, called in this process."""

import functools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from training_helpers import without_times

import numbabn
from numbabn import cli
from numbabn.cli import main
from numbabn.training import Dataset, checkpoint, compare, digits, loop, recipe, sources

TRAIN = ["train", "--no-progress", "--epochs", "2", "--batch-size", "10"]


@functools.cache
def some_digits(seed):
    """A part of the digits: 50 images to train on and 20 to test on."""
    data = digits(seed)
    return Dataset(data.train_images[:50], data.train_labels[:50], data.test_images[:20], data.test_labels[:20])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test in an empty folder, and with fewer images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "digits", some_digits)
    return tmp_path


def refused(capsys, *argv):
    """The one line on standard error of a command that exits with 2."""
    try:
        code = main(list(argv))
    except SystemExit as error:
        code = error.code
    assert code == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    return shown.err


def interrupt(monkeypatch, batches):
    """Press Ctrl-C in the given batch, counted from 1 over the whole process."""
    step, count = loop.Run.step, iter(range(1, 10_000))

    def counted(self, *args):
        if next(count) == batches:
            signal.raise_signal(signal.SIGINT)
        step(self, *args)

    monkeypatch.setattr(loop.Run, "step", counted)


def final_weights(folder):
    with np.load(f"{folder}/last.npz") as file:
        return {name: file[name] for name in file.files if name != "metadata"}


def assert_same_end(a, b):
    assert without_times(checkpoint.load_place(f"{a}/last.npz").history) == without_times(
        checkpoint.load_place(f"{b}/last.npz").history
    )
    a, b = final_weights(a), final_weights(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"numbabn {numbabn.__version__}\n"


def run_command(*argv, **environment):
    """Run the command in a process of its own, in this folder, with some variables set."""
    environment = {**os.environ, "PYTHONPATH": str(Path(numbabn.__file__).parents[1]), **environment}
    return subprocess.run([sys.executable, "-m", "numbabn", *argv], env=environment, capture_output=True, text=True)


def rows(shown):
    """Labels and values that info prints."""
    return {line[:18].rstrip(): line[18:] for line in shown.splitlines()}


def test_info_tells_versions_threads_cache_and_backends(capsys, monkeypatch):
    monkeypatch.setattr(cli, "ENVIRONMENT", None)
    assert main(["info"]) == 0
    shown = rows(capsys.readouterr().out)
    versions = ["numbabn", "python", "numba", "llvmlite", "numpy", "scipy"]
    backends = ["backend cpu", "backend cuda", "backend reference", "backend in use"]
    assert list(shown) == [*versions, "threads", "threading layer", "kernel cache", *backends]
    for name in versions:
        assert re.match(r"\d+\.\d+", shown[name])
    assert re.fullmatch(r"\d+ of \d+ logical CPUs", shown["threads"])
    assert shown["threading layer"] in ("omp", "tbb", "workqueue")
    folders = shown["kernel cache"].split(", ")
    assert len(set(folders)) == 2  # of the batch-norm kernels and of the layers
    assert all(Path(folder).is_absolute() for folder in folders)
    assert shown["backend cpu"].startswith("available: ")
    assert shown["backend cuda"].startswith(("not available: not installed", "not available: no device"))
    assert shown["backend in use"] == "chosen by the array's place: cpu for NumPy arrays"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reference", "reference, set by NUMBABN_BACKEND"),
        ("gpu", "none: NUMBABN_BACKEND is 'gpu'; expected one of"),
        ("cuda", "none: backend 'cuda' cannot be used: "),
    ],
)
def test_info_tells_the_backend_that_the_environment_sets(name, words):
    result = run_command("info", NUMBABN_BACKEND=name)
    assert result.returncode == 0
    assert rows(result.stdout)["backend in use"].startswith(words)


@pytest.mark.parametrize(("name", "code"), [("gpu", 2), ("cuda", 1)])
def test_a_wrong_backend_in_the_environment_is_one_line(here, name, code):
    result = run_command("train", NUMBABN_BACKEND=name)
    assert result.returncode == code
    assert re.fullmatch(r"numbabn: error: (NUMBABN_BACKEND is 'gpu'|backend 'cuda' cannot be used).*\n", result.stderr)
    assert list(here.iterdir()) == []


def test_warmup_compiles(capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(numbabn, "warmup", calls.append)
    assert main(["warmup"]) == 0
    assert main(["warmup", "--dtype", "float64"]) == 0
    assert calls == ["float32", "float64"]
    assert "kernels are ready" in capsys.readouterr().out


def test_train_prints_accuracy_time_and_paths(capsys, here):
    assert main(TRAIN) == 0
    shown = capsys.readouterr().out
    assert re.search(r"test accuracy +\d+\.\d\d% \(best \d+\.\d\d%, after epoch \d\)", shown)
    assert re.search(r"time +\d+\.\d s for 2 epochs, [\d,]+ images/s", shown)
    folder = here / "runs" / "digits"
    names = {path.name for path in folder.iterdir()}
    assert names == {"best.npz", "config.json", "curves.png", "history.csv", "history.json", "last.npz"}
    for path in re.findall(r"runs\S+\.(?:npz|png)", shown):
        assert (here / path).exists()
    assert "curves.png" in shown


def test_runs_get_folders_of_their_own(here):
    for _ in range(3):
        assert main(["train", "--no-progress", "--epochs", "1"]) == 0
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["digits", "digits-2", "digits-3"]


def test_an_interrupted_run_is_resumed_bit_for_bit(capsys, monkeypatch, here):
    assert main([*TRAIN, "--out", "whole", "--seed", "3"]) == 0
    with monkeypatch.context() as patch:
        interrupt(patch, batches=8)
        assert main([*TRAIN, "--out", "my run", "--seed", "3"]) == 130
    assert "To go on: numbabn train --resume --out 'my run'" in capsys.readouterr().out
    assert not (here / "my run" / "curves.png").exists()
    assert main(["train", "--no-progress", "--resume", "--out", "my run"]) == 0
    assert_same_end("whole", "my run")


def test_resuming_a_complete_run_tells_so(capsys):
    assert main([*TRAIN, "--out", "run"]) == 0
    assert "complete" not in capsys.readouterr().out
    assert main(["train", "--no-progress", "--resume", "--out", "run"]) == 0
    assert "complete       before; more --epochs would go on" in capsys.readouterr().out


def test_resume_takes_the_newest_run_by_default(here):
    assert main([*TRAIN]) == 0
    assert main([*TRAIN, "--seed", "1"]) == 0
    assert main(["train", "--no-progress", "--resume", "--epochs", "3"]) == 0
    assert checkpoint.load_place("runs/digits-2/last.npz").epoch == 3
    assert checkpoint.load_place("runs/digits/last.npz").epoch == 2


def test_compare_prints_a_table_and_a_sentence(capsys, here):
    assert main([*TRAIN, "--compare", "--out", "both"]) == 0
    shown = capsys.readouterr().out
    folders = ["both/with-batch-norm", "both/without-batch-norm"]
    histories = [checkpoint.load_place(f"{folder}/last.npz").history for folder in folders]
    assert f"\n{compare.table(*histories)}\n\n{compare.verdict(*histories)}\n" in shown
    assert (here / "both" / "curves.png").exists()
    running = [any("running_var" in name for name in final_weights(folder)) for folder in folders]
    assert running == [True, False]
    settings = [checkpoint.load_place(f"{folder}/last.npz").config for folder in folders]
    assert [config.pop("batch_norm") for config in settings] == [True, False]
    assert settings[0] == settings[1]


def test_a_comparison_tells_that_a_network_diverged(capsys, here):
    """That a rate is too high without batch norm is what the comparison is for."""
    assert main([*TRAIN, "--model", "resnet8", "--lr", "1", "--compare", "--out", "both"]) == 0
    shown = capsys.readouterr().out
    assert "diverged       the loss is nan in epoch 1" in shown
    assert re.search(r"test accuracy at the end +\d+\.\d\d% +diverged\n", shown)
    assert "the network without batch norm diverged; with it, " in shown
    assert (here / "both" / "curves.png").exists()
    assert main([*TRAIN, "--lr", "1e9", "--compare", "--out", "neither"]) == 0
    shown = capsys.readouterr().out
    assert "both networks diverged" in shown
    assert "curves" not in shown
    assert main([*TRAIN, "--lr", "1e9", "--out", "one"]) == 1
    assert "the loss is nan in epoch 1" in capsys.readouterr().err


@pytest.mark.parametrize("batches", [3, 15])
def test_a_comparison_is_resumed_in_either_run(monkeypatch, batches):
    assert main([*TRAIN, "--compare", "--out", "whole"]) == 0
    with monkeypatch.context() as patch:
        interrupt(patch, batches)
        assert main([*TRAIN, "--compare", "--out", "parts"]) == 130
    assert main(["train", "--no-progress", "--resume", "--out", "parts"]) == 0
    for name in ("with-batch-norm", "without-batch-norm"):
        assert_same_end(f"whole/{name}", f"parts/{name}")


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_the_backend_is_used(monkeypatch, name):
    picked = []

    def watched(*args, **options):
        picked.append(pick("cpu").__name__)
        return fit(*args, **options)

    fit, pick = recipe.fit, sys.modules["numbabn.backends"].pick
    monkeypatch.setattr(recipe, "fit", watched)
    assert main([*TRAIN, "--backend", name]) == 0
    assert picked == [f"numbabn.backends.{name}"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "required"),
        (["fly"], "invalid choice"),
        (["train", "--epochs", "0"], "argument --epochs: '0' is not a whole number from 1"),
        (["train", "--batch-size", "x"], "argument --batch-size: 'x' is not a whole number from 1"),
        (["train", "--lr", "nan"], "argument --lr: 'nan' is not a number above 0"),
        (["train", "--lr", "inf"], "argument --lr: 'inf' is not a number above 0"),
        (["train", "--seed", "-1"], "argument --seed: '-1' is not a whole number from 0"),
        (["train", "--backend", "tpu"], "argument --backend: invalid choice: 'tpu'"),
        (["train", "--compare", "--no-batch-norm"], "--compare trains with and without"),
        (["train", "--resume"], "--resume: runs/digits holds no run"),
        (["train", "--resume", "--out", "nowhere"], "--resume: nowhere holds no run"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_code_2(capsys, here, argv, words):
    assert words in refused(capsys, *argv)
    assert list(here.iterdir()) == []


def test_a_folder_with_a_run_needs_resume(capsys):
    assert main([*TRAIN, "--out", "run"]) == 0
    capsys.readouterr()
    assert "--out: run holds a run already; add --resume" in refused(capsys, *TRAIN, "--out", "run")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--lr", "0.3"], "--lr 0.3 contradicts the run to resume, which has lr = 0.1"),
        (["--seed", "1"], "--seed 1 contradicts the run to resume, which has seed = 0"),
        (["--batch-size", "64"], "--batch-size 64 contradicts the run to resume, which has batch_size = 10"),
        (["--no-batch-norm"], "--no-batch-norm contradicts the run to resume, which has batch_norm = True"),
        (["--backend", "reference"], "--backend reference contradicts the run to resume, which has backend = None"),
        (["--compare"], "--compare contradicts the run to resume, which has compare = False"),
        (["--epochs", "1"], "--epochs 1 contradicts the run to resume, which has epochs = 2 (more are possible)"),
    ],
)
def test_options_that_contradict_the_saved_run_are_named(capsys, option, words, finished):
    assert words in refused(capsys, "train", "--resume", "--out", finished, *option)


@pytest.fixture
def finished(tmp_path):
    """Folder of a run that is complete."""
    options = recipe.Options(epochs=2, batch_size=10)
    recipe.train(options, *recipe.prepare(options), tmp_path / "finished", progress=False)
    return "finished"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_a_bad_checkpoint_is_one_line_and_exit_code_1(capsys, here, content):
    (here / "run").mkdir()
    (here / "run" / "last.npz").write_bytes(content)
    assert main(["train", "--resume", "--out", "run"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("numbabn: error: run/last.npz is ")
    assert shown.count("\n") == 1


@pytest.mark.parametrize("module", ["tqdm", "matplotlib.figure", "sklearn.datasets"])
def test_a_missing_package_is_one_line_and_exit_code_1(capsys, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(sources, "digits", digits)
    assert main(["train"]) == 1
    shown = capsys.readouterr().err
    assert 'pip install "numbabn[train]"' in shown
    assert shown.count("\n") == 1


def test_a_backend_that_cannot_be_used_is_one_line_and_exit_code_1(capsys, here, monkeypatch):
    backends = sys.modules["numbabn.backends"]
    monkeypatch.setattr(backends, "_loaded", {})
    monkeypatch.setattr(backends, "_cuda_status", lambda: backends.BackendStatus(False, "no device"))
    assert main([*TRAIN, "--backend", "cuda"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("numbabn: error: backend 'cuda' cannot be used")
    assert shown.count("\n") == 1
    assert list(here.iterdir()) == []


def test_divergence_is_one_line_and_exit_code_1(capsys):
    assert main([*TRAIN, "--no-batch-norm", "--lr", "1e30"]) == 1
    shown = capsys.readouterr().err
    assert re.search(r"error: the loss is (nan|inf) in epoch \d, ", shown)
    assert shown.count("\n") == 1


def test_a_second_ctrl_c_exits_at_once(capsys, monkeypatch):
    monkeypatch.setattr(loop.Run, "step", lambda *args: [signal.raise_signal(signal.SIGINT) for _ in range(2)])
    assert main(TRAIN) == 130
    assert capsys.readouterr().err == "numbabn: error: stopped at once\n"


def test_the_default_run_reaches_98_percent():
    """As a user starts it, with all images; in this process, threads started by other tests would spin (see train)."""
    result = run_command("train")
    assert result.returncode == 0, result.stderr
    assert float(re.search(r"test accuracy +([\d.]+)%", result.stdout)[1]) >= 98
    assert "epoch 30/30" in result.stderr


def test_the_module_is_the_command():
    assert run_command("--version").stdout == f"numbabn {numbabn.__version__}\n"
