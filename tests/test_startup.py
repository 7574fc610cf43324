"""What importing does not do."""

import subprocess
import sys


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_import_loads_no_compiler_and_no_framework():
    code = "import sys, numbabn; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = run_python(code)
    assert "numpy" in loaded
    for heavy in ("numba", "llvmlite", "scipy", "torch", "cupy", "matplotlib", "sklearn", "tqdm"):
        assert heavy not in loaded


def test_import_takes_little_longer_than_numpy():
    """Best of five processes: at most 0.2 s (measured: 0.02 s)."""
    code = """
from time import perf_counter
import numpy
started = perf_counter()
import numbabn
print(perf_counter() - started)
"""
    assert min(float(run_python(code)[0]) for _ in range(5)) < 0.2


def test_reference_backend_needs_no_compiler():
    code = """
import sys, numpy as np, numbabn as nbn
with nbn.use_backend("reference"):
    nbn.batch_norm(np.ones((2, 2)), training=True)
print("numba" in sys.modules)
"""
    assert run_python(code) == ["False"]


def test_layers_are_imported_when_asked_for():
    code = "import numbabn as nbn, sys; print('numbabn.nn' in sys.modules, nbn.nn.__name__, 'numba' in sys.modules)"
    assert run_python(code) == ["False", "numbabn.nn", "False"]


def test_public_names_are_listed_before_they_are_imported():
    code = "import numbabn, sys; print({*numbabn.__all__} <= {*dir(numbabn)}, 'numbabn.nn' in sys.modules)"
    assert run_python(code) == ["True", "False"]


def test_unknown_names_are_attribute_errors():
    assert run_python("import numbabn; print(hasattr(numbabn, 'nonsense'))") == ["False"]
