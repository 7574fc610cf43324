"""Every example runs, in its quick form, and leaves what it says; the gallery shows what full runs printed."""

import doctest
import importlib
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
STUDIES = sorted(EXAMPLES.glob("[0-9][0-9]_*.py"))
VERDICTS = ("holds", "does not hold here", "not judged (--quick)")
NUMBER = r"-?\d+(\.\d+)?(e[-+]\d+)?"
LINE = re.compile(
    rf"claim: [^|]+ \| [^|]+ {NUMBER} ± {NUMBER}[^|]* \(\d+ seeds\)[^|]* \| ({'|'.join(map(re.escape, VERDICTS))})"
)
PNG = b"\x89PNG\r\n\x1a\n"
MOST_BYTES = 120_000
"""Of a figure in the gallery."""


@pytest.fixture
def study(monkeypatch):
    """The module that the scripts share, found as they find it."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("study")


@pytest.fixture
def run(study, monkeypatch, capsys):
    """Run a script of the folder as the main program; gives the lines that it printed."""

    def run(script, *options):
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, options)])
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def check_report(path):
    """A study's JSON, once figure, line and numbers are found to fit together."""
    report = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert LINE.fullmatch(report["line"])
    assert report["line"].startswith(f"claim: {report['about'].splitlines()[0].rstrip('.')} | {report['quantity']} ")
    verdict = VERDICTS[2] if report["quick"] else VERDICTS[0] if report["holds"] else VERDICTS[1]
    assert report["line"].endswith(f"| {verdict}")
    assert len(report["runs"]) == len(report["seeds"]) >= 2
    assert report["settings"]
    assert all(set(entry) == {"mean", "std"} for entry in report["summary"].values())
    assert path.with_suffix(".png").read_bytes().startswith(PNG)
    return report


@pytest.mark.parametrize("script", STUDIES, ids=lambda script: script.stem)
def test_quick_form(script, run, tmp_path):
    lines = run(script, "--quick", "--out", tmp_path / "results")
    report = check_report(tmp_path / "results" / f"{script.stem}.json")
    assert report["quick"]
    assert lines[-1] == report["line"]
    assert sorted(path.suffix for path in (tmp_path / "results").iterdir()) == [".json", ".png"]


@pytest.mark.parametrize("script", STUDIES, ids=lambda script: script.stem)
def test_gallery_shows_a_full_run(script):
    report = check_report(EXAMPLES / "figures" / f"{script.stem}.json")
    assert not report["quick"]
    assert len(report["seeds"]) >= 5
    assert (EXAMPLES / "figures" / f"{script.stem}.png").stat().st_size <= MOST_BYTES
    gallery = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for part in (report["line"], f"(figures/{script.stem}.png)", f"python examples/{script.name}"):
        assert part in gallery


@pytest.mark.parametrize("script", STUDIES, ids=lambda script: script.stem)
def test_docstring_tells_source_and_criterion(script, run):
    lines = script.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 120
    doc = runpy.run_path(str(script))["__doc__"]
    assert re.search(r"\nSource: .*?(19|20)\d\d.*\nCriterion: ", doc, re.DOTALL)


def test_doctests_of_study(study):
    assert doctest.testmod(study).failed == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--seeds", "1"], "--seeds is 1; expected at least 2"), (["--out", __file__], "expected a folder")],
)
def test_options_are_checked_before_anything_runs(options, message, study, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["study.py", *options])
    with pytest.raises(SystemExit, match="2"):
        study.arguments("A claim.")
    assert message in capsys.readouterr().err


def test_quickstart(run):
    lines = run(EXAMPLES / "quickstart.py")
    errors = [float(line.split()[3]) for line in lines if "largest error" in line]
    assert len(errors) == 3
    assert max(errors) < 1e-8
    assert any(line.endswith("the same result in any batch: True") for line in lines)
