"""Packages that only an extra brings, imported when they are first needed."""

import importlib


def need(module: str, extra: str):
    """Import a module that an extra brings, or say how to install it.

    Parameters
    ----------
    module : str
        Dotted name, such as ``"matplotlib.figure"``.
    extra : {"train", "bench"}

    Raises
    ------
    ImportError
        If the package is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f'{package} is needed here: pip install "numbabn[{extra}]"  ({error})') from error
