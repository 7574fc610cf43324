"""``numbabn report``: what is on the page, that it is a good one, and that bad files are told."""

import base64
import json
from xml.etree import ElementTree

import pytest
from report_helpers import Page, history, write_run
from test_cli import interrupt, some_digits

from numbabn.cli import main
from numbabn.training import checkpoint, sources
from numbabn.training.figures import colour, curves_svg
from numbabn.training.report import read_runs

TRAIN = ["train", "--no-progress", "--epochs", "2", "--batch-size", "10"]
HOSTILE = "<img src=x onerror=alert(1)>&\"'\x1b[2J\u202e{0}$\\frac$"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test in an empty folder, with few digits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "digits", some_digits)
    return tmp_path


def reported(*folders, out="report.html"):
    """The page that compares runs, read."""
    assert main(["report", *map(str, folders), "--out", out]) == 0
    with open(out, encoding="utf-8", newline="") as file:
        return Page(file.read())


def test_a_page_compares_trained_runs(capsys):
    """With the two of a comparison in folders of their own, as ``--compare`` leaves them."""
    assert main([*TRAIN, "--seed", "4"]) == 0
    assert main([*TRAIN, "--model", "mlp", "--compare", "--out", "runs/my nets"]) == 0
    capsys.readouterr()
    assert main(["report", "runs"]) == 0
    assert capsys.readouterr().out == "report         report.html, 3 runs\n"
    with open("report.html", encoding="utf-8") as file:
        page = Page(file.read())
    names = ["digits", "my nets/with-batch-norm", "my nets/without-batch-norm"]
    assert page.texts("title") == page.texts("h1") == ["3 training runs"]
    assert page.texts("li") == names
    results, different, same = page.tables()
    for (name, epochs, parameters, final, best, train, speed, *_), expected in zip(results[1:], names, strict=True):
        saved = checkpoint.load_place(f"runs/{expected}/last.npz").history
        assert (name, epochs, final) == (expected, "2", f"{saved.final.test_accuracy:.2%}")
        assert best.startswith(f"{saved.best.test_accuracy:.2%} ({saved.best.epoch}, ")
        assert (train, speed) == (f"{saved.final.train_accuracy:.2%}", f"{saved.images_per_second:,.0f}")
        with open(f"runs/{expected}/config.json") as file:
            assert parameters == f"{json.load(file)['parameters']:,}"
    assert different[0] == ["option", *names]
    assert different[1:] == [
        ["model", "small-cnn", "mlp", "mlp"],
        ["seed", "4", "0", "0"],
        ["batch norm", "yes", "yes", "no"],
        ["compare", "no", "yes", "yes"],
        ["network", "SmallCNN", "MLP", "MLP"],
    ]
    assert ["dataset", "digits"] in same
    assert ["label smoothing", "0.1"] in same
    assert ["data shape", "[1, 8, 8]"] in same
    ours = "numbabn train --model mlp --epochs 2 --batch-size 10 --compare"
    assert page.texts("code") == ["numbabn train --epochs 2 --batch-size 10 --seed 4", ours, ours]


def test_the_command_on_the_page_makes_the_run(here):
    assert main([*TRAIN, "--model", "mlp", "--no-batch-norm", "--lr", "0.05", "--out", "run"]) == 0
    (command,) = reported("run").texts("code")
    assert command == "numbabn train --model mlp --epochs 2 --batch-size 10 --lr 0.05 --no-batch-norm"
    assert main([*command.split()[1:], "--no-progress", "--out", "again"]) == 0
    first, again = (checkpoint.load_place(f"{name}/last.npz") for name in ("run", "again"))
    assert first.config == again.config
    assert first.history.final.test_loss == again.history.final.test_loss


@pytest.mark.parametrize(("batches", "epochs"), [(3, "0 of 2"), (8, "1 of 2")])
def test_interrupted_runs_are_shown(monkeypatch, batches, epochs):
    interrupt(monkeypatch, batches)
    assert main([*TRAIN, "--out", "run"]) == 130
    page = reported("run")
    results, options = page.tables()
    assert results[1][:2] == ["run", epochs]
    assert ["epochs", "2"] in options
    assert ("No epoch is complete." in page.texts("p")) == (epochs == "0 of 2")
    assert len(page.all("img")) == (0 if epochs == "0 of 2" else 2)


