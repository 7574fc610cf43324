"""Data sets read from files: what is in them is what one gets, and no bad file gets through."""

import gzip
import re
import struct
import tracemalloc

import numpy as np
import pytest
from data_files import CIFAR10, CIFAR100, IDX, idx, write_cifar10, write_cifar100, write_idx

from numbabn.training import DataError, cifar10, cifar100, fashion_mnist, mnist

IMAGES, LABELS = IDX[:2]
LARGEST = 2**32 - 1


def assert_same(data, parts):
    train_images, train_labels, test_images, test_labels = parts
    for images, labels, expected, expected_labels in (
        (data.train_images, data.train_labels, train_images, train_labels),
        (data.test_images, data.test_labels, test_images, test_labels),
    ):
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, expected if expected.ndim == 4 else expected[:, None])
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, expected_labels)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw"])
def test_mnist_is_read_in_any_spelling_and_layout(tmp_path, place, packed, dotted):
    parts = write_idx(tmp_path / place, packed, dotted)
    data = mnist(tmp_path)
    assert_same(data, parts)
    assert (data.name, data.classes, data.data_dir) == ("mnist", 10, str(tmp_path))
    assert data.augment is None


def test_both_sets_lie_side_by_side(tmp_path):
    """In the folder that torchvision keeps, with files of the same names."""
    parts = write_idx(tmp_path / "FashionMNIST" / "raw")
    write_idx(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / IMAGES).write_bytes(idx(255 - parts[0]))
    assert_same(fashion_mnist(tmp_path), parts)
    assert_same(mnist(tmp_path), [255 - parts[0], *parts[1:]])
    assert fashion_mnist(tmp_path).augment.settings() == {"pad": 0, "flip": True}


@pytest.mark.parametrize(
    ("read", "write", "place", "classes"),
    [
        (cifar10, write_cifar10, "cifar-10-batches-bin", 10),
        (cifar10, write_cifar10, "", 10),
        (cifar100, write_cifar100, "cifar-100-binary", 100),
        (cifar100, write_cifar100, "", 100),
    ],
)
def test_cifar_is_read(tmp_path, read, write, place, classes):
    parts = write(tmp_path / place)
    data = read(tmp_path)
    assert_same(data, parts)
    assert (data.name, data.classes) == (read.__name__, classes)
    assert data.augment.settings() == {"pad": 4, "flip": True}


def test_images_are_normalised_by_the_training_part(tmp_path):
    train_images, _, test_images, _ = write_cifar10(tmp_path)
    data = cifar10(tmp_path)
    given = data.transform(data.test_images)
    assert given.dtype == np.float32
    mean, std = train_images.mean((0, 2, 3), keepdims=True), train_images.std((0, 2, 3), keepdims=True)
    largest = np.abs((test_images - mean) / std).max()
    np.testing.assert_allclose(given, (test_images - mean) / std, atol=4 * np.finfo(np.float32).eps * largest)


def spoilt(name, change):
    """A function that changes the bytes of a file in a folder."""

    def spoil(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return spoil


def header(count, rows=28, columns=28):
    return lambda content: struct.pack(">4B3I", 0, 0, 8, 3, count, rows, columns) + content[16:]


def with_byte(position, value):
    return lambda content: content[:position] + bytes([value]) + content[position + 1 :]


def with_bad_checksum(content):
    packed = gzip.compress(content)
    return packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]


BAD_IDX = {
    "empty": (IMAGES, lambda content: b"", "is truncated: it ends within its header"),
    "short header": (IMAGES, lambda content: content[:9], "is truncated: it ends within its header"),
    "text": (IMAGES, lambda content: b"<!DOCTYPE html>", "starts with the bytes 3c21444f; expected 00000803"),
    "labels for images": (IMAGES, lambda content: idx(np.zeros(40, np.uint8)), "bytes 00000801; expected 00000803"),
    "floats": (IMAGES, with_byte(2, 0x0D), "starts with the bytes 00000d03; expected 00000803"),
    "other size": (IMAGES, header(40, 32, 32), "has images of 32x32; expected 28x28"),
    "none": (IMAGES, header(0), "announces 0 entries; expected 1 to 70,000"),
    "far too many": (IMAGES, header(LARGEST), "announces 4,294,967,295 entries; expected 1 to 70,000"),
    "one more announced": (IMAGES, header(41), "is truncated: it has 31,360 of the 32,144 bytes"),
    "one less announced": (IMAGES, header(39), "has more than the 30,576 bytes"),
    "truncated": (IMAGES, lambda content: content[:-1], "is truncated: it has 31,359 of the 31,360 bytes"),
    "trailing": (IMAGES, lambda content: content + b"\0", "has more than the 31,360 bytes that its header announces"),
    "fewer labels": (
        LABELS,
        lambda content: idx(np.zeros(39, np.uint8)),
        f"has 39 labels for the 40 images of {IMAGES}",
    ),
    "label": (LABELS, with_byte(47, 10), "has a label 10; expected 0 to 9"),
    "gzip header only": (IMAGES, lambda content: gzip.compress(content)[:5], "is damaged"),
    "gzip truncated": (IMAGES, lambda content: gzip.compress(content)[:-100], "is damaged"),
    "gzip without its end": (IMAGES, lambda content: gzip.compress(content)[:-4], "is damaged"),
    "gzip of no known kind": (IMAGES, lambda content: with_byte(10, 0xFF)(gzip.compress(content)), "is damaged"),
    "gzip damaged": (IMAGES, lambda content: with_byte(3000, 0xFF)(gzip.compress(content)), "is damaged"),
    "gzip checksum": (IMAGES, with_bad_checksum, "is damaged"),
    "gzip trailing": (IMAGES, lambda content: gzip.compress(content) + b"more", "is damaged"),
}


