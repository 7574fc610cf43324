"""A worker's side of the conversation: a JSON object per line on standard input, one in answer on standard output.

A worker is a program that calls :func:`serve` with a peer: an object with two methods. ``start(threads)`` imports the
system (the attribute ``package`` is its name) and returns its version. ``prepare(problem)`` returns a function that
computes the problem's results and one that turns what this returned into NumPy arrays by name; it leaves the problem's
arrays as they are and raises ``UnsupportedError`` for what the system cannot do. Further methods may be there:
``limits()`` returns more functions to time, by name; ``training(step)`` a function that takes a step of training and
returns its loss.

Workers need only the standard library, NumPy and their system, so that another Python can run them.
"""

import functools
import json
import os
import platform
import sys

import numpy as np
from checking import complaint
from problem import Problem, UnsupportedError, arrays
from steps import Step, peak, peak_reset
from timing import repeat

stored_arrays = functools.lru_cache(maxsize=1)(arrays)
"""The newest arrays are kept: one shape and layout after another is asked for, in all that can be done with it."""


def serve(peer) -> None:
    """Answer requests until standard input ends."""
    worker = Worker(peer)
    # Answers get a descriptor of their own: what a library prints must not come between them.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # whatever a system does wrong is told, and the next request is awaited
            answer = {"note": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """What can be asked for; each method returns the answer."""

    def __init__(self, peer):
        self.peer = peer
        self.timed = {}

    def start(self, threads, cpus):
        """Keep to some CPUs, import the system, tell its version or why there is none."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cpus)
        try:
            version = self.peer.start(threads)
        except ModuleNotFoundError as error:
            return {"absent": "not installed" if error.name == self.peer.package else str(error)}
        except ImportError as error:
            return {"absent": f"cannot be imported: {str(error).partition(chr(10))[0]}"}
        return {"version": version, "numpy": np.__version__, "python": platform.python_version()}

    def prepare(self, shape, dtype, **settings):
        """Make the arrays, compute once and check the results: nothing wrong is ever timed."""
        self.timed = {}
        problem = Problem(**settings, **stored_arrays(tuple(shape), settings["layout"], dtype))
        try:
            call, as_arrays = self.peer.prepare(problem)
        except UnsupportedError as reason:
            return {"note": str(reason)}
        wrong = complaint(problem, as_arrays(call()))
        if wrong:
            return {"note": f"wrong result, not timed: {wrong}"}
        self.timed = {"call": call, **getattr(self.peer, "limits", dict)()}
        return {}

    def prepare_training(self, losses, **settings):
        """Make a network, and take so many steps, whose losses the answer has."""
        self.timed = {}
        if not hasattr(self.peer, "training"):
            return {"note": "has no training step"}
        peak_reset()
        call = self.peer.training(Step(**settings))
        self.timed = {"call": call}
        return {"losses": [float(call()) for _ in range(losses)]}

    def memory(self):
        """Bytes of the whole process, at most, since ``prepare_training`` was called."""
        return {"peak": peak()}

    def time(self, **effort):
        """Times in seconds of what ``prepare`` was asked for, and of the limits, if this worker measures those."""
        return {"times": {name: repeat(function, **effort) for name, function in self.timed.items()}}
