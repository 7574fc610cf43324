"""Batches made ahead: the same as without, no error lost, no thread left."""

import contextlib
import signal
import threading
from dataclasses import replace

import pytest
from training_helpers import BATCH_SIZE, BATCHES, assert_same_state, sgd, small_data, small_model, without_times

from numbabn.training import Augment, checkpoint, fit, loop, synthetic
from numbabn.training.prefetch import prefetched

EPOCHS = 3


def data():
    """As many images as ``small_data`` has, and of that size, with work to do for each batch."""
    return replace(synthetic(4, 1, 4, 4, train=60, test=20, noise=0.5), augment=Augment(pad=1, flip=True))


def run(given=None, schedule=None, **options):
    model = small_model()
    options = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "progress": False, **options}
    return model, fit(model, given or data(), sgd(model), schedule=schedule, **options)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("ahead", [0, 1, 3, 20])
@pytest.mark.parametrize("count", [0, 1, 2, 10])
def test_results_come_in_order(ahead, count):
    assert list(prefetched(lambda item: item**2, range(count), ahead)) == [item**2 for item in range(count)]


@pytest.mark.parametrize("ahead", [1, 3])
def test_no_more_is_made_than_asked_for(ahead):
    made, asked = [], []

    def make(item):
        made.append(item)
        return item

    def items():
        for item in range(10):
            asked.append(item)
            yield item

    with contextlib.closing(prefetched(make, items(), ahead)) as results:
        assert made == []
        for item in range(5):
            assert next(results) == item
            assert len(asked) == item + 1 + ahead
            assert made[: item + 1] == list(range(item + 1))
    assert len(made) <= 5 + ahead


def test_the_next_result_is_made_beside_the_caller_s_work():
    """While the caller holds the first result, the second is finished by another thread."""
    finished = [threading.Event() for _ in range(3)]

    def make(item):
        finished[item].set()
        return threading.get_ident()

    with contextlib.closing(prefetched(make, range(3))) as results:
        assert next(results) != threading.get_ident()
        assert finished[1].wait(timeout=60)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_an_error_comes_in_its_result_s_place(ahead):
    results = prefetched(lambda item: 1 / (item - 2), range(5), ahead)
    assert [next(results), next(results)] == [-0.5, -1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_training_ends_with_the_same_bits_as_without(monkeypatch):
    model, history = run()
    threads = []

    def plain(function, items, ahead):
        threads.append(ahead)
        return prefetched(function, items, ahead=0)

    monkeypatch.setattr(loop, "prefetched", plain)
    other, again = run()
    assert threads == [1] * EPOCHS
    assert_same_state(model, other)
    assert without_times(history) == without_times(again)


def test_data_that_need_no_work_need_no_thread(monkeypatch):
    started = []
    monkeypatch.setattr(threading.Thread, "start", lambda self: started.append(self))
    run(small_data())
    assert started == []


class Spoilt:
    """An augmentation that fails in the given batch, counted from 0; it goes ahead for the first epoch's warm-up."""

    def __init__(self, batch):
        self.left = batch + 1

    def __call__(self, images, rng):
        if self.left == 0:
            raise RuntimeError("no more images")
        self.left -= 1
        return images


@pytest.mark.parametrize("batch", [0, 1, BATCHES + 1])
def test_an_error_in_the_thread_ends_the_run(tmp_path, batch):
    with pytest.raises(RuntimeError, match="no more images"):
        run(replace(data(), augment=Spoilt(batch)), out=tmp_path)
    assert (tmp_path / "last.npz").exists() == (batch >= BATCHES)


def test_an_error_in_a_step_ends_the_thread():
    def schedule(step):
        return 1 / (5 - step)

    with pytest.raises(ZeroDivisionError):
        run(schedule=schedule)


@pytest.mark.parametrize("steps", [(1,), (BATCHES - 1,), (BATCHES + 2,), (2, 2)])
def test_ctrl_c_ends_the_thread_and_the_run_goes_on_with_the_same_images(tmp_path, steps):
    whole, whole_history = run()

    def schedule(step):
        for _ in range(steps.count(step)):
            signal.raise_signal(signal.SIGINT)
        return 1.0

    try:
        _, first = run(schedule=schedule, out=tmp_path)
        assert first.interrupted
    except KeyboardInterrupt:
        assert len(steps) == 2
    saved = (tmp_path / "last.npz").exists()
    assert saved == (len(steps) == 1)
    model, history = run(out=tmp_path, resume=saved)
    assert_same_state(model, whole)
    assert without_times(history) == without_times(whole_history)


def test_each_batch_is_changed_by_chance_of_its_own():
    drawn = []

    def watched(images, rng):
        drawn.append(rng.random())
        return images

    run(replace(data(), augment=watched))
    warm_up, *batches = drawn
    assert warm_up == batches[0]
    assert len(batches) == len(set(batches)) == EPOCHS * BATCHES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augment": Augment(pad=1)}, "augmentation is .*'flip': False.*; the run in .* was made with .*'flip': True"),
        ({"augment": None}, "augmentation is None"),
        ({"transform": abs}, "transform is 'abs'; .* was made with {'mean'"),
    ],
)
def test_resuming_with_other_images_is_refused(tmp_path, change, message):
    run(epochs=1, out=tmp_path)
    with pytest.raises(checkpoint.CheckpointError, match=message):
        run(replace(data(), **change), out=tmp_path, resume=True)


def test_a_run_resumed_with_other_training_images_is_refused(tmp_path):
    run(epochs=1, out=tmp_path)
    other = data().train_images.copy()
    other[7, 0, 0, 0] ^= 64
    transform = type(data().transform).of(other)
    with pytest.raises(checkpoint.CheckpointError, match="transform is"):
        run(replace(data(), train_images=other, transform=transform), out=tmp_path, resume=True)


def test_files_may_lie_elsewhere_when_a_run_is_resumed(tmp_path):
    whole, _ = run()
    run(replace(data(), data_dir="here"), epochs=1, out=tmp_path)
    model, _ = run(replace(data(), data_dir="there"), out=tmp_path, resume=True)
    assert_same_state(model, whole)
    assert checkpoint.load_place(tmp_path / "last.npz").config["data_dir"] == "there"
