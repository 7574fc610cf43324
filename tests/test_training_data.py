"""Data sets and how they are cut into batches."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from data_files import write_cifar10, write_cifar100, write_idx
from training_helpers import small_data, small_model

from numbabn import nn
from numbabn.training import Dataset, batches, digits, evaluate, load_dataset, predict, sources, synthetic


def test_digits_are_the_images_of_scikit_learn():
    from sklearn.datasets import load_digits

    data, source = digits(seed=3), load_digits()
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.float32
    assert images.min() == 0.0
    assert images.max() == 1.0

    def sorted_rows(pixels, target):
        rows = np.column_stack([pixels.reshape(len(pixels), -1), target])
        return rows[np.lexsort(rows.T)]

    np.testing.assert_array_equal(sorted_rows(images, labels), sorted_rows(source.data / 16, source.target))


def test_digits_are_split_by_class_and_seed():
    a, again, other = digits(seed=0), digits(seed=0), digits(seed=1)
    np.testing.assert_array_equal(a.test_images, again.test_images)
    assert a.test_images.shape != other.test_images.shape or (a.test_images != other.test_images).any()
    classes = np.bincount(np.concatenate([a.train_labels, a.test_labels]))
    np.testing.assert_allclose(np.bincount(a.test_labels), 0.2 * classes, atol=0.5)


def test_digits_in_double_precision():
    assert digits(dtype=np.float64).test_images.dtype == np.float64


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=re.escape('pip install "numbabn[train]"')):
        digits()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((0, 1, 4, 4), np.float32)}, "train_images is empty"),
        ({"train_labels": np.zeros(59, int)}, r"train_labels has shape \(59,\); expected \(60,\)"),
        ({"test_labels": np.zeros((20, 1), int)}, r"test_labels has shape \(20, 1\); expected \(20,\)"),
        ({"test_images": np.zeros((20, 1, 4, 5), np.float32)}, r"of shape \(1, 4, 5\); expected .* \(1, 4, 4\)"),
        ({"test_images": np.zeros((20, 1, 4, 4))}, "test_images are float64"),
        ({"classes": 3}, "labels go from 0 to 3; expected 0 to 2"),
        ({"test_labels": np.full(20, -1)}, "labels go from -1 to 3; expected 0 to 3"),
    ],
)
def test_bad_data_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Dataset(**{**vars(small_data()), **change})


def test_classes_are_counted_or_told():
    data = small_data()
    assert data.classes == 4
    assert replace(data, classes=7).classes == 7


def test_a_batch_is_what_the_arrays_hold():
    data, indices = small_data(), np.array([5, 0, 7])
    images, labels = data.train_batch(indices, np.random.default_rng(0))
    np.testing.assert_array_equal(images, data.train_images[indices])
    np.testing.assert_array_equal(labels, data.train_labels[indices])


def test_a_batch_is_augmented_and_then_transformed():
    data = replace(small_data(), augment=lambda images, rng: images + rng.random(), transform=lambda images: 2 * images)
    indices = np.array([5, 0, 7])
    images, _ = data.train_batch(indices, np.random.default_rng(0))
    expected = 2 * (data.train_images[indices] + np.random.default_rng(0).random())
    np.testing.assert_array_equal(images, expected)


def test_evaluate_transforms_what_the_model_is_given():
    data, model = small_data(), small_model()
    halves = evaluate(model, data.test_images / 2, data.test_labels, transform=lambda images: 2 * images)
    assert halves == evaluate(model, data.test_images, data.test_labels)
    assert halves != evaluate(model, data.test_images / 2, data.test_labels)


@pytest.mark.parametrize("name", sources.NAMES)
def test_every_name_gives_the_data_set_of_that_name(tmp_path, name):
    writers = {"cifar10": write_cifar10, "cifar100": write_cifar100}
    folder = tmp_path if name in sources.FROM_FILES else None
    writers.get(name, write_idx)(tmp_path)
    data = load_dataset(name, folder, seed=3)
    assert data.name == name
    assert data.data_dir == (folder and str(folder))
    assert load_dataset(name, folder, augment=False).augment is None


def test_the_seed_reaches_data_that_depend_on_it():
    np.testing.assert_array_equal(load_dataset("digits", seed=3).test_images, digits(3).test_images)
    np.testing.assert_array_equal(load_dataset("synthetic", seed=3).test_images, synthetic(seed=3).test_images)


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("mnits", None, "name is 'mnits'; expected one of digits, mnist, fashion-mnist, cifar10, cifar100, synthetic"),
        ("mnist", None, "data_dir is None; expected, for mnist, the folder with its files"),
        ("digits", "here", "data_dir is 'here'; expected, for digits, None"),
    ],
)
def test_names_and_folders_that_do_not_fit_are_refused(name, folder, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(name, folder)


@pytest.mark.parametrize("count", [1, 7, 64, 65, 1438])
@pytest.mark.parametrize("batch_size", [1, 6, 64, 2000])
def test_batches_hold_every_image_once_in_even_parts(count, batch_size):
    parts = batches.shuffled(count, batch_size, seed=0, epoch=4)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(count))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return np.concatenate(batches.shuffled(100, 7, seed, epoch)).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_chance_is_each_batch_s_own():
    def drawn(*place):
        return tuple(batches.generator(*place).integers(0, 1 << 30, 4))

    places = [(seed, epoch, batch) for seed in range(3) for epoch in range(3) for batch in range(3)]
    assert [drawn(*place) for place in places] == [drawn(*place) for place in places]
    orders = [tuple(np.random.default_rng([seed, epoch]).integers(0, 1 << 30, 4)) for seed, epoch, _ in places[::3]]
    assert len({*(drawn(*place) for place in places), *orders}) == 27 + 9


def test_predictions_are_those_of_all_images_and_kept():
    data, model = digits(), nn.SmallCNN()
    images = np.ascontiguousarray(data.test_images[:50])
    expected = model.forward(images, training=False).copy()
    found = predict(model, images / 2, batch_size=7, transform=lambda batch: 2 * batch)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert found.shape == (50, 10)
    for function in (lambda x: predict(model, x), lambda x: evaluate(model, x, np.arange(0))):
        with pytest.raises(ValueError, match="images is empty; expected at least one image"):
            function(images[:0])
    with pytest.raises(ValueError, match=r"labels has shape \(49,\); expected \(50,\), one for each image"):
        evaluate(model, images, data.test_labels[:49])
    with pytest.raises(ValueError, match="batch_size is 0; expected at least 1"):
        predict(model, images, batch_size=0)


def test_a_data_set_is_told_in_a_line():
    images = np.zeros((3, 1, 4, 4), np.float32)
    data = Dataset(images, [0, 1, 2], images, [0, 1, 2], name="mine")
    assert repr(data) == "Dataset('mine', 3 + 3 images (1, 4, 4) float32, 3 classes)"
