"""The loop: it learns, it is reproducible, it can be interrupted and resumed without a trace."""

import csv
import json
import re
import signal
import sys
import threading

import numpy as np
import pytest
from training_helpers import (
    BATCH_SIZE,
    BATCHES,
    adamw,
    assert_same_state,
    sgd,
    small_data,
    small_model,
    without_times,
)

from numbabn import nn
from numbabn.training import CheckpointError, DivergenceError, checkpoint, evaluate, fit, load_checkpoint
from numbabn.training.description import Description

EPOCHS = 3


def run(make_optimizer=sgd, schedule=None, **options):
    """Train from the same start each time; returns model, optimiser and history."""
    model = small_model()
    optimizer = make_optimizer(model)
    options = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "progress": False, "label_smoothing": 0.1, **options}
    history = fit(model, small_data(), optimizer, schedule=schedule or cosine, **options)
    return model, optimizer, history


def cosine(step):
    return nn.cosine_schedule(EPOCHS * BATCHES)(step)


def ctrl_c_at(*steps):
    """The schedule, which is asked once in each step, with Ctrl-C in some of them."""

    def schedule(step):
        for _ in range(steps.count(step)):
            signal.raise_signal(signal.SIGINT)
        return cosine(step)

    return schedule


def test_it_learns():
    _, _, history = run(epochs=30, schedule=lambda step: 1.0)
    assert [record.epoch for record in history.records] == list(range(1, 31))
    assert history.final.test_accuracy == 1.0
    assert history.final.train_loss < 0.5 * history.records[0].train_loss


def test_the_same_seed_gives_the_same_bits():
    a, _, history = run()
    b, _, again = run()
    assert_same_state(a, b)
    assert without_times(history) == without_times(again)


def test_another_seed_gives_another_order():
    a, b = run()[0].state_dict(), run(seed=1)[0].state_dict()
    assert (a["1.weight"] != b["1.weight"]).any()


def test_fit_is_a_loop_over_forward_backward_and_step():
    """Against the loop written out, which knows nothing of warming up."""
    model, optimizer, history = run(epochs=2)
    other, data = small_model(), small_data()
    other_optimizer, criterion = sgd(other), nn.CrossEntropy(0.1)
    step = 0
    for epoch in range(2):
        losses, hits = [], 0
        order = np.random.default_rng([0, epoch]).permutation(60)
        for indices in np.array_split(order, BATCHES):
            logits = other.forward(data.train_images[indices], training=True)
            hits += (logits.argmax(1) == data.train_labels[indices]).sum()
            losses += [criterion.forward(logits, data.train_labels[indices])] * len(indices)
            other.backward(criterion.backward())
            other_optimizer.lr = 0.05 * cosine(step)
            other_optimizer.step()
            step += 1
        record = history.records[epoch]
        assert record.train_loss == pytest.approx(np.mean(losses), rel=1e-12)
        assert record.train_accuracy == hits / 60
        assert record.learning_rate == 0.05 * cosine(step - 1)
    assert_same_state(model, other)
    assert_same_state(optimizer, other_optimizer)
    assert optimizer.lr == 0.05


def test_evaluate_is_the_mean_over_the_images():
    model, data = small_model(), small_data()
    whole = model.forward(data.test_images, training=False)
    loss = nn.CrossEntropy(0.2).forward(whole, data.test_labels)
    accuracy = (whole.argmax(1) == data.test_labels).mean()
    state = model.state_dict()
    measured = evaluate(model, data.test_images, data.test_labels, batch_size=7, label_smoothing=0.2)
    assert measured.loss == pytest.approx(loss, rel=1e-6)
    assert measured.accuracy == accuracy
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


