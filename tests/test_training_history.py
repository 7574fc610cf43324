"""What a run measured: levels, CSV, JSON, pictures, and the comparison of two runs."""

import csv
import json
import sys
from dataclasses import replace

import pytest

from numbabn.training import History, Record, compare, save_curves


def history(*accuracies, seconds=0.5):
    return History(
        [
            Record(
                epoch=epoch,
                learning_rate=0.1 / epoch,
                train_loss=1.0 / epoch,
                train_accuracy=accuracy,
                test_loss=1.1 / epoch,
                test_accuracy=accuracy,
                images_per_second=1e4 / 3,
                seconds=seconds * epoch,
            )
            for epoch, accuracy in enumerate(accuracies, start=1)
        ]
    )


def diverged(*accuracies):
    return History(history(*accuracies).records, diverged=True)


def test_best_is_the_highest_accuracy_then_the_lowest_loss():
    assert history(0.5, 0.9, 0.8, 0.9).best.epoch == 4
    assert history(0.5, 0.9, 0.8).best.epoch == 2
    assert history(0.5, 0.9, 0.8).final.epoch == 3


def test_an_empty_history_has_no_best():
    assert History().best is None
    assert History().final is None
    assert History().first_at(0.0) is None
    assert History().images_per_second == 0


def test_first_at_is_the_first_epoch_that_reached_the_level():
    assert history(0.5, 0.9, 0.8, 0.95).first_at(0.9).epoch == 2
    assert history(0.5, 0.9).first_at(0.91) is None


def test_csv_holds_every_digit(tmp_path):
    measured = history(0.1, 1 / 3)
    measured.write_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == measured.rows()


def test_json_holds_every_digit(tmp_path):
    measured = history(0.1, 1 / 3)
    measured.write_json(tmp_path / "history.json")
    rows = json.loads((tmp_path / "history.json").read_text())
    assert History.from_rows(rows) == measured


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 2},
        {"seconds": "1"},
        {"seconds": True},
        {"test_loss": float("nan")},
        {"train_loss": -(10**400)},
        {"train_accuracy": -0.1},
        {"test_accuracy": 1.1},
        {"images_per_second": 0.0},
        {"extra": 1},
    ],
)
def test_rows_that_are_no_history_are_refused(change):
    (row,) = history(0.5).rows()
    with pytest.raises(ValueError, match="row 1 of the history"):
        History.from_rows([{**row, **change}])
    with pytest.raises(ValueError, match="the history is of type dict; expected list"):
        History.from_rows(row)


def test_curves_are_a_png_made_without_pyplot(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    save_curves(tmp_path / "curves.png", {"one": history(0.5, 0.9), "two": history(0.4, 0.8, 0.9)}, title="test")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_the_curves_show_the_numbers(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    subplots = Figure.subplots
    monkeypatch.setattr(Figure, "subplots", lambda self, *args: (figures.append(self), subplots(self, *args))[1])
    save_curves(tmp_path / "curves.png", {"run": history(0.5, 0.9)})
    loss, accuracy = figures[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in accuracy.lines}
    assert lines == {"run, test": [[1, 50], [2, 90]], "run, train": [[1, 50], [2, 90]]}
    lines = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert lines == {"run, test": [[1, 1.1], [2, 0.55]], "run, train": [[1, 1.0], [2, 0.5]]}


@pytest.mark.parametrize(("highest", "scale"), [(10.0, "linear"), (1300.0, "log")])
def test_one_loss_does_not_flatten_the_others(tmp_path, monkeypatch, highest, scale):
    from matplotlib.figure import Figure

    figures = []
    subplots = Figure.subplots
    monkeypatch.setattr(Figure, "subplots", lambda self, *args: (figures.append(self), subplots(self, *args))[1])
    first, second = history(0.5, 0.9).records
    save_curves(tmp_path / "curves.png", {"run": History([replace(first, train_loss=highest), second])})
    loss, accuracy = figures[0].axes
    assert (loss.get_yscale(), accuracy.get_yscale()) == (scale, "linear")


@pytest.mark.parametrize(
    ("with_norm", "without", "words"),
    [
        (history(0.9, 0.99), history(0.5, 0.9, 0.98), "was better (99.00% at the end, 98.00% without) and sooner (98%"),
        (history(0.9, 0.97), history(0.9, 0.99), "was worse (97.00% at the end, 99.00% without) and not sooner (only"),
        (history(0.9, 0.97), history(0.9, 0.97), "was as good (97.00% at the end, 97.00% without) and not sooner (95%"),
        (history(0.99, seconds=9.0), history(0.9, 0.98), "sooner in epochs but not in time (98% after 1 epoch, 9.00 s"),
        (history(0.9, 0.99), history(0.98, seconds=9.0), "sooner in time but not in epochs (98% after 2 epochs, 1.00"),
        (history(0.5, 0.99), history(0.5, 0.9), "better (99.00% at the end, 90.00% without) and sooner (only it"),
        (history(0.5, 0.62), history(0.5, 0.59), "and sooner (only it reached 60%, after 2 epochs"),
        (history(0.02, 0.06), history(0.05), "and not measurably sooner (neither reached 20%)"),
        (history(0.5), diverged(), "the network without batch norm diverged; with it, 50.00% at the end"),
        (diverged(0.5, 0.7), history(0.5, 0.6), "the network with batch norm diverged; without it, 60.00% at the end"),
        (diverged(0.5), diverged(), "both networks diverged"),
    ],
)
def test_the_verdict_follows_from_the_numbers(with_norm, without, words):
    assert words in compare.verdict(with_norm, without)


def test_the_table_has_a_line_for_the_highest_levels_reached():
    lines = compare.table(history(0.5, 0.96, 0.95), history(0.91, 0.92)).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "",
        "test accuracy at the end",
        "best test accuracy",
        "80% reached after",
        "90% reached after",
        "95% reached after",
    ]
    assert "95.00%" in lines[1]
    assert "96.00%" in lines[2]
    for line, level in ((lines[3], "80%"), (lines[4], "90%")):
        assert line.split() == [level, "reached", "after", "2", "epochs,", "1.00", "s", "1", "epoch,", "0.50", "s"]
    assert lines[5].split() == ["95%", "reached", "after", "2", "epochs,", "1.00", "s", "never"]


def test_the_table_tells_that_a_run_diverged():
    lines = compare.table(history(0.5, 0.72), diverged(0.3)).splitlines()
    assert lines[1].split("  ")[-1].strip() == "diverged"
    assert lines[2].split()[-2:] == ["72.00%", "30.00%"]
    assert compare.table(diverged(), history(0.2)).splitlines()[2].split()[-2:] == ["none", "20.00%"]
