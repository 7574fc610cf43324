"""Packages of the extra ``bench``, imported when they are first needed."""

import importlib


def need(module: str):
    """Import a module of the extra ``bench``, or raise an ``ImportError`` that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f'{package} is needed here: pip install "numbabn[bench]"  ({error})') from error
