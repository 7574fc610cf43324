"""Every CUDA kernel compiled to machine code, for each dtype and card: what that must hold, and what not."""

import re
import subprocess
from types import SimpleNamespace

import numba.cuda.dispatcher
import pytest
from cuda.pathfinder import find_nvidia_binary_utility
from numba import cuda
from numba.cuda import types

from numbabn.backends.cuda import moments, planes, rows
from numbabn.backends.cuda.policy import REGISTERS
from numbabn.backends.cuda.simd import pointer_type

WIDE = {"float32": 4, "float64": 2, "float16": 8, "bfloat16": 8}
"""Lanes in 16 bytes."""

KINDS = {
    "sum_parts": "dnn{}i", "normalize": "dddn{}ii", "sum_gradient_parts": "dddnn{}ii", "write_gradient": "dddddnn{}ii",
}  # fmt: skip
WALKS = [(family, name) for family in (planes, rows) for name in KINDS]
SETTLING = {"settle": "ninnnnniffffi", "settle_gradients": "ninni"}


@pytest.fixture(autouse=True)
def _no_card(monkeypatch):
    """Compiling a helper asks the card for its generation, only to write it into code that is compiled once more."""
    oldest = SimpleNamespace(compute_capability=(8, 0))
    monkeypatch.setattr(numba.cuda.dispatcher, "get_current_device", lambda: oldest)


def machine_code(kernel, kinds, dtype, lanes, generation, folder):
    """What the assembler reports of a kernel, and its instructions."""
    real = types.float64 if dtype == "float64" else types.float32
    data = pointer_type(dtype, lanes)
    named = {"d": data, "n": types.CPointer(real), "i": types.int32, "l": types.int64, "f": real}
    signature = types.void(*(named[kind] for kind in kinds))
    ptx, _ = cuda.compile(kernel.py_func, signature, device=False, abi="numba", cc=generation, output="ptx")
    source, binary = folder / "kernel.ptx", folder / "kernel.cubin"
    source.write_text(ptx)
    assemble = [tool("ptxas"), "-v", f"-arch=sm_{generation[0]}{generation[1]}", source, "-o", binary]
    report = subprocess.run(assemble, capture_output=True, text=True, check=True).stderr
    return report, subprocess.run([tool("nvdisasm"), binary], capture_output=True, text=True, check=True).stdout


def tool(name):
    path = find_nvidia_binary_utility(name)
    assert path is not None, f"{name} is missing: it comes with the test extra"
    return path


def assert_lean(report, code, dtype):
    """No memory of a thread's own, few registers, and no float64 unless data is."""
    assert " 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in report
    assert not re.search(r"\b(LDL|STL)\b", code)
    assert int(re.search(r"Used (\d+) registers", report)[1]) <= REGISTERS
    if dtype != "float64":
        assert not re.search(r"\b(DADD|DMUL|DFMA|DSETP|F2F\.F64)", code)


@pytest.mark.parametrize("generation", [(8, 0), (9, 0)], ids=["sm_80", "sm_90"])
@pytest.mark.parametrize("wide", [True, False], ids=["wide", "single"])
@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize(("family", "name"), WALKS, ids=lambda value: getattr(value, "__name__", value).split(".")[-1])
def test_walks(family, name, dtype, wide, generation, tmp_path):
    lanes = WIDE[dtype] if wide else 1
    kinds = KINDS[name].format(family.SIZES)
    report, code = machine_code(getattr(family, name), kinds, dtype, lanes, generation, tmp_path)
    assert_lean(report, code, dtype)
    assert ("LDG.E.128" in code) == wide
    if name in ("normalize", "write_gradient"):
        assert ("STG.E.128" in code) == wide


@pytest.mark.parametrize("generation", [(8, 0), (9, 0)], ids=["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SETTLING)
def test_settling(name, dtype, generation, tmp_path):
    report, code = machine_code(getattr(moments, name), SETTLING[name], dtype, 1, generation, tmp_path)
    assert_lean(report, code, dtype)