def test_one_run_has_all_its_options_in_sight(here):
    page = reported(
        write_run(here / "runs" / "one", 0.5, 0.75, lr=0.1, notes={"why": "to see", "options": {"lr": 0.1}})
    )
    assert page.texts("h1") == ["Training run one"]
    assert page.all("details") == []
    results, options = page.tables()
    assert [row[:4] for row in results] == [
        ["run", "epochs", "parameters", "test accuracy"],
        ["one", "2", "51", "75.00%"],
    ]
    assert ["lr", "0.1"] in options
    assert ["note why", "to see"] in options
    assert page.texts("code") == ["trained from Python"]
    assert page.all("strong") == []


def test_what_is_best_is_marked(here):
    write_run(here / "a", 0.25, 0.9, 0.5)
    write_run(here / "b", 0.5, 0.75, epochs=5)
    write_run(here / "c", 0.75)
    page = reported("a", "c", "b")
    results = page.tables()[0]
    assert [row[3] for row in results[1:]] == ["50.00%", "75.00%", "75.00%"]
    assert [row[4] for row in results[1:]] == ["90.00% (2, 3.0 s)", "75.00% (1, 1.5 s)", "75.00% (2, 3.0 s)"]
    assert results[3][:2] == ["b", "2 of 5"]
    assert page.texts("strong") == ["90.00% (2, 3.0 s)", "75.00%", "75.00%"]


def test_a_run_that_lacks_an_option_differs(here):
    write_run(here / "a", 0.5, width=3)
    write_run(here / "b", 0.5)
    different = reported("a", "b").tables()[1]
    assert different == [["option", "a", "b"], ["width", "3", "-"]]


def test_runs_that_are_all_the_same(here):
    write_run(here / "a", 0.5)
    write_run(here / "b", 0.5)
    page = reported("a", "b")
    assert "All are the same." in page.texts("p")
    assert len(page.tables()) == 2


def test_each_run_is_there_once_and_has_a_name_of_its_own(here, monkeypatch):
    for place in ("x/run", "y/run", "y/run/inside", "y/more"):
        write_run(here / place, 0.5)
    (here / "link").symlink_to(here / "x" / "run")
    names = [run.name for run in read_runs(["y", "x/run", "link", here / "y"])]
    assert names == ["y/more", "y/run", "y/run/inside", "x/run"]
    monkeypatch.chdir(here / "y" / "run")
    assert [run.name for run in read_runs(["."])] == ["run", "run/inside"]
    assert [run.name for run in read_runs(["inside"])] == ["inside"]


def test_runs_come_in_the_order_of_their_numbers(here):
    for name in ("digits-10", "digits", "digits-9", "3", "cifar10-2", "cifar10"):
        write_run(here / name, 0.5)
    names = [run.name for run in read_runs(["."])]
    assert names == ["3", "cifar10", "cifar10-2", "digits", "digits-9", "digits-10"]