def test_the_folder_holds_checkpoints_and_history(tmp_path):
    model, optimizer, history = run(out=tmp_path / "new" / "run")
    folder = tmp_path / "new" / "run"
    names = ["best.npz", "config.json", "history.csv", "history.json", "last.npz"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert json.loads((folder / "history.json").read_text()) == history.rows()
    with open(folder / "history.csv", newline="") as file:
        assert [float(row["test_loss"]) for row in csv.DictReader(file)] == [r.test_loss for r in history.records]
    last, best = small_model(), small_model()
    last_optimizer = sgd(last)
    assert load_checkpoint(folder / "last.npz", last, last_optimizer).epoch == EPOCHS
    assert_same_state(last, model)
    assert_same_state(last_optimizer, optimizer)
    assert load_checkpoint(folder / "best.npz", best).epoch == history.best.epoch
    data = small_data()
    measured = evaluate(best, data.test_images, data.test_labels, batch_size=BATCH_SIZE, label_smoothing=0.1)
    assert measured == (history.best.test_loss, history.best.test_accuracy)


def test_best_stays_when_a_later_epoch_is_worse(tmp_path):
    """From the third epoch on the steps are far too long."""
    _, _, history = run(epochs=8, schedule=lambda step: 1.0 if step < 2 * BATCHES else 100.0, out=tmp_path)
    assert history.best.epoch < 8
    assert checkpoint.load_place(tmp_path / "best.npz").epoch == history.best.epoch
    assert checkpoint.load_place(tmp_path / "last.npz").epoch == 8


@pytest.mark.parametrize("make_optimizer", [sgd, adamw])
@pytest.mark.parametrize("step", [0, 1, BATCHES - 1, BATCHES, 2 * BATCHES + 1, EPOCHS * BATCHES - 1])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, step, make_optimizer):
    whole, whole_optimizer, whole_history = run(make_optimizer)
    _, _, first = run(make_optimizer, ctrl_c_at(step), out=tmp_path)
    assert first.interrupted
    where = checkpoint.load_place(tmp_path / "last.npz")
    assert where.epoch * BATCHES + where.batch == step + 1
    model, optimizer, history = run(make_optimizer, out=tmp_path, resume=True)
    assert not history.interrupted
    assert_same_state(model, whole)
    assert_same_state(optimizer, whole_optimizer)
    assert without_times(history) == without_times(whole_history)


def test_a_run_interrupted_in_every_step_ends_with_the_same_bits(tmp_path):
    whole, _, whole_history = run()
    for step in range(EPOCHS * BATCHES):
        _, _, history = run(schedule=ctrl_c_at(step), out=tmp_path, resume=step > 0)
        assert history.interrupted
    model, _, history = run(out=tmp_path, resume=True)
    assert_same_state(model, whole)
    assert without_times(history) == without_times(whole_history)


def test_a_run_goes_on_with_more_epochs(tmp_path):
    whole, _, whole_history = run(epochs=3)
    run(epochs=1, out=tmp_path)
    model, _, history = run(epochs=3, out=tmp_path, resume=True)
    assert_same_state(model, whole)
    assert without_times(history) == without_times(whole_history)
    seconds = [record.seconds for record in history.records]
    assert seconds == sorted(seconds)


def test_a_complete_run_resumed_trains_no_more(tmp_path):
    model, _, history = run(out=tmp_path)
    again, _, same = run(out=tmp_path, resume=True)
    assert_same_state(again, model)
    assert same.rows() == history.rows()


def test_a_second_ctrl_c_raises_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(schedule=ctrl_c_at(5, 5), out=tmp_path)
    assert checkpoint.load_place(tmp_path / "last.npz").epoch == 1
    model, _, _ = run(out=tmp_path, resume=True)
    assert_same_state(model, run()[0])


@pytest.mark.parametrize("steps", [(), (1,), (1, 1)])
def test_the_handler_of_ctrl_c_is_put_back(steps):
    before = signal.getsignal(signal.SIGINT)
    try:
        run(schedule=ctrl_c_at(*steps))
    except KeyboardInterrupt:
        assert len(steps) == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_ctrl_c_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _, _, history = run(schedule=ctrl_c_at(1))
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert not history.interrupted
    assert len(history.records) == EPOCHS


