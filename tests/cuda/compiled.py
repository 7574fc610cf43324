"""Every CUDA kernel compiled to machine code, for each dtype and card: what that must hold, and what not."""

import re
import subprocess

import pytest
from cuda.pathfinder import find_nvidia_binary_utility
from without_card import compiled

from numbabn.backends.cuda import moments, planes, rows
from numbabn.backends.cuda.launch import Words, types_of
from numbabn.backends.cuda.policy import BLOCKS_EACH, THREADS
from numbabn.backends.cuda.strided import COPY, copy_elements

WIDE = {"float32": 4, "float64": 2, "float16": 8, "bfloat16": 8}
"""Lanes in 16 bytes."""

WALKS = [(family, name) for family in (planes, rows) for name in family.KINDS]
# rows on chip are never ragged (cut._rows)
RAGGED_WALKS = [(family, name) for family, name in WALKS if family is planes or not name.endswith("on_chip")]


def family_or_name(value):
    return getattr(value, "__name__", value).split(".")[-1]


def machine_code(kernel, kinds, words, generation, folder):
    """What the assembler reports of a kernel, and its instructions."""
    source, binary = folder / "kernel.ptx", folder / "kernel.cubin"
    source.write_text(compiled(kernel, types_of(words, kinds)).inspect_asm(generation))
    assemble = [tool("ptxas"), "-v", f"-arch=sm_{generation[0]}{generation[1]}", source, "-o", binary]
    report = subprocess.run(assemble, capture_output=True, text=True, check=True).stderr
    return report, subprocess.run([tool("nvdisasm"), binary], capture_output=True, text=True, check=True).stdout


def tool(name):
    path = find_nvidia_binary_utility(name)
    assert path is not None, f"{name} is missing: it comes with the test extra"
    return path


def innermost_loops(code, access=".128 "):
    """The instructions of each innermost loop that accesses memory so: that moves 16 bytes at a time."""
    lines = [line.strip() for line in re.sub(r"/\*.*?\*/", "", code).splitlines()]
    labels = {line[:-1]: place for place, line in enumerate(lines) if line.startswith(".L_x_")}
    jumps = [(labels.get(found[1]), place) for place, line in enumerate(lines)
             if (found := re.search(r"\bBRA\b.*(\.L_x_\d+)", line))]  # fmt: skip
    loops = [(begin, end) for begin, end in jumps if begin is not None and begin < end]
    innermost = [
        one for one in loops if not any(one[0] <= begin < end <= one[1] for begin, end in loops if one != (begin, end))
    ]
    return [loop for begin, end in innermost if access in (loop := "".join(lines[begin:end]))]


def assert_lean(report, code, words):
    """No memory of a thread's own, few registers, no float64 unless that is computed in, no division at each vector."""
    assert " 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in report
    assert not re.search(r"\b(LDL|STL)\b", code)
    assert int(re.search(r"Used (\d+) registers", report)[1]) <= 65_536 // (BLOCKS_EACH * THREADS)
    if words.real != "float64":
        assert not re.search(r"\b(DADD|DMUL|DFMA|DSETP|F2F\.F64)", code)
    assert not any(map(divides, innermost_loops(code)))


def divides(instructions):
    """Whether integers are divided."""
    return bool(re.search(r"__cuda_sm20|\b(I2F|MUFU\.RCP)\b", instructions))


GENERATIONS = pytest.mark.parametrize("generation", [(8, 0), (9, 0)], ids=["sm_80", "sm_90"])
FEW = [Words("float32", 2, "float64"), Words("float16", 2, "float64"), Words("bfloat16", 2, "float64")]
"""Very few values per channel are computed in float64."""

RAGGED = [Words(dtype, lanes, "float64" if dtype == "float64" else "float32", True) for dtype, lanes in WIDE.items()]
WORDS = [
    Words(dtype, lanes, "float64" if dtype == "float64" else "float32") for dtype in WIDE for lanes in (WIDE[dtype], 1)
]


@GENERATIONS
@pytest.mark.parametrize("words", WORDS, ids=lambda words: f"{words.dtype} x {words.lanes}")
@pytest.mark.parametrize(("family", "name"), WALKS, ids=family_or_name)
def test_walks_move_16_bytes_and_spill_nothing(family, name, words, generation, tmp_path):
    report, code = machine_code(getattr(family, name), family.KINDS[name], words, generation, tmp_path)
    assert_lean(report, code, words)
    assert ("LDG.E.128" in code) == (words.lanes > 1)
    assert len(innermost_loops(code)) >= (words.lanes > 1)
    if name not in ("sum_parts", "sum_gradient_parts"):
        assert ("STG.E.128" in code) == (words.lanes > 1)
    if name.endswith("on_chip"):
        assert ("LDGSTS.E.BYPASS.128" in code) == (words.lanes > 1)
        assert "LDS.128" in code or words.lanes == 1
        assert "LDGDEPBAR" in code  # what was copied is waited for
        assert "MEMBAR" in code  # what a block has written is seen before it is counted
        assert "CCTL.IVALL" in code  # and read anew once all are
        assert ("LDGSTS" in code) == (words.lanes > 1 or "16" not in words.dtype)


@GENERATIONS
@pytest.mark.parametrize("words", FEW, ids=lambda words: words.dtype)
@pytest.mark.parametrize(("family", "name"), WALKS, ids=family_or_name)
def test_float64_walks_over_short_dtypes_spill_nothing(family, name, words, generation, tmp_path):
    report, _ = machine_code(getattr(family, name), family.KINDS[name], words, generation, tmp_path)
    assert " 0 bytes spill stores, 0 bytes spill loads" in report


@GENERATIONS
@pytest.mark.parametrize("words", RAGGED, ids=lambda words: words.dtype)
@pytest.mark.parametrize(("family", "name"), RAGGED_WALKS, ids=family_or_name)
def test_ragged_walks_move_16_bytes_and_spill_nothing(family, name, words, generation, tmp_path):
    report, code = machine_code(getattr(family, name), family.KINDS[name], words, generation, tmp_path)
    assert_lean(report, code, words)
    assert "LDG.E.128" in code
    if name not in ("sum_parts", "sum_gradient_parts"):
        assert "STG.E.128" in code
    if name.endswith("on_chip"):
        assert "LDGSTS.E.BYPASS.128" in code


@GENERATIONS
@pytest.mark.parametrize("words", [*WORDS[:4], FEW[0]], ids=str)
@pytest.mark.parametrize("name", moments.KINDS)
def test_settling_spills_nothing(name, words, generation, tmp_path):
    report, code = machine_code(getattr(moments, name), moments.KINDS[name], words, generation, tmp_path)
    assert_lean(report, code, words)


@GENERATIONS
@pytest.mark.parametrize("dtype", WIDE)
def test_copying_spills_nothing_and_divides_once(dtype, generation, tmp_path):
    words = Words(dtype, 1, "float64" if dtype == "float64" else "float32")
    report, code = machine_code(copy_elements, COPY, words, generation, tmp_path)
    assert_lean(report, code, words)
    assert divides(code)
    assert innermost_loops(code, "LDG.E")
    assert not any(map(divides, innermost_loops(code, "LDG.E")))