def test_the_page_needs_nothing_else_and_no_script(here):
    write_run(here / "a", 0.5, 0.7)
    write_run(here / "b", 0.6)
    page = reported("a", "b")
    tags = {element["tag"] for element in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("meta")[0]["charset"] == "utf-8"
    assert {"viewport", "color-scheme"} <= {element.get("name") for element in page.all("meta")}
    for element in page.elements:
        assert not any(name.startswith("on") or name == "href" for name in element)
        for name in ("src", "srcset"):
            assert element.get(name, "data:").startswith("data:")
    (style,) = page.texts("style")
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert style.count("{") == style.count("}")
    assert all(image["alt"] for image in page.all("img"))
    themes = [element["srcset"] for element in page.all("source")] + [element["src"] for element in page.all("img")]
    assert len(set(themes)) == 4
    for uri in themes:
        drawn = base64.b64decode(uri.removeprefix("data:image/svg+xml;base64,"), validate=True)
        tree = ElementTree.fromstring(drawn)
        assert tree.tag == "{http://www.w3.org/2000/svg}svg"
        references = [value for part in tree.iter() for name, value in part.items() if name.endswith("href")]
        assert all(value.startswith("#") for value in references)
        assert not [part for part in tree.iter() if part.tag.endswith(("script", "image", "foreignObject"))]


def test_everything_from_files_is_escaped(here):
    hostile = HOSTILE.replace("/", "")
    notes = {"command": HOSTILE, "options": {HOSTILE: HOSTILE}, HOSTILE: [HOSTILE, {HOSTILE: 1}]}
    folder = write_run(here / hostile / "run", 0.5, notes=notes)
    described = json.loads((folder / "config.json").read_text())
    described |= {"date": "<b>&", "model": HOSTILE, "versions": {HOSTILE: HOSTILE}, "machine": {HOSTILE: {HOSTILE: 1}}}
    described["data"]["name"] = HOSTILE
    (folder / "config.json").write_text(json.dumps(described))
    write_run(here / "tame", 0.5)
    page = reported(".")
    tags = {element["tag"] for element in reported("tame", "tame").elements}
    assert {element["tag"] for element in page.elements} <= tags | {"details", "summary", "strong"}
    assert len(page.all("img")) == 2
    shown = HOSTILE.replace("\x1b", "\ufffd").replace("\u202e", "\ufffd")
    assert shown in page.texts("code")
    assert f"{shown}/run" in page.texts("li")
    assert any(shown in cell for table in page.tables() for row in table for cell in row)


def test_names_that_are_no_text_are_shown(here):
    write_run(here / "caf\udce9", 0.5)
    assert reported(".").texts("li") == ["caf\ufffd"]


def test_a_report_is_replaced(here):
    write_run(here / "a", 0.5)
    (here / "old.html").write_text("old")
    reported("a", out="old.html")
    assert sorted(path.name for path in here.iterdir()) == ["a", "old.html"]


def test_the_panels_show_the_numbers_in_the_runs_colours(monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **b: (figures.append(self), savefig(self, *a, **b))[1])
    drawn = curves_svg("accuracy", {"a": history(0.5, 0.9), "b": history(), "c": history(0.8)}, "dark")
    (axes,) = figures[0].axes
    lines = [(line.get_color(), line.get_xydata().tolist()) for line in axes.lines if len(line.get_xydata())]
    first, third = colour(0), colour(2)
    assert lines[:2] == [(first, [[1, 50], [2, 90]]), (first, [[1, 25], [2, 45]])]
    assert lines[2:] == [(third, [[1, 80]]), (third, [[1, 40]])]
    assert first.encode() in drawn


def test_each_run_has_a_colour_of_its_own():
    assert len({colour(number) for number in range(60)}) == 60


@pytest.mark.parametrize("losses", [(1.7e308, -1.7e308), (5e-324, 0.0), (1e300, 1e-300)])
def test_any_finite_loss_can_be_drawn(losses):
    rows = [{**row, "test_loss": loss} for row, loss in zip(history(0.5, 0.6).rows(), losses, strict=True)]
    picture = ElementTree.fromstring(curves_svg("loss", {"run": history().from_rows(rows)}, "light"))
    assert picture.tag.endswith("svg")


def test_runs_that_diverged_are_told(capsys):
    assert main([*TRAIN, "--model", "resnet8", "--lr", "1", "--compare"]) == 0
    assert main([*TRAIN, "--lr", "1e9", "--out", "runs/far too high"]) == 1
    capsys.readouterr()
    assert main(["report", "runs"]) == 0
    with open("report.html", encoding="utf-8") as file:
        content = file.read()
    results = Page(content).tables()[0]
    assert [(name, epochs) for name, epochs, *_ in results[1:]] == [
        ("digits/with-batch-norm", "2"),
        ("digits/without-batch-norm", "0 of 2, diverged"),
        ("far too high", "0 of 2, diverged"),
    ]
    assert 'title="the loss is nan in epoch 1, batch ' in content
