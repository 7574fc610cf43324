"""What is measured: numbabn and its peers, each as a worker program with its own process."""

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .processes import Process, WorkerError

WORKERS = Path(__file__).parent / "workers"


@dataclass(frozen=True)
class System:
    """A library by the name it is shown with, and its worker program."""

    name: str
    program: Path


NUMBABN = System("numbabn", WORKERS / "numbabn_worker.py")
PEERS = [
    System("PyTorch", WORKERS / "torch_worker.py"),
    System("TensorFlow", WORKERS / "tensorflow_worker.py"),
    System("JAX", WORKERS / "jax_worker.py"),
]

KEEP_MEMORY = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.hugetlb=1"
"""Lets glibc reuse large blocks rather than return them to the system, and ask for huge pages as NumPy does: so peers
without ``out=`` do not pay for fresh memory in each call either."""


@dataclass(frozen=True)
class Setting:
    """What the processes are given: their CPUs, and the Python that has the peers."""

    threads: int
    python: str = sys.executable
    reuse: bool = True

    @property
    def cpus(self):
        """The CPUs to keep to: as many as there are threads, so that nobody takes more."""
        return usable_cpus()[: self.threads]


def usable_cpus() -> list[int]:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def start(stack: ExitStack, setting: Setting, peers: list[str]) -> tuple[dict[str, Process], dict[str, dict]]:
    """Start numbabn and the peers of these names; ``stack`` ends them.

    Returns
    -------
    processes : dict of str to Process
        Those that are there, by the name of their system, numbabn first.
    answers : dict of str to dict
        Of numbabn and these peers: ``version``, ``numpy`` and ``python``, or ``absent`` with the reason.

    Raises
    ------
    RuntimeError
        If numbabn itself does not start.
    """
    processes, answers = {}, {}
    for system in [NUMBABN, *(system for system in PEERS if system.name in peers)]:
        process = stack.enter_context(_process(system, setting))
        try:
            answer = process.greet()
        except WorkerError as error:
            answer = {"absent": str(error)}
        if "note" in answer:
            answer = {"absent": answer["note"]}
        if answer.get("absent") == "not installed":
            answer["absent"] += f" in {setting.python}"
        answers[system.name] = answer
        if "absent" not in answer:
            processes[system.name] = process
    if NUMBABN.name not in processes:
        raise RuntimeError(f"the process for numbabn does not start: {answers[NUMBABN.name]['absent']}")
    return processes, answers


def _process(system, setting):
    threads = str(setting.threads)
    environment = dict(os.environ)
    for name in ("OMP", "MKL", "NUMBA", "OPENBLAS"):
        environment[f"{name}_NUM_THREADS"] = threads
    # Intel's OpenMP threads spin for 200 ms after each call; they would still do so in the next system's turn.
    environment["KMP_BLOCKTIME"] = "20"
    if setting.reuse:
        environment["GLIBC_TUNABLES"] = KEEP_MEMORY
    python = setting.python
    if system is NUMBABN:
        python = sys.executable
        paths = [str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    greeting = {"do": "start", "threads": setting.threads, "cpus": setting.cpus}
    return Process([python, "-u", str(system.program)], environment, greeting)
