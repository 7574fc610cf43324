"""Arrays on a card, and how calls on them are timed: by PyTorch, or else by CuPy."""

import re
from collections import deque
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numbabn as nbn

from ..errors import UsageError
from . import card_systems

DRIVER = Path("/proc/driver/nvidia/version")

CLOCK = 2e9
"""Cycles a second of a card's clock, about: on a faster one, waits are shorter."""

TRIES = 4
"""Times that calls are queued, the card waiting twice as long each time, until it has waited for all of them."""

BUSY = 'extern "C" __global__ void busy(long long n) { for (long long begun = clock64(); clock64() - begun < n;); }'
"""A kernel that runs for so many cycles, which CuPy compiles."""


class Timed:
    """How calls are timed, by the events of a library."""

    def times(self, calls, hold, kept):
        """Seconds that the card is busy with each of some calls, and seconds that the host takes to queue each.

        The card waits ``hold`` seconds, or longer if that proves too short, for all of them to be queued: else a short
        one would take the host's time. Of the results so many are ``kept`` at a time: else all would be written to the
        same memory, and stay in the cache.
        """
        events = [self.event() for _ in range(len(calls) + 1)]
        for event in events:
            event.record()  # the first time takes longer
        for patience in range(TRIES):
            host, results = [], deque(maxlen=kept)
            self.wait(int(hold * 2**patience * CLOCK))
            events[0].record()
            for call, event in zip(calls, events[1:], strict=True):
                begun = perf_counter()
                result = call()
                host.append(perf_counter() - begun)
                event.record()
                results.append(result)
            waited = not self.reached(events[0])
            self.synchronize()
            if waited or not hold:
                break
        return [self.milliseconds(*pair) / 1e3 for pair in pairwise(events)], host


class WithTorch(Timed):
    """Arrays, events and peers of PyTorch."""

    def __init__(self):
        import torch

        self.torch = torch
        self.library = f"PyTorch {torch.__version__}"
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self.card = properties.name
        self.multiprocessors, self.cache = properties.multi_processor_count, properties.L2_cache_size
        self.generator = torch.Generator("cuda").manual_seed(0)
        self.versions = [self.library, f"cuDNN {torch.backends.cudnn.version()}", f"numba-cuda {version('numba-cuda')}"]

    def normal(self, shape, dtype, mean=0.0, std=1.0):
        """Random values of a normal distribution."""
        values = self.torch.randn(shape, generator=self.generator, device="cuda") * std + mean
        return values.to(getattr(self.torch, dtype))

    def channels_last(self, array):
        """Those values of an NCHW array, presented alike, with channels last in memory."""
        return array.to(memory_format=self.torch.channels_last)

    def float64(self, array):
        return array.double()

    def event(self):
        return self.torch.cuda.Event(enable_timing=True)

    def reached(self, event):
        """Whether the card is past an event."""
        return event.query()

    def milliseconds(self, first, last):
        return first.elapsed_time(last)

    def wait(self, cycles):
        """Keep the card busy, and not the host."""
        self.torch.cuda._sleep(cycles)

    def synchronize(self):
        self.torch.cuda.synchronize()

    def copy(self, source, target):
        target.copy_(source)

    def peers(self):
        """What stands beside numbabn, by name."""
        return card_systems.of_torch(self.torch)


class WithCuPy(Timed):
    """Arrays and events of CuPy."""

    def __init__(self):
        import cupy

        self.cupy = cupy
        self.library = f"CuPy {cupy.__version__}"
        self.versions = [self.library, f"numba-cuda {version('numba-cuda')}"]
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        self.card = properties["name"].decode()
        self.multiprocessors, self.cache = properties["multiProcessorCount"], properties["l2CacheSize"]
        self.generator = cupy.random.default_rng(0)
        self.busy = cupy.RawKernel(BUSY, "busy")

    def normal(self, shape, dtype, mean=0.0, std=1.0):
        if dtype == "bfloat16":
            raise UsageError("--dtype bfloat16 needs PyTorch")
        return (self.generator.standard_normal(shape, dtype="float32") * std + mean).astype(dtype)

    def channels_last(self, array):
        return self.cupy.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)

    def float64(self, array):
        return array.astype("float64")

    def event(self):
        return self.cupy.cuda.Event()

    def reached(self, event):
        return event.done

    def milliseconds(self, first, last):
        return self.cupy.cuda.get_elapsed_time(first, last)

    def wait(self, cycles):
        self.busy((1,), (1,), (cycles,))

    def synchronize(self):
        self.cupy.cuda.Device().synchronize()

    def copy(self, source, target):
        target[...] = source

    def peers(self):
        return {}


def library():
    """PyTorch, or else CuPy."""
    for kind in (WithTorch, WithCuPy):
        try:
            return kind()
        except ImportError:
            pass
    raise UsageError("--device cuda needs PyTorch or CuPy, whose arrays it measures on")


def describe(arrays) -> dict:
    """The card, and what drives it."""
    driver = re.search(r"  (\d+\.[\d.]+)  ", DRIVER.read_text()) if DRIVER.exists() else None
    return {
        "card": arrays.card,
        "multiprocessors": arrays.multiprocessors,
        "caches": {"L2": f"{arrays.cache / 2**20:.0f} MiB"},
        "driver": driver[1] if driver else "unknown",
        "versions": [f"numbabn {nbn.__version__}", *arrays.versions],
    }
