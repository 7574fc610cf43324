"""Results made ahead of their use, in a thread."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice


def prefetched(function: Callable, items: Iterable, ahead: int = 1) -> Iterator:
    """As ``map(function, items)``, with up to ``ahead`` results in the making or waiting, beside the caller's own work.

    A single thread makes them one after another, so they are what ``map`` gives. It ends with the iterator: close that
    (``contextlib.closing``) where it may be left early. An error in ``function`` is raised in its result's place.

    Parameters
    ----------
    function : callable
        Runs in the thread. Kernels that spread over Numba's threads do not belong there: the caller's need them.
    items : iterable
        Taken one by one, in the caller's thread.
    ahead : int, default 1
        0 for ``map`` itself, without a thread.

    Examples
    --------
    >>> list(prefetched(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    if ahead == 0:
        yield from map(function, items)
        return
    items = iter(items)
    thread = ThreadPoolExecutor(1, thread_name_prefix="numbabn-prefetch")
    try:
        made = deque(thread.submit(function, item) for item in islice(items, ahead))
        while made:
            result = made.popleft().result()
            made.extend(thread.submit(function, item) for item in islice(items, 1))
            yield result
    finally:
        thread.shutdown(cancel_futures=True)
