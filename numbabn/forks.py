"""Whether this process is a forked child that must not use Numba's threads. Imported first, so that no fork is missed.

OpenMP and Numba's ``workqueue`` do not survive ``fork``: a child of a process that has started their threads, for
whatever purpose, is killed or hangs when it uses them. TBB survives.
"""

import os
import sys

_forked = False


def forked() -> bool:
    """Whether threads were started before this process was forked off."""
    return _forked


def _after_fork():
    global _forked
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    _forked = parallel is not None and getattr(parallel, "_threading_layer", None) not in (None, "tbb")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
