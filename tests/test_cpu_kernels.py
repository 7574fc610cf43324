"""How the CPU kernels cut their work and write their results changes no bit, and nothing around the results."""

import numpy as np
import pytest
from cases import CASES, EPILOGUES, Case, operands

import numbabn as nbn
from numbabn import jit
from numbabn.backends import cpu
from numbabn.backends.cpu import machine
from numbabn.machine import describe

GUARD = 40
"""Elements around an output that must stay as they were: more than two vectors."""

CACHES = [(64, 1), (16 << 10, 4), (1 << 30, 16), (2 * 136 * 4 * 8 * 4, 2)]
"""Bytes and ways: none to speak of, small, large; one where the rows of a channel of the case "NCHW-crowded" all belong
in one set, so that they are copied."""

WIDE = Case("NC-wide-parts", (131, 2100))
"""Two parts of two tiles, which threads share where no tile stays in the cache."""


def results(case, dtype, activation, residual, guarded=None):
    """All that the forward and backward calls give, written to ``guarded`` outputs if those are made."""
    given = operands(case).astype(dtype)
    x, dy, z = (case.place(a) for a in (given.x, given.dy, given.residual))
    running = given.running_mean.copy(), given.running_var.copy()
    outputs = [guarded(case, dtype) for _ in range(3)] if guarded else [None] * 3
    y, context = nbn.batch_norm_forward(
        x,
        given.gamma,
        given.beta,
        *running,
        axis=case.axis,
        activation=activation,
        residual=z if residual else None,
        out=outputs[0],
        backend="cpu",
    )
    out = None
    if guarded:
        out = tuple(outputs[1:]) if residual else outputs[1]
    grads = nbn.batch_norm_backward(dy, context, out=out)
    return [a.copy() for a in (y, *running, *grads) if a is not None]


def assert_same_bits(given, expected):
    assert [a.tobytes() for a in given] == [a.tobytes() for a in expected]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", [*CASES, WIDE], ids=lambda case: case.name)
def test_caches_threads_and_streaming_change_no_bit(case, dtype, monkeypatch):
    for activation, residual in EPILOGUES:
        expected = results(case, dtype, activation, residual)
        for cache in CACHES:
            for serial_below in (0, 1 << 40):
                for stream_from in (0, 1 << 20):
                    with monkeypatch.context() as patch:
                        patch.setattr(cpu, "second_level_cache", lambda cache=cache: cache)
                        patch.setattr(jit, "SERIAL_BELOW", serial_below)
                        patch.setattr(cpu, "STREAM_FROM", stream_from)
                        patch.setattr(cpu, "fast_third_level_cache", lambda: 0)
                        assert_same_bits(results(case, dtype, activation, residual), expected)


@pytest.mark.parametrize("offset", [0, 1, 5, 15])
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("case", [case for case in CASES if case.memory == "C"], ids=lambda case: case.name)
def test_results_at_any_place_and_nothing_around_them(case, streamed, offset, monkeypatch):
    buffers = []

    def guarded(case, dtype):
        size = int(np.prod(case.shape))
        memory = np.full(size + 2 * GUARD + 16, 7.25, dtype)
        start = GUARD + (-memory.ctypes.data // memory.itemsize) % 16 + offset
        buffers.append((memory, start, start + size))
        return memory[start : start + size].reshape(case.shape)

    monkeypatch.setattr(cpu, "STREAM_FROM", 0 if streamed else 1 << 20)
    monkeypatch.setattr(cpu, "fast_third_level_cache", lambda: 0)
    for activation, residual in EPILOGUES:
        expected = results(case, "float32", activation, residual)
        assert_same_bits(results(case, "float32", activation, residual, guarded), expected)
    for memory, start, stop in buffers:
        np.testing.assert_array_equal(np.delete(memory, slice(start, stop)), 7.25)


def cache_folder(folder, **files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("shared", "expected"), [("0", (2 << 20, 16)), ("0-1", (1 << 20, 16)), ("0,4-6", (512 << 10, 16))]
)
def test_cpus_count_on_their_part_of_the_second_level_cache(shared, expected, tmp_path, monkeypatch):
    usual = {"ways_of_associativity": "16", "shared_cpu_list": shared}
    cache_folder(tmp_path / "index0", level="1", type="Data", size="48K", **usual)
    cache_folder(tmp_path / "index2", level="2", type="Unified", size="2048K", **usual)
    monkeypatch.setattr("numbabn.machine.CACHES", tmp_path)
    assert machine.second_level_cache.__wrapped__() == expected


@pytest.mark.parametrize(("processor", "expected"), [("znver3", 2 << 20), ("sapphirerapids", 0)])
def test_third_level_caches_are_fast_in_zen(processor, expected, tmp_path, monkeypatch):
    known = {"type": "Unified", "size": "32M", "ways_of_associativity": "16", "shared_cpu_list": "0-15"}
    cache_folder(tmp_path / "index3", level="3", **known)
    monkeypatch.setattr("numbabn.machine.CACHES", tmp_path)
    monkeypatch.setattr(machine, "get_host_cpu_name", lambda: processor)
    assert machine.fast_third_level_cache.__wrapped__() == expected
    monkeypatch.setattr("numbabn.machine.CACHES", tmp_path / "hidden")
    assert machine.fast_third_level_cache.__wrapped__() == 0


def test_inference_streams_what_fast_third_level_caches_do_not_hold(monkeypatch):
    monkeypatch.setattr(cpu, "second_level_cache", lambda: (1 << 20, 8))
    for size, arrays, expected in ((0, 2, 1 << 19), (3 << 20, 2, 1 << 20), (9 << 20, 3, 2 << 20)):
        monkeypatch.setattr(cpu, "fast_third_level_cache", lambda size=size: size)
        assert cpu._machine(arrays)[2] == expected
        assert cpu._machine()[2] == 1 << 19


@pytest.mark.parametrize(
    "told",
    [{"size": ""}, {"size": "0K"}, {"size": "large"}, {"ways_of_associativity": "0"}, {"shared_cpu_list": "0-600000"}],
)
def test_a_cache_that_is_not_told_is_the_usual_one(told, tmp_path, monkeypatch):
    monkeypatch.setattr("numbabn.machine.CACHES", tmp_path)
    assert machine.second_level_cache.__wrapped__() == machine.USUAL
    usual = {"size": "512K", "ways_of_associativity": "16", "shared_cpu_list": "0"}
    cache_folder(tmp_path / "index2", level="2", type="Unified", **(usual | told))
    assert machine.second_level_cache.__wrapped__() == machine.USUAL


def test_a_cache_is_described_of_which_only_the_size_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("numbabn.machine.CACHES", tmp_path)
    cache_folder(tmp_path / "index2", level="2", type="Unified", size="1536K")
    assert describe()["caches"] == {"L2": "1536 KiB"}
    assert machine.second_level_cache.__wrapped__() == machine.USUAL
