"""What the machine is that measures."""

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
STAT = Path("/proc/stat")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def describe() -> dict:
    """The processor's name, its number of logical CPUs, the caches of the first by level, the operating system.

    What the system does not tell is left out.
    """
    return {
        "cpu": _model() or platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "caches": _caches(),
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


def _caches():
    """Sizes such as ``{"L1d": "48 KiB", "L2": "2 MiB"}``, of data caches."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}{'d' if kind == 'Data' else ''}"] = _readable(size)
    return found


def _readable(size):
    """
    >>> _readable("2048K"), _readable("48K"), _readable("32M")
    ('2 MiB', '48 KiB', '32M')
    """
    if not (size.endswith("K") and size[:-1].isdecimal()):
        return size
    kibibytes = int(size[:-1])
    return f"{kibibytes // 1024} MiB" if kibibytes % 1024 == 0 else f"{kibibytes} KiB"
