"""Benchmarks of numbabn for asv. They run at any commit; shapes and tolerances are those of this checkout's tests."""

import hashlib
import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def cache_folder():
    """Where Numba caches what it compiles from the installed package, a folder for each state of its sources.

    Numba itself looks at the time and size of a kernel's own file, and would answer with another commit's kernels.
    """
    package = Path(importlib.util.find_spec("numbabn").origin).parent
    digest = hashlib.sha256()
    for source in sorted(package.rglob("*.py")):
        digest.update(f"{source.relative_to(package)}\n".encode() + source.read_bytes())
    return ROOT / "asv_benchmarks" / "env" / "numba_cache" / digest.hexdigest()[:16]


if "asv_runner" in sys.modules:  # a process that asv started; Numba reads the variable when it is imported
    os.environ["NUMBA_CACHE_DIR"] = str(cache_folder())

sys.path.append(str(ROOT / "tests"))  # for cases and tolerance
