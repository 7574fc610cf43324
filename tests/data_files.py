"""Tiny files in the formats of the published data sets."""

import gzip
import struct

import numpy as np

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR10 = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
CIFAR100 = ("train.bin", "test.bin")
COUNTS = (40, 20)
"""Training and test images."""


def idx(array):
    """An array of bytes as an IDX file."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def part(count, *shape, classes=10, seed=0):
    """Images with a bright band for each class in noise, and their labels."""
    rng = np.random.default_rng([count, seed])
    labels = (np.arange(count) % classes).astype(np.uint8)
    images = rng.integers(0, 100, (count, *shape), np.uint8)
    images[np.arange(count), ..., 2 * (labels % 10)] += 150
    return images, labels


def write_idx(folder, packed=False, dotted=False):
    """The four files of MNIST or Fashion-MNIST; returns training and test images and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [*part(COUNTS[0], 28, 28), *part(COUNTS[1], 28, 28)]
    for name, array in zip(IDX, parts, strict=True):
        name = name.replace("-idx", ".idx") if dotted else name
        content = gzip.compress(idx(array)) if packed else idx(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(content)
    return parts


def write_cifar(folder, names, *label_classes):
    """Files of CIFAR with one label for each of ``label_classes``, the last of which is the test part."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for count, files in zip(COUNTS, (names[:-1], names[-1:]), strict=True):
        images, labels = part(count, 3, 32, 32, classes=label_classes[-1])
        columns = [labels % classes for classes in label_classes]
        records = np.column_stack([*columns, images.reshape(count, -1)])
        for name, rows in zip(files, np.array_split(records, len(files)), strict=True):
            (folder / name).write_bytes(rows.tobytes())
        parts += [images, labels]
    return parts


def write_cifar10(folder):
    """The six files of CIFAR-10."""
    return write_cifar(folder, CIFAR10, 10)


def write_cifar100(folder):
    """The two files of CIFAR-100."""
    return write_cifar(folder, CIFAR100, 20, 100)
