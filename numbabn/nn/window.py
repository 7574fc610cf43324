"""The window that a convolution or a pooling moves over an image."""

from typing import NamedTuple


class Window(NamedTuple):
    """Size, stride and padding, and the number of places that the window takes on images of one size."""

    height: int
    width: int
    stride_y: int
    stride_x: int
    pad_y: int
    pad_x: int
    rows: int
    columns: int


def window_over(image: tuple[int, int], kernel_size, stride, padding) -> Window:
    """The window for images of one size; all arguments are (height, width) pairs.

    Examples
    --------
    >>> from numbabn.nn.window import window_over
    >>> window_over((8, 8), kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))[-2:]
    (4, 4)
    """
    places = []
    for size, kernel, step, pad in zip(image, kernel_size, stride, padding, strict=True):
        if size + 2 * pad < kernel:
            raise ValueError(
                f"x has images of {image[0]}x{image[1]}; expected at least "
                f"{kernel_size[0] - 2 * padding[0]}x{kernel_size[1] - 2 * padding[1]}, so that the window fits"
            )
        places.append((size + 2 * pad - kernel) // step + 1)
    return Window(*kernel_size, *stride, *padding, *places)


def seen_columns(window: Window) -> int:
    """Columns that a row of the window's positions sees, from the first one's left to the last one's right edge."""
    return (window.columns - 1) * window.stride_x + window.width
