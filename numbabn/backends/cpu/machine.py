"""What the kernels want to know of the machine: its caches. Asked of the system, once."""

import functools
from pathlib import Path

from llvmlite.binding import get_host_cpu_name

USUAL = 512 << 10, 8
"""Bytes and ways where the system does not tell: those of a small one."""

LINUX = Path("/sys/devices/system/cpu/cpu0/cache")


@functools.cache
def second_level_cache() -> tuple[int, int]:
    """Bytes of the second-level cache that one logical CPU can count on, and in how many ways it is organised.

    CPUs that share a cache count on their part of it.
    """
    return _cache("2") or USUAL


@functools.cache
def fast_third_level_cache() -> int:
    """Bytes of the third-level cache that one logical CPU can count on, on AMD's Zen, where it takes what the second
    level evicts at full speed; 0 elsewhere, and where the system does not tell."""
    found = _cache("3") if get_host_cpu_name().startswith("znver") else None
    return found[0] if found else 0


def _cache(level):
    """Bytes that one logical CPU can count on, and ways; None where the system does not tell."""
    for folder in sorted(LINUX.glob("index*")):
        try:
            if _read(folder, "level") == level and _read(folder, "type") != "Instruction":
                size = _bytes(_read(folder, "size")) // _count(_read(folder, "shared_cpu_list"))
                return (size, int(_read(folder, "ways_of_associativity"))) if size > 0 else None
        except (OSError, ValueError):  # a container may hide these files, an emulator fill them with nonsense
            return None
    return None


def _read(folder, name):
    return (folder / name).read_text().strip()


def _bytes(text):
    """``"2048K"`` as a number."""
    units = {"K": 1 << 10, "M": 1 << 20}
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)


def _count(cpus):
    """Number of CPUs in a list like ``"0-1,4"``."""
    ranges = [part.split("-") for part in cpus.split(",")]
    return max(1, sum(int(ends[-1]) - int(ends[0]) + 1 for ends in ranges))
