"""Shapes to measure, by name or as written on the command line."""

import re

NAMED = {
    "resnet50": [
        (32, 64, 112, 112),
        (32, 64, 56, 56),
        (32, 256, 56, 56),
        (32, 128, 28, 28),
        (32, 512, 28, 28),
        (32, 256, 14, 14),
        (32, 1024, 14, 14),
        (32, 512, 7, 7),
        (32, 2048, 7, 7),
    ],
    "1d": [(1_000_000, 8), (64, 4096), (100_000, 32)],
    "tiny": [(8, 16, 8, 8), (32, 10)],
}
"""Lists of shapes, written (N, C, H, W) or (N, C) whatever the layout: those of ResNet-50 at batch size 32, tall and
wide ones of BatchNorm1d, and two where the call itself costs more than the arithmetic."""

LAYOUTS = ("NCHW", "NHWC")


def parse(text: str) -> list[tuple[int, ...]]:
    """Shapes from names and sizes, each once, in the order given.

    Parameters
    ----------
    text : str
        Names of lists and shapes, parted by commas; a shape is written channels-first, its sizes parted by ``x``.

    Raises
    ------
    ValueError
        For an unknown name, a shape that does not have 2 or 4 sizes, or fewer than two values per channel.

    Examples
    --------
    >>> parse("tiny,32x64x56x56")
    [(8, 16, 8, 8), (32, 10), (32, 64, 56, 56)]
    """
    shapes = {}
    for word in text.split(","):
        word = word.strip()
        if word in NAMED:
            shapes |= dict.fromkeys(NAMED[word])
        elif re.fullmatch(r"\d+x\d+(x\d+x\d+)?", word):
            shapes[_sized(word)] = None
        else:
            known = ", ".join(NAMED)
            raise ValueError(f"shape {word!r} is unknown; expected {known}, or sizes such as 32x64x56x56 or 64x4096")
    return list(shapes)


def _sized(word):
    shape = tuple(map(int, word.split("x")))
    count = shape[0]
    for size in shape[2:]:
        count *= size
    if shape[1] < 1 or count < 2:
        raise ValueError(f"shape {word!r} has {count} values per channel; expected at least 2, and a channel")
    return shape


def layouts_of(shape: tuple[int, ...], layouts) -> tuple[str, ...]:
    """The layouts among ``layouts`` that a shape is measured in: (N, C) has one of its own.

    Examples
    --------
    >>> layouts_of((64, 4096), ["NHWC"]), layouts_of((8, 16, 8, 8), ["NHWC"])
    (('NC',), ('NHWC',))
    """
    return ("NC",) if len(shape) == 2 else tuple(layouts)
