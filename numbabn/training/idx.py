"""MNIST and Fashion-MNIST: gray images of 28 x 28 in IDX files.

An IDX file is a magic number (two zero bytes, the type of its values, its number of axes), the length of each axis as
32 bits, most significant byte first, and the values.
"""

import gzip
import math
import zlib

import numpy as np

from .augment import Augment
from .data import Dataset
from .folders import Source
from .normalize import Normalize

CLASSES = 10
SIDE = 28
LIMIT = 70_000
"""Images that either data set has in all; a file that announces more is not believed."""
UNSIGNED_BYTES = 8
GZIP = b"\x1f\x8b"

MNIST = Source("MNIST", "https://github.com/cvdfoundation/mnist", ("MNIST/raw", "raw"))
FASHION = Source("Fashion-MNIST", "https://github.com/zalandoresearch/fashion-mnist", ("FashionMNIST/raw", "raw"))


def mnist(folder) -> Dataset:
    """Handwritten digits: 60,000 training and 10,000 test images of shape ``(1, 28, 28)``, ten classes.

    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-Based Learning Applied to Document Recognition, Proceedings of
    the IEEE 86, 1998.

    Parameters
    ----------
    folder : str or os.PathLike
        Has ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the two ``t10k`` files, as they are or in gzip,
        or has them in ``MNIST/raw``. They may hold fewer images.

    Returns
    -------
    Dataset
        Images are uint8, with a transform that normalises them.

    Raises
    ------
    DataError
        If a file is damaged or is not one of the data set's.
    OSError
        If the folder or a file is missing or cannot be read.
    """
    return _read(MNIST, folder, "mnist", None)


def fashion_mnist(folder) -> Dataset:
    """Pieces of clothing: as many images as :func:`mnist`, of the same shape, and mirrored at random in training.

    H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms,
    2017, arXiv:1708.07747.

    Parameters
    ----------
    folder : str or os.PathLike
        As for :func:`mnist`, whose files have the same names; the sub-folder is ``FashionMNIST/raw``.

    Returns
    -------
    Dataset
        Images are uint8, with a transform that normalises them.

    Raises
    ------
    DataError, OSError
        As :func:`mnist` does.
    """
    return _read(FASHION, folder, "fashion-mnist", Augment(flip=True))


def _read(source, folder, name, augment):
    wanted = [_spellings(part, kind) for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    paths = source.find(folder, *wanted)
    train_images, train_labels = _read_part(source, *paths[:2])
    test_images, test_labels = _read_part(source, *paths[2:])
    return Dataset(
        train_images,
        train_labels,
        test_images,
        test_labels,
        name=name,
        classes=CLASSES,
        transform=Normalize.of(train_images),
        augment=augment,
        data_dir=str(folder),
    )


def _spellings(part, kind):
    names = [f"{part}-{kind}-ubyte", f"{part}-{kind.replace('-idx', '.idx')}-ubyte"]
    return (*names, *(f"{name}.gz" for name in names))


def _read_part(source, images_path, labels_path):
    images = _read_file(source, images_path, (SIDE, SIDE))
    labels = _read_file(source, labels_path, ())
    if len(labels) != len(images):
        raise source.error(labels_path, f"has {len(labels)} labels for the {len(images)} images of {images_path.name}")
    if labels.max() >= CLASSES:
        raise source.error(labels_path, f"has a label {labels.max()}; expected 0 to {CLASSES - 1}")
    return images[:, None], labels.astype(np.int64)


def _read_file(source, path, shape):
    """The values of an IDX file, each entry of which has this shape: no more bytes are read than that can be."""
    with open(path, "rb") as file:
        packed = file.read(len(GZIP)) == GZIP
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) if packed else file as stream:
                shape = _read_header(source, path, stream, shape)
                size = math.prod(shape)
                data = stream.read(size + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise source.error(path, f"is damaged ({error})") from error
    if len(data) < size:
        raise source.error(path, f"is truncated: it has {len(data):,} of the {size:,} bytes that its header announces")
    if len(data) > size:
        raise source.error(path, f"has more than the {size:,} bytes that its header announces")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _read_header(source, path, stream, shape):
    """The whole shape that the header announces, which has to end in ``shape``."""
    axes = 1 + len(shape)
    header = stream.read(4 + 4 * axes)
    magic = bytes([0, 0, UNSIGNED_BYTES, axes])
    if header[:4] != magic[: len(header)]:
        raise source.error(path, f"starts with the bytes {header[:4].hex()}; expected {magic.hex()}")
    if len(header) < 4 + 4 * axes:
        raise source.error(path, "is truncated: it ends within its header")
    count, *rest = np.frombuffer(header[4:], dtype=">u4").tolist()
    if tuple(rest) != shape:
        raise source.error(path, f"has images of {'x'.join(map(str, rest))}; expected {'x'.join(map(str, shape))}")
    if not 1 <= count <= LIMIT:
        raise source.error(path, f"announces {count:,} entries; expected 1 to {LIMIT:,}")
    return count, *shape
