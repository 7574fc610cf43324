"""Packages of the extra ``train``, imported when they are first needed."""

import importlib


def need(module: str):
    """Import a module of the extra ``train``, or say how to install it.

    Parameters
    ----------
    module : str
        Dotted name, such as ``"matplotlib.figure"``.

    Raises
    ------
    ImportError
        If the package is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f'{package} is needed here: pip install "numbabn[train]"  ({error})') from error
