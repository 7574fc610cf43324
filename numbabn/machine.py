"""What the machine is: its processor, caches, and how much of it others take."""

import os
import platform
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path("/proc/cpuinfo")
STAT = Path("/proc/stat")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


class Cache(NamedTuple):
    """A cache of the first CPU that holds data."""

    level: int
    kind: str
    """``"Data"`` or ``"Unified"``."""
    size: int
    """In bytes."""
    ways: int | None
    cpus: int | None
    """How many logical CPUs share it. None, as of the ways, where that is not told."""


def caches() -> list[Cache]:
    """The data caches of the first CPU that the system tells of."""
    readers = {"level": int, "type": str, "size": _bytes, "ways_of_associativity": int, "shared_cpu_list": _count}
    found = []
    for folder in sorted(CACHES.glob("index*")):
        cache = Cache(*(_told(folder / name, reader) for name, reader in readers.items()))
        if cache.level and cache.size and cache.kind in ("Data", "Unified"):
            found.append(cache)
    return found


def describe() -> dict:
    """The processor's name, its number of logical CPUs, the caches of the first by level, the operating system.

    What the system does not tell is left out.
    """
    return {
        "cpu": _model() or platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "caches": {f"L{one.level}{'d' if one.kind == 'Data' else ''}": _readable(one.size) for one in caches()},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def ticks() -> tuple[int, int]:
    """CPU time so far that the host of a virtual machine gave to others, and all of it; zeros where nobody tells."""
    if not STAT.exists():
        return 0, 0
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, STAT.read_text().split("\n")[0].split()[1:9])
    return steal, user + nice + system + idle + iowait + irq + softirq + steal


def stolen_since(before: tuple[int, int]) -> float:
    """Share of the CPU time since then that was given to others."""
    steal, total = (now - then for now, then in zip(ticks(), before, strict=True))
    return steal / total if total else 0.0


def _model():
    """The name that Linux gives the first CPU."""
    if not CPUINFO.exists():
        return None
    lines = (line.partition(":") for line in CPUINFO.read_text().splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "model name"), None)


def _told(file, reader):
    """What is in a file; None for what a container hides, or an emulator fills with nonsense."""
    try:
        return reader(file.read_text().strip())
    except (OSError, ValueError):
        return None


def _bytes(text):
    """
    >>> _bytes("2048K"), _bytes("32M")
    (2097152, 33554432)
    """
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)


def _count(cpus):
    """Number of CPUs in a list.

    >>> _count("0-1,4")
    3
    """
    ranges = [part.split("-") for part in cpus.split(",")]
    return max(1, sum(int(ends[-1]) - int(ends[0]) + 1 for ends in ranges))


def _readable(size):
    """
    >>> _readable(2 << 20), _readable(48 << 10)
    ('2 MiB', '48 KiB')
    """
    return f"{size >> 20} MiB" if size % (1 << 20) == 0 else f"{size >> 10} KiB"
