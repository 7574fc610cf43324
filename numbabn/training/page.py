"""The page that compares runs: HTML that needs no other file and no script. All texts in it are escaped."""

import base64
import html
import json
from datetime import UTC, datetime
from importlib.resources import files

from .. import __version__
from .figures import INKS, QUANTITIES, colour, curves_svg

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Of what the page may load: nothing."""
NOTHING = "-"

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<h2>Results</h2>
{results}
<h2>Curves</h2>
{curves}
<h2>Options</h2>
{options}
<h2>Commands</h2>
{commands}
</main>
<footer>numbabn {version}, {date} UTC</footer>
</body>
</html>
"""


def page(runs: list) -> str:
    """The page.

    Parameters
    ----------
    runs : list of numbabn.training.report.FoundRun
        One or more, each with a name of its own.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    title = f"Training run {runs[0].name}" if len(runs) == 1 else f"{len(runs)} training runs"
    return TEMPLATE.format(
        policy=text(POLICY),
        title=text(title),
        style=files(__package__).joinpath("page.css").read_text(encoding="utf-8"),
        results=_results(runs),
        curves=_curves(runs),
        options=_options(runs),
        commands=_commands(runs),
        version=text(__version__),
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
    )


def text(value) -> str:
    """A value as HTML text or within an attribute's quotes; what cannot be seen is shown as U+FFFD.

    Examples
    --------
    >>> text("<b>'a' & b"), text(0.1), text(True), text([1, 2 / 3])
    ('&lt;b&gt;&#x27;a&#x27; &amp; b', '0.1', 'yes', '[1, 0.666667]')
    """
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    written = value if isinstance(value, str) else json.dumps(_rounded(value), ensure_ascii=False)
    return html.escape("".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in written))


def _rounded(value):
    """Floats with six digits, also in lists."""
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _results(runs):
    head = ("run", "epochs", "parameters", "test accuracy", "best", "train accuracy", "images/s", "time", "date, UTC")
    finals, bests = ([getattr(run.history, name) for run in runs] for name in ("final", "best"))
    rows = [_result(*entry) for entry in zip(runs, map(_name, range(len(runs)), runs), finals, bests, strict=True)]
    for column, records in ((3, finals), (4, bests)):
        highest = max((record.test_accuracy for record in records if record), default=None)
        for row, record in zip(rows, records, strict=True):
            if len(runs) > 1 and record and record.test_accuracy == highest:
                row[column] = f"<strong>{row[column]}</strong>"
    note = "Accuracies at the end of the last epoch, and of the best with its number and the time until then."
    return f"{_table(head, rows, 'numbers')}\n<p>{note}</p>"


def _result(run, name, final, best):
    """A run's cells."""
    description, asked = run.description, run.description.settings["epochs"]
    done = len(run.history.records)
    epochs = str(done) if done >= asked else f"{done} of {asked}"
    if description.diverged:
        epochs = f'{epochs}, <abbr title="{text(description.diverged)}">diverged</abbr>'
    cells = [name, epochs, f"{description.parameters:,}"]
    if final is None:
        cells += [NOTHING] * 5
    else:
        cells += [
            f"{final.test_accuracy:.2%}",
            f"{best.test_accuracy:.2%} <small>({best.epoch}, {_duration(best.seconds)})</small>",
            f"{final.train_accuracy:.2%}",
            f"{run.history.images_per_second:,.0f}",
            _duration(final.seconds),
        ]
    return [*cells, text(description.date[:16].replace("T", " "))]


def _curves(runs):
    """Both panels, each for light and for dark pages; the legend is HTML, which takes any name."""
    if not any(run.history.records for run in runs):
        return "<p>No epoch is complete.</p>"
    histories = {run.name: run.history for run in runs}
    legend = "\n".join(f"<li>{_name(number, run)}</li>" for number, run in enumerate(runs))
    pictures = "\n".join(_picture(quantity, histories) for quantity in QUANTITIES)
    return (
        f'<figure>\n<div class="panels">\n{pictures}\n</div>\n<figcaption>\n<p>Solid: test. Dashed: training.</p>\n'
        f'<ul class="legend">\n{legend}\n</ul>\n</figcaption>\n</figure>'
    )


def _picture(quantity, histories):
    light, dark = (_data_uri(curves_svg(quantity, histories, theme)) for theme in INKS)
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" width="540" height="390" alt="{quantity} by epoch"></picture>'
    )


def _data_uri(svg):
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}"


def _options(runs):
    """What differs, and below it what does not."""
    facts = [_facts(run.description) for run in runs]
    names = dict.fromkeys(name for found in facts for name in found)
    values = {name: [found.get(name, NOTHING) for found in facts] for name in names}
    different = [[name, *found] for name, found in values.items() if len(set(found)) > 1]
    same = [[name, found[0]] for name, found in values.items() if len(set(found)) == 1]
    if len(runs) == 1:
        return _table(("option", "value"), same)
    head = ("option", *(_name(number, run) for number, run in enumerate(runs)))
    return (
        (_table(head, different, "different") if different else "<p>All are the same.</p>")
        + f"\n<details>\n<summary>The same in all runs ({len(same)})</summary>\n"
        + f"{_table(('option', 'value'), same)}\n</details>"
    )


def _facts(description):
    """Rows of the table: escaped names and values."""
    notes = dict(description.notes)
    notes.pop("command", None)
    options = notes.pop("options") if isinstance(notes.get("options"), dict) else {}
    others = {
        name: value for name, value in description.settings.items() if name not in {"data", "train_images", *options}
    }
    parts = {"": options | {"network": description.model} | others, "data": description.data, "note": notes}
    parts |= {"version of": description.versions, "machine": description.machine}
    return {text(name.replace("_", " ")): text(value) for part in parts.items() for name, value in _flat(*part)}


def _flat(name, value):
    """Entries of dictionaries in dictionaries, by the names on the way."""
    if not isinstance(value, dict):
        yield name, value
        return
    for inner, entry in value.items():
        yield from _flat(f"{name} {inner}".strip(), entry)


def _commands(runs):
    entries = []
    for number, run in enumerate(runs):
        command = run.description.notes.get("command", "trained from Python")
        entries.append(f"<dt>{_name(number, run)} <small>{text(str(run.folder))}</small></dt>")
        entries.append(f"<dd><code>{text(command)}</code></dd>")
    return "<dl>\n" + "\n".join(entries) + "\n</dl>"


def _name(number, run):
    """A run's name behind a spot of its colour."""
    return f'<span class="spot" style="background:{colour(number)}"></span>{text(run.name)}'


def _table(head, rows, kind=""):
    """A table of cells that are HTML already; the first of a row is its head."""
    opening = f'<table class="{kind}">' if kind else "<table>"
    lines = [f'<div class="wide">\n{opening}\n<thead>', _row(f'<th scope="col">{cell}</th>' for cell in head)]
    lines.append("</thead>\n<tbody>")
    for first, *cells in rows:
        lines.append(_row([f'<th scope="row">{first}</th>', *(f"<td>{cell}</td>" for cell in cells)]))
    return "\n".join([*lines, "</tbody>\n</table>\n</div>"])


def _row(cells):
    return f"<tr>{''.join(cells)}</tr>"


def _duration(seconds):
    """
    >>> _duration(61.23), _duration(754), _duration(36000.4)
    ('61.2 s', '12 min 34 s', '10 h 0 min')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
