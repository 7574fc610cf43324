"""``numbabn report`` where files are missing, damaged or made to deceive: one line, and nothing is written."""

import functools
import json
import sys

import pytest
from report_helpers import write_run
from test_cli import refused, some_digits
from test_cli_datasets import failed
from test_cli_report import TRAIN, reported

from numbabn.cli import main
from numbabn.training import page, sources


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test in an empty folder, with few digits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "digits", some_digits)
    return tmp_path


CONFIG, HISTORY = "config.json", "history.json"


def spoil(name, change):
    """Change the JSON in a file."""

    def change_file(folder):
        document = json.loads((folder / name).read_text())
        document = change(document) or document
        (folder / name).write_text(json.dumps(document))

    return change_file


def overwrite(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def first(**changes):
    return spoil(HISTORY, lambda rows: rows[0].update(changes))


def described(**changes):
    return spoil(CONFIG, lambda document: document.update(changes))


def a_folder(name):
    """A folder in place of the file."""

    def replace(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return replace


BAD = {
    "no config": (CONFIG, lambda folder: (folder / CONFIG).unlink(), "is not there"),
    "a folder": (CONFIG, a_folder(CONFIG), "is no file"),
    "empty": (CONFIG, overwrite(CONFIG, b""), "is damaged: "),
    "cut off": (CONFIG, overwrite(CONFIG, b'{"format": '), "is damaged: "),
    "no text": (CONFIG, overwrite(CONFIG, b"\xff\xfe\x00"), "is damaged: "),
    "nested": (CONFIG, overwrite(CONFIG, b"[" * 100_000), "is damaged: "),
    "a list": (CONFIG, overwrite(CONFIG, b"[1]"), "does not describe a run"),
    "other format": (CONFIG, described(format="x"), "does not describe a run: its format is not 'numbabn run'"),
    "other version": (CONFIG, described(version=2), "has format version 2; this numbabn reads version 1"),
    "more": (CONFIG, described(**{"a\nb": 1}), "has the entries "),
    "fewer": (CONFIG, spoil(CONFIG, lambda document: document.pop("machine") and None), "has the entries "),
    "date": (CONFIG, described(date=3), "has 3 for date; expected str"),
    "parameters": (CONFIG, described(parameters="9"), "has '9' for parameters; expected int"),
    "a flag": (CONFIG, described(parameters=True), "has True for parameters; expected int"),
    "settings": (CONFIG, described(settings=["x" * 99]), "for settings; expected dict"),
    "deep": (CONFIG, described(notes={"a": [[[[[[1]]]]]]}), "for notes; expected dict"),
    "epochs": (CONFIG, spoil(CONFIG, lambda d: d["settings"].update(epochs=0)), "has 0 for epochs; expected a number"),
    "NaN": (CONFIG, overwrite(CONFIG, b'{"format": NaN}'), "is damaged: it holds NaN"),
    "large": (CONFIG, overwrite(CONFIG, b" " * ((1 << 24) + 1)), "has more than 16,777,216 bytes"),
    "no history": (HISTORY, lambda folder: (folder / HISTORY).rename(folder / "last.npz"), "is not there"),
    "history cut off": (HISTORY, overwrite(HISTORY, b"[{"), "is damaged: "),
    "history no list": (HISTORY, overwrite(HISTORY, b"{}"), "is damaged: the history is of type dict; expected list"),
    "a row too many": (HISTORY, spoil(HISTORY, lambda rows: rows + rows[:1]), "is damaged: row 3 of the history"),
    "huge": (HISTORY, first(seconds=10**400), "is damaged: row 1 of the history"),
    "text": (HISTORY, first(test_loss="<b>"), "is damaged: row 1 of the history"),
    "accuracy": (HISTORY, first(test_accuracy=1.5), "is damaged: row 1 of the history"),
    "speed": (HISTORY, first(images_per_second=0), "is damaged: row 1 of the history"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line_with_its_name(capsys, here, case):
    name, change, words = BAD[case]
    write_run(here / "good", 0.5)
    change(write_run(here / "run", 0.5, 0.75))
    (here / "report.html").write_text("old")
    shown = failed(capsys, "report", "good", "run")
    assert shown.startswith(f"numbabn: error: run/{name} ")
    assert words in shown
    assert len(shown) < 400
    assert (here / "report.html").read_text() == "old"
    assert sorted(path.name for path in here.iterdir()) == ["good", "report.html", "run"]


def test_runs_of_older_versions_are_told_what_to_do(capsys, here):
    """And that does it, though the run is complete."""
    assert main([*TRAIN, "--out", "run"]) == 0
    (here / "run" / "config.json").unlink()
    capsys.readouterr()
    shown = failed(capsys, "report", "run")
    words = "run/config.json is not there; numbabn train --resume --out run writes it\n"
    assert shown == f"numbabn: error: {words}"
    assert main(["train", "--no-progress", "--resume", "--out", "run"]) == 0
    assert reported("run").tables()[0][1][:2] == ["run", "2"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "the following arguments are required: RUN"),
        (["nowhere"], "nowhere is not a folder"),
        (["run/history.json"], "run/history.json is not a folder"),
        (["run", "empty"], "empty holds no run: neither it nor a folder in it has history.json or last.npz"),
        (
            ["run", "--out", "run/last.npz"],
            "--out: run/last.npz is no name for a page; expected one that ends in .html",
        ),
        (["run", "--out", "no/page.html"], "--out: the folder no does not exist"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_code_2(capsys, here, argv, words):
    write_run(here / "run", 0.5)
    (here / "empty").mkdir()
    assert words in refused(capsys, "report", *argv)
    assert sorted(path.name for path in here.iterdir()) == ["empty", "run"]


def test_a_missing_package_is_one_line_and_exit_code_1(capsys, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_run(here / "run", 0.5)
    assert 'pip install "numbabn[train]"' in failed(capsys, "report", "run")
    assert not (here / "report.html").exists()


def test_a_page_that_cannot_be_made_leaves_the_old_one(here, monkeypatch):
    write_run(here / "run", 0.5)
    (here / "report.html").write_text("old")
    monkeypatch.setattr(page, "curves_svg", functools.partial(failing, "no memory"))
    assert main(["report", "run"]) == 1
    assert (here / "report.html").read_text() == "old"
    assert sorted(path.name for path in here.iterdir()) == ["report.html", "run"]


def failing(words, *args):
    raise MemoryError(words)
