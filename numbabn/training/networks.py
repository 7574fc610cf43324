"""Networks by name, as ``numbabn train`` has them."""

from functools import partial

from .. import nn
from ..nn.blocks import LEAST_IMAGE
from .data import Dataset
from .folders import DataError

RESNETS = {f"resnet{depth}": depth for depth in (8, 20, 32, 56)}
NAMES = ("small-cnn", "mlp", *RESNETS)


def build(name: str, data: Dataset, *, batch_norm=True, placement="before", dropout=0.0, seed=0) -> nn.Module:
    """A network for the shape and the classes of a data set.

    Parameters
    ----------
    name : {"small-cnn", "mlp", "resnet8", "resnet20", "resnet32", "resnet56"}
        :class:`~numbabn.nn.SmallCNN`, :class:`~numbabn.nn.MLP` or :class:`~numbabn.nn.ResNet`, as wide as they are by
        default.
    data : Dataset
        With images of shape ``(C, H, W)``.
    batch_norm : bool, default True
        Whether there is any.
    placement : {"before", "after"}
        Whether it comes before or after the activation.
    dropout : float, default 0.0
        Where each network drops values is told by its class.
    seed : int, default 0
        For the initial weights and for dropout.

    Raises
    ------
    DataError
        If the images are too small for the network.

    Examples
    --------
    >>> from numbabn.training import synthetic
    >>> data = synthetic(classes=4, channels=2, height=8, width=6, train=10, test=10)
    >>> build("resnet8", data).count_parameters(), build("mlp", data, batch_norm=False).in_features
    (74756, 96)
    """
    channels, height, width = data.train_images.shape[1:]
    if name != "mlp" and min(height, width) < LEAST_IMAGE:
        least = f"{LEAST_IMAGE}x{LEAST_IMAGE}"
        raise DataError(f"{data.name} has images of {height}x{width}; {name} needs at least {least}")
    if name == "mlp":
        make = partial(nn.MLP, channels * height * width)
    elif name in RESNETS:
        make = partial(nn.ResNet, RESNETS[name], channels)
    else:
        make = partial(nn.SmallCNN, channels)
    norm = "batch" if batch_norm else None
    return make(data.classes, norm=norm, placement=placement, dropout=dropout, seed=seed)
