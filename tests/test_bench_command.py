"""``numbabn bench``: its options, tables, figures and files. No peer is needed."""

import json
import sys
from dataclasses import fields

import pytest
from bench_helpers import DYING, RIGHT, WRONG, fake_system, keep_small

import numbabn as nbn
from numbabn.bench import command, shapes, systems
from numbabn.bench.systems import System
from numbabn.cli import main

BENCH = ["bench", "--no-progress", "--repeats", "2", "--threads", "1"]


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Each test in an empty folder."""
    keep_small(monkeypatch, tmp_path)


def test_shapes_by_name_and_size_come_once_each_in_order():
    parsed = shapes.parse("32x10, tiny,1d,32x64x56x56,64x4096")
    assert parsed == [(32, 10), (8, 16, 8, 8), *shapes.NAMED["1d"], (32, 64, 56, 56)]


@pytest.mark.parametrize(
    "text", ["", "resnet", "32", "32x", "2x3x4", "2x3x4x5x6", "-2x3", "2.0x3", "1x3x1x1", "4x0", "tiny,"]
)
def test_unknown_shapes_are_refused(text):
    with pytest.raises(ValueError, match=r"shape '.*' (is unknown; expected|has . values per channel; expected)"):
        shapes.parse(text)


def test_the_command_measures_prints_keeps_and_draws(capsys, tmp_path):
    argv = [*BENCH, "--shapes", "6x3,2x3x4x5", "--what", "forward,backward", "--fused", "none,residual+relu"]
    assert main([*argv, "--json", "report.json", "--plot", "figure.png"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    report = json.loads((tmp_path / "report.json").read_text())
    kinds = [(cell["what"], cell["layout"], cell["fused"]) for cell in report["cells"]]
    assert len(set(kinds)) == len(kinds) == 2 * 3 * 2
    for cell in report["cells"]:
        assert cell["times"]["numbabn"]["median"] > 0, cell
        assert cell["limit"]["median"] > 0
    assert report["cells"][0]["bytes"] == 6 * 3 * 4 * 2
    assert f"numbabn {nbn.__version__}" in shown.out
    assert "backward +residual+relu, NHWC\nshape    copy limit" in shown.out
    assert "2x4x5x3 " in shown.out
    assert max(map(len, shown.out.splitlines())) <= 120
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")

    assert main(["bench", "--from", "report.json", "--plot", "again.png"]) == 0
    assert capsys.readouterr().out == shown.out.replace("figure.png", "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "figure.png").read_bytes()


def test_peers_stand_beside_numbabn_and_notes_below(capsys, monkeypatch, tmp_path):
    bodies = {"PyTorch": RIGHT, "TensorFlow": DYING, "JAX": WRONG}
    monkeypatch.setattr(systems, "PEERS", [fake_system(tmp_path, *item) for item in bodies.items()])
    assert main([*BENCH, "--shapes", "6x3", "--what", "inference", "--plot", "figure.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines.index("inference, NC")
    assert lines[table + 1].split() == ["shape", "copy", "limit", "numbabn", "/", "limit", "PyTorch", "speed-up"]
    assert lines[table + 2].startswith("6x3 ")
    assert lines[table + 2].endswith("x")
    assert lines[table + 3] == "TensorFlow: ended with exit code 3: out of luck"
    assert lines[table + 4].startswith("JAX: wrong result, not timed")


def test_only_peers_that_are_asked_for_are_started(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(systems, "PEERS", [fake_system(tmp_path, name, RIGHT) for name in ("PyTorch", "JAX")])
    assert main([*BENCH, "--shapes", "6x3", "--what", "inference", "--peers", "PyTorch"]) == 0
    shown = capsys.readouterr().out
    assert "PyTorch  speed-up" in shown
    assert "JAX" not in shown


def test_absent_peers_are_said_to_be_absent(capsys, monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("NUMBABN_BACKEND", "reference")
    for package in ("torch", "tensorflow"):
        (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('no', name={package!r})")
    (tmp_path / "jax.py").write_text("raise ImportError('broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert main([*BENCH, "--shapes", "6x3", "--what", "inference", "--repeats", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"PyTorch: not installed in {sys.executable}" in lines
    assert f"TensorFlow: not installed in {sys.executable}" in lines
    assert "JAX: cannot be imported: broken" in lines


def test_ctrl_c_prints_and_keeps_what_there_is(capsys, monkeypatch, tmp_path):
    real, cells = command.measure, []

    def interrupted(cell, *args):
        if cells:
            raise KeyboardInterrupt
        cells.append(cell)
        return real(cell, *args)

    monkeypatch.setattr(command, "measure", interrupted)
    argv = [*BENCH, "--shapes", "6x3,9x3", "--what", "inference", "--json", "report.json"]
    assert main(argv) == 130
    assert "\n6x3 " in capsys.readouterr().out
    assert len(json.loads((tmp_path / "report.json").read_text())["cells"]) == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--shapes", "resnet"], "--shapes: shape 'resnet' is unknown; expected resnet50, 1d, tiny, or sizes"),
        (["--layout", "NCWH"], "--layout: 'NCWH' is unknown; expected NCHW, NHWC"),
        (["--what", "forward,train"], "--what: 'train' is unknown; expected forward, backward, inference, training"),
        (["--fused", "add"], "--fused: 'add' is unknown; expected none, relu, residual+relu"),
        (["--dtype", "int8"], "--dtype: invalid choice: 'int8'"),
        (["--threads", "100000"], "--threads: 100000 threads are asked for; this process may use"),
        (["--threads", "0"], "--threads: '0' is not a whole number from 1"),
        (["--seconds", "1", "--repeats", "3"], "--seconds and --repeats exclude each other"),
        (["--python", "no-such-python"], "--python: no-such-python is no program"),
        (["--json", "nowhere/report.json"], "--json: the folder nowhere does not exist"),
        (["--plot", "nowhere/figure.png"], "--plot: the folder nowhere does not exist"),
        (["--from", "report.json", "--shapes", "1d"], "--from measures nothing; leave --shapes out"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_code_2(capsys, argv, words):
    try:
        code = main(["bench", *argv])
    except SystemExit as error:
        code = error.code
    assert code == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"format": 0}'])
def test_a_file_that_is_no_report_is_one_line_and_exit_code_1(capsys, tmp_path, content):
    if content is not None:
        (tmp_path / "report.json").write_bytes(content)
    assert main(["bench", "--from", "report.json"]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("numbabn: error: ")
    assert "report.json" in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("module", ["tqdm", "matplotlib.figure"])
def test_a_missing_package_is_one_line_and_exit_code_1(capsys, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["bench", "--plot", "figure.png"]) == 1
    shown = capsys.readouterr().err
    assert 'pip install "numbabn[bench]"' in shown
    assert shown.count("\n") == 1


def test_a_process_that_does_not_start_is_one_line_and_exit_code_1(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(systems, "NUMBABN", System("numbabn", tmp_path / "none.py"))
    assert main(BENCH) == 1
    assert "the process for numbabn does not start: ended with exit code 2" in capsys.readouterr().err


def test_every_option_can_be_given():
    """The command's options are the fields that it looks for."""
    from numbabn.cli import _parser

    arguments = vars(_parser().parse_args(["bench"]))
    assert {field.name for field in fields(command.Options)} < set(arguments)
