"""Images changed at random, normalised and made up."""

import numpy as np
import pytest

from numbabn import nn
from numbabn.training import Augment, Normalize, fit, synthetic


def images(count=200, height=6, width=9):
    """Bytes, none of them 0, no two images or columns alike."""
    return np.random.default_rng(0).integers(1, 256, (count, 3, height, width), np.uint8)


def changed(augment, given, seed=1):
    return augment(given, np.random.default_rng(seed))


@pytest.mark.parametrize("augment", [Augment(), Augment(pad=2), Augment(flip=True), Augment(pad=4, flip=True)])
def test_shape_dtype_and_the_given_images_stay(augment):
    given = images()
    before = given.copy()
    out = changed(augment, given)
    assert out.shape == given.shape
    assert out.dtype == given.dtype
    np.testing.assert_array_equal(given, before)
    np.testing.assert_array_equal(changed(augment, given), out)
    assert changed(augment, given.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("pad", [1, 4])
def test_crops_come_from_the_framed_image(pad):
    """From every place in it, about equally often."""
    given = images()
    framed = np.pad(given, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    places = np.zeros((2 * pad + 1, 2 * pad + 1))
    for image, out in zip(framed, changed(Augment(pad=pad), given), strict=True):
        found = [
            (top, left)
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
            if (image[:, top : top + 6, left : left + 9] == out).all()
        ]
        assert len(found) == 1
        places[found[0]] += 1
    for axis in (0, 1):
        share = places.sum(axis) / len(given)
        deviation = np.sqrt(share.mean() / len(given))
        np.testing.assert_allclose(share, 1 / (2 * pad + 1), atol=4 * deviation)


def test_half_of_the_images_are_mirrored():
    given = images()
    out = changed(Augment(flip=True), given)
    mirrored = np.array([(a == b[..., ::-1]).all() for a, b in zip(out, given, strict=True)])
    same = np.array([(a == b).all() for a, b in zip(out, given, strict=True)])
    np.testing.assert_array_equal(mirrored, ~same)
    assert abs(mirrored.mean() - 0.5) < 4 * np.sqrt(0.25 / len(given))


def test_another_seed_changes_images_otherwise():
    augment = Augment(pad=4, flip=True)
    assert (changed(augment, images(), seed=1) != changed(augment, images(), seed=2)).any()


def test_normalised_images_have_mean_0_and_variance_1():
    given = images(count=3000)  # more than are counted at a time
    normalize = Normalize.of(given)
    np.testing.assert_allclose(normalize.mean, given.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(normalize.std, given.std((0, 2, 3)), rtol=1e-12)
    out = normalize(given)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.mean((0, 2, 3), dtype=np.float64), 0, atol=np.finfo(np.float32).eps)
    np.testing.assert_allclose(out.var((0, 2, 3), dtype=np.float64), 1, atol=4 * np.finfo(np.float32).eps)


def test_a_channel_of_one_value_becomes_0():
    given = images()
    given[:, 1] = 37
    assert (Normalize.of(given)(given)[:, 1] == 0).all()


@pytest.mark.parametrize("given", [np.zeros((2, 1, 4, 4)), np.zeros((2, 4, 4), np.uint8)])
def test_only_images_of_bytes_have_a_normalisation(given):
    with pytest.raises(ValueError, match=r"images are .*; expected uint8 of 4, \(N, C, H, W\)"):
        Normalize.of(given)


SMALL = {"classes": 3, "channels": 2, "height": 10, "width": 12, "train": 1500, "test": 40}


def test_synthetic_images_have_the_size_asked_for():
    data = synthetic(**SMALL)
    assert data.train_images.shape == (1500, 2, 10, 12)
    assert data.test_images.shape == (40, 2, 10, 12)
    assert data.train_images.dtype == np.uint8
    assert data.classes == 3
    assert np.bincount(data.train_labels).tolist() == [500, 500, 500]
    assert np.bincount(data.test_labels).tolist() == [14, 13, 13]


def test_the_seed_decides_synthetic_images():
    a, again, other = (synthetic(**SMALL, seed=seed) for seed in (0, 0, 1))
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(a, name), getattr(again, name))
    assert (a.train_images != other.train_images).any()
    assert len(np.unique(a.train_images, axis=0)) == 1500


def test_without_noise_an_image_is_its_pattern_rolled():
    data = synthetic(**SMALL, noise=0)
    for label in range(3):
        first, second = data.train_images[data.train_labels == label][:2]
        rolled = [np.roll(first, (dy, dx), (1, 2)) for dy in range(10) for dx in range(12)]
        assert any((image == second).all() for image in rolled)


def test_synthetic_images_can_be_learnt_but_not_by_a_linear_classifier():
    data = synthetic(classes=4, channels=1, height=12, width=12, train=400, test=200, noise=0.5)
    cnn = nn.SmallCNN(1, 4, width=8)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(144, 4, rng=np.random.default_rng(0)))
    accuracy = []
    for model, rate in ((cnn, 0.1), (linear, 0.01)):
        optimizer = nn.SGD(model, rate, momentum=0.9)
        accuracy.append(fit(model, data, optimizer, epochs=6, batch_size=50, progress=False).best.test_accuracy)
    assert accuracy[0] > 0.8
    assert accuracy[1] < 0.5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"classes": 1}, ValueError, "classes is 1; expected at least 2"),
        ({"train": 0}, ValueError, "train is 0; expected at least 1"),
        ({"width": 2.5}, TypeError, "width is 2.5; expected an integer"),
        ({"noise": -1}, ValueError, "noise is -1; expected a number at least 0"),
    ],
)
def test_impossible_synthetic_images_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        synthetic(**{**SMALL, **change})
