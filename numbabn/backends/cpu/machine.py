"""What the kernels want to know of the machine: its caches. Asked of the system, once."""

import functools

from llvmlite.binding import get_host_cpu_name

from ...machine import caches

USUAL = 512 << 10, 8
"""Bytes and ways where the system does not tell: those of a small one."""


@functools.cache
def second_level_cache() -> tuple[int, int]:
    """Bytes of the second-level cache that one logical CPU can count on, and in how many ways it is organised.

    CPUs that share a cache count on their part of it.
    """
    return _share(2) or USUAL


@functools.cache
def fast_third_level_cache() -> int:
    """Bytes of the third-level cache that one logical CPU can count on, on AMD's Zen, where it takes what the second
    level evicts at full speed; 0 elsewhere, and where the system does not tell."""
    found = _share(3) if get_host_cpu_name().startswith("znver") else None
    return found[0] if found else 0


def _share(level):
    """Bytes of a level that one logical CPU can count on, and ways; None where the system does not tell."""
    for cache in caches():
        if cache.level == level and cache.ways and cache.cpus and cache.size >= cache.cpus:
            return cache.size // cache.cpus, cache.ways
    return None