def test_it_runs_in_another_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join()
    assert_same_state(results[0][0], run()[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, bad):
    """A weight spoilt in the second epoch; what was saved after the first one stays."""
    model = small_model()
    weight = model.named_parameters()["5.weight"].value

    def schedule(step):
        if step == BATCHES + 1:
            weight[0, 0] = bad
        return 1.0

    optimizer = sgd(model)
    with pytest.raises(DivergenceError, match=r"the loss is (nan|inf) in epoch 2, batch 3") as error:
        fit(model, small_data(), optimizer, epochs=3, batch_size=16, schedule=schedule, progress=False, out=tmp_path)
    other = small_model()
    assert load_checkpoint(tmp_path / "last.npz", other).epoch == 1
    assert all(np.isfinite(array).all() for array in other.state_dict().values())
    assert optimizer.lr == 0.05
    assert len(error.value.history.records) == 1
    assert error.value.history.diverged


def test_a_first_epoch_that_diverges_leaves_no_checkpoint(tmp_path):
    """So that the folder can be used again, with a lower rate; what happened is told in it."""
    model = small_model()
    with pytest.raises(FloatingPointError, match="in epoch 1"):
        fit(model, small_data(), nn.SGD(model, 1e30), epochs=2, batch_size=16, progress=False, out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "history.csv", "history.json"}
    told = Description.read(tmp_path / "config.json").diverged
    assert re.fullmatch("the loss is (nan|inf) in epoch 1, (batch [0-9]+|the test images)", told)
    model = small_model()
    fit(model, small_data(), nn.SGD(model, 0.1), epochs=1, batch_size=16, progress=False, out=tmp_path)
    assert Description.read(tmp_path / "config.json").diverged == ""


def test_an_optimizer_of_another_model_is_refused():
    model = small_model()
    before = model.state_dict()
    with pytest.raises(ValueError, match="of another model; expected one made for this model's parameters"):
        fit(model, small_data(), sgd(small_model()), epochs=1, progress=False)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def without_decay(model):
    return nn.SGD(model, 0.05, momentum=0.9, nesterov=True)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    run(epochs=1, out=tmp_path)
    before = (tmp_path / "last.npz").read_bytes()
    with pytest.raises(FileExistsError, match="holds a run already"):
        run(epochs=1, out=tmp_path)
    assert (tmp_path / "last.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed is 1; the run in .* was made with 0"),
        ({"batch_size": 8}, "batch_size is 8; .* with 16"),
        ({"label_smoothing": 0.0}, r"label_smoothing is 0.0; .* with 0\.1"),
        ({"make_optimizer": adamw}, "optimizer is 'AdamW'; .* with 'SGD'"),
        ({"make_optimizer": without_decay}, "optimizer_settings is .*'weight_decay': 0.0.* with .*0.001"),
        ({"settings": {"width": 3}}, "width is 3; .* with None"),
        ({"epochs": 1}, "epochs is 1; .* has 2, expected no fewer"),
    ],
)
def test_resuming_another_run_is_refused(tmp_path, changes, message):
    run(epochs=2, out=tmp_path)
    before = (tmp_path / "last.npz").read_bytes()
    with pytest.raises(ValueError, match=message):
        run(**{"epochs": 2, "out": tmp_path, "resume": True, **changes})
    assert (tmp_path / "last.npz").read_bytes() == before


@pytest.mark.parametrize("spoil", [{"batch": 9}, {"images": 33}, {"correct": 61}])
def test_a_place_that_cannot_be_is_refused(tmp_path, spoil):
    run(schedule=ctrl_c_at(1), out=tmp_path)
    model = small_model()
    optimizer = sgd(model)
    place = load_checkpoint(tmp_path / "last.npz", model, optimizer)
    for name, value in spoil.items():
        setattr(place, name, value)
    checkpoint.save_checkpoint(tmp_path / "last.npz", model, optimizer, place)
    with pytest.raises(CheckpointError, match="cannot be"):
        run(out=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs is 0; expected at least 1"),
        ({"epochs": 1.5}, TypeError, "epochs is 1.5; expected an integer"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; expected at least 1"),
        ({"seed": -1}, ValueError, "seed is -1; expected at least 0"),
        ({"resume": True, "out": None}, ValueError, "out is None"),
        ({"label_smoothing": 2.0}, ValueError, "label_smoothing"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        run(**{"out": tmp_path / "run", **options})
    assert list(tmp_path.iterdir()) == []


def test_resuming_nothing_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        run(out=tmp_path, resume=True)


def test_the_bar_shows_loss_accuracy_and_speed(capsys):
    _, _, history = run(progress=True, epochs=2)
    shown = capsys.readouterr().err
    assert "epoch  2/2" in shown
    assert re.search(r"60/60 .* images/s, loss \d\.\d{4}, train \d+\.\d\d%, test", shown)
    assert f"test {history.final.test_accuracy:.2%}" in shown


def test_the_bar_without_tqdm_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=re.escape('pip install "numbabn[train]"')):
        run(progress=True)
    run(progress=False, epochs=1)
