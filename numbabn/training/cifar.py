"""CIFAR-10 and CIFAR-100: colour images of 32 x 32, from their binary versions.

A file is a row of records: one label (CIFAR-100: that of the superclass, then that of the class), and the image's red,
green and blue planes, a byte for each value. It has no header: its size tells how many there are.
"""

import os

import numpy as np

from .augment import Augment
from .data import Dataset
from .folders import Source
from .normalize import Normalize

SHAPE = (3, 32, 32)
VALUES = 3 * 32 * 32
LIMIT = 60_000
"""Images that either data set has in all; a larger file is not theirs."""
AUGMENT = Augment(pad=4, flip=True)

PICKLED10, PICKLED100 = ("cifar-10-batches-py", "data_batch_1"), ("cifar-100-python", "meta")
HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
CIFAR10 = Source("CIFAR-10 (cifar-10-binary.tar.gz, to be unpacked)", HOME, ("cifar-10-batches-bin",), PICKLED10)
CIFAR100 = Source("CIFAR-100 (cifar-100-binary.tar.gz, to be unpacked)", HOME, ("cifar-100-binary",), PICKLED100)


def cifar10(folder) -> Dataset:
    """Photographs of animals and vehicles: 50,000 training and 10,000 test images of ``(3, 32, 32)``, ten classes.

    A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009.

    Parameters
    ----------
    folder : str or os.PathLike
        Has ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``, or has them in
        ``cifar-10-batches-bin``. They may hold fewer images. The version for Python is not read: it is made of pickles.

    Returns
    -------
    Dataset
        Images are uint8, with a transform that normalises them; in training they are shifted by up to 4 pixels and
        mirrored at random.

    Raises
    ------
    DataError
        If a file is damaged or is not one of the data set's.
    OSError
        If the folder or a file is missing or cannot be read.
    """
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    return _read(CIFAR10, folder, "cifar10", names, (10,))


def cifar100(folder) -> Dataset:
    """As :func:`cifar10`, with a hundred classes.

    Parameters
    ----------
    folder : str or os.PathLike
        Has ``train.bin`` and ``test.bin``, or has them in ``cifar-100-binary``.

    Returns
    -------
    Dataset
        As from :func:`cifar10`; labels are the classes, not the twenty superclasses.

    Raises
    ------
    DataError, OSError
        As :func:`cifar10` does.
    """
    return _read(CIFAR100, folder, "cifar100", ["train.bin", "test.bin"], (20, 100))


def _read(source, folder, name, names, classes):
    """Images of the files, the last of which is the test part. Each record has a label for each of ``classes``."""
    *train, test = source.find(folder, *((name,) for name in names))
    train_images, train_labels = _read_part(source, train, classes)
    test_images, test_labels = _read_part(source, [test], classes)
    return Dataset(
        train_images,
        train_labels,
        test_images,
        test_labels,
        name=name,
        classes=classes[-1],
        transform=Normalize.of(train_images),
        augment=AUGMENT,
        data_dir=str(folder),
    )


def _read_part(source, paths, classes):
    records = [_read_file(source, path, classes) for path in paths]
    images = np.concatenate([record[:, len(classes) :] for record in records])
    labels = np.concatenate([record[:, len(classes) - 1] for record in records])
    return images.reshape(-1, *SHAPE), labels.astype(np.int64)


def _read_file(source, path, classes):
    """The records of a file as rows; its size is checked before it is read."""
    width = len(classes) + VALUES
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0 or size % width:
            raise source.error(path, f"is damaged: it has {size:,} bytes; expected a multiple of {width:,}")
        if size > LIMIT * width:
            raise source.error(path, f"has {size:,} bytes; expected at most {LIMIT * width:,}, {LIMIT:,} images")
        data = file.read(size)
    if len(data) != size:
        raise source.error(path, "has changed while it was read")
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, width)
    for column, count in enumerate(classes):
        if (label := records[:, column].max()) >= count:
            raise source.error(path, f"has a label {label}; expected 0 to {count - 1}")
    return records
