"""Data sets and how they are cut into batches."""

import re
import sys

import numpy as np
import pytest
from training_helpers import small_data

from numbabn.training import Dataset, batches, digits


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
    ],
)
def test_bad_data_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Dataset(**{**vars(small_data()), **change})


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
