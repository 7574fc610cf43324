"""Data sets by name, as ``numbabn train`` has them."""

from dataclasses import replace

from .cifar import cifar10, cifar100
from .data import Dataset, digits
from .idx import fashion_mnist, mnist
from .synthetic import synthetic

FROM_FILES = {"mnist": mnist, "fashion-mnist": fashion_mnist, "cifar10": cifar10, "cifar100": cifar100}
NAMES = ("digits", *FROM_FILES, "synthetic")


def load_dataset(name: str, data_dir=None, *, seed: int = 0, augment: bool = True) -> Dataset:
    """A data set by its name.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "synthetic"}
        See the functions of these names.
    data_dir : str or os.PathLike, optional
        Folder with the files; needed for all but the digits and synthetic images, which have none.
    seed : int, default 0
        Of the digits' split and of synthetic images; the others come split.
    augment : bool, default True
        Whether training images are changed at random, where that suits the data set.

    Raises
    ------
    ValueError
        If there is no such data set, or ``data_dir`` does not go with it. As DataError, if a file is damaged.
    OSError
        If the folder or a file is missing or cannot be read.
    ImportError
        If a package is missing that the digits need.

    Examples
    --------
    >>> load_dataset("synthetic").train_images.shape
    (4000, 3, 32, 32)
    """
    if name not in NAMES:
        raise ValueError(f"name is {name!r}; expected one of {', '.join(NAMES)}")
    if (data_dir is not None) != (name in FROM_FILES):
        needs = "the folder with its files" if data_dir is None else "None, as it is read from no files"
        raise ValueError(f"data_dir is {data_dir!r}; expected, for {name}, {needs}")
    if name in FROM_FILES:
        data = FROM_FILES[name](data_dir)
    else:
        data = digits(seed) if name == "digits" else synthetic(seed=seed)
    return data if augment else replace(data, augment=None)