@pytest.mark.parametrize("kind", BAD_IDX)
def test_bad_idx_files_are_refused(tmp_path, kind):
    name, change, message = BAD_IDX[kind]
    write_idx(tmp_path)
    spoilt(name, change)(tmp_path)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        mnist(tmp_path)
    shown = str(caught.value)
    assert shown.startswith(str(tmp_path / name))
    assert shown.endswith("; MNIST can be had from https://github.com/cvdfoundation/mnist")
    assert "\n" not in shown


def cut(content):
    return content[:-1]


BAD_CIFAR = {
    "empty": (
        cifar10,
        "data_batch_3.bin",
        lambda content: b"",
        "is damaged: it has 0 bytes; expected a multiple of 3,073",
    ),
    "truncated": (cifar10, "test_batch.bin", cut, "is damaged: it has 61,459 bytes; expected a multiple of 3,073"),
    "trailing": (cifar100, "train.bin", lambda content: content + b"\0", "bytes; expected a multiple of 3,074"),
    "label": (cifar10, "data_batch_1.bin", with_byte(0, 10), "has a label 10; expected 0 to 9"),
    "superclass": (cifar100, "train.bin", with_byte(0, 20), "has a label 20; expected 0 to 19"),
    "class": (cifar100, "test.bin", with_byte(1, 100), "has a label 100; expected 0 to 99"),
    "other set": (
        cifar100,
        "test.bin",
        lambda content: bytes(3073),
        "it has 3,073 bytes; expected a multiple of 3,074",
    ),
}


@pytest.mark.parametrize("kind", BAD_CIFAR)
def test_bad_cifar_files_are_refused(tmp_path, kind):
    read, name, change, message = BAD_CIFAR[kind]
    (write_cifar10 if read is cifar10 else write_cifar100)(tmp_path)
    spoilt(name, change)(tmp_path)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read(tmp_path)
    shown = str(caught.value)
    assert shown.startswith(str(tmp_path / name))
    assert shown.endswith("https://www.cs.toronto.edu/~kriz/cifar.html")
    assert "\n" not in shown


def test_every_truncation_in_gzip_is_refused(tmp_path):
    write_idx(tmp_path, packed=True)
    path = tmp_path / f"{LABELS}.gz"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            mnist(tmp_path)


def test_no_more_is_unpacked_than_the_header_announces(tmp_path):
    """Many zeros behind the header, in a small file."""
    write_idx(tmp_path)
    bomb = gzip.compress(bytes(2**27), compresslevel=1)
    for count, message in ((10, "has more than"), (LARGEST, "announces 4,294,967,295")):
        (tmp_path / IMAGES).write_bytes(gzip.compress(header(count)(b"")) + bomb)
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match=message):
                mnist(tmp_path)
            assert tracemalloc.get_traced_memory()[1] < 2**23
        finally:
            tracemalloc.stop()


def test_a_large_cifar_file_is_not_read(tmp_path):
    """A sparse file, of which the disk holds nearly nothing."""
    write_cifar10(tmp_path)
    with open(tmp_path / CIFAR10[0], "r+b") as file:
        file.truncate(3073 * 60_001)
    with pytest.raises(DataError, match="has 184,383,073 bytes; expected at most 184,380,000, 60,000 images"):
        cifar10(tmp_path)


@pytest.mark.parametrize("read", [mnist, fashion_mnist, cifar10, cifar100])
def test_a_missing_folder_is_named(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder; .* can be had from https://"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("read", "write", "names"),
    [(mnist, write_idx, IDX), (cifar10, write_cifar10, CIFAR10), (cifar100, write_cifar100, CIFAR100)],
)
def test_a_missing_file_is_named(tmp_path, read, write, names):
    write(tmp_path)
    for name in names:
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError, match=rf"^{name} is not in .*; .* can be had from https://"):
            read(tmp_path)
        (tmp_path / name).write_bytes(content)
    read(tmp_path)


def test_an_empty_folder_lists_where_was_looked(tmp_path):
    (tmp_path / "cifar-10-batches-bin").mkdir()
    with pytest.raises(FileNotFoundError, match=f"is not in {tmp_path}/cifar-10-batches-bin nor in {tmp_path};"):
        cifar10(tmp_path)


@pytest.mark.parametrize(
    ("load", "there"),
    [(cifar10, "cifar-10-batches-py"), (cifar10, "data_batch_1"), (cifar100, "cifar-100-python"), (cifar100, "meta")],
)
def test_the_version_for_python_is_named(tmp_path, load, there):
    (tmp_path / there).mkdir()
    with pytest.raises(FileNotFoundError, match=r"\(what is there is the version for Python, pickles, which are not"):
        load(tmp_path)
