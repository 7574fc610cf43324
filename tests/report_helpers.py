"""Run folders as training leaves them, written without training, and a strict reader of HTML."""

from html.parser import HTMLParser

import numpy as np

from numbabn import nn
from numbabn.training import Dataset, History, Record
from numbabn.training.description import Description

VOID = {"img", "meta", "source"}
"""Elements that have no end, of those that a report uses."""


def history(*accuracies):
    """One epoch for each test accuracy."""
    return History(
        [
            Record(epoch, 0.1, 2.0 / epoch, accuracy / 2, 2.1 / epoch, accuracy, 1000.0, 1.5 * epoch)
            for epoch, accuracy in enumerate(accuracies, start=1)
        ]
    )


def describe(epochs, notes=None, **settings):
    images, labels = np.zeros((3, 1, 4, 4)), np.arange(3)
    data = Dataset(images, labels, images, labels, name="little")
    return Description.of(nn.MLP(16, 3, hidden=()), data, {"epochs": epochs, **settings}, notes)


def write_run(folder, *accuracies, epochs=None, notes=None, **settings):
    """A run with these test accuracies; returns its folder."""
    folder.mkdir(parents=True)
    describe(epochs or len(accuracies), notes, **settings).write(folder / "config.json")
    history(*accuracies).write_json(folder / "history.json")
    return folder


class Page(HTMLParser):
    """Elements of a page by their tags, each a dict of attributes and ``text``; asserts that they are nested well."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.declarations = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        assert self.declarations == ["DOCTYPE html"]
        assert text.startswith("<!DOCTYPE html>")

    def handle_decl(self, declaration):
        self.declarations.append(declaration)

    def handle_comment(self, comment):
        raise AssertionError(f"a comment: {comment}")

    def handle_pi(self, instruction):
        raise AssertionError(f"an instruction: {instruction}")

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes)
        element = {"tag": tag, "text": "", **dict(attributes)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        raise AssertionError(f"<{tag}/> is no HTML")

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, text):
        for element in self.open:
            element["text"] += text

    def all(self, tag):
        return [element for element in self.elements if element["tag"] == tag]

    def texts(self, tag):
        return [element["text"].strip() for element in self.all(tag)]

    def tables(self):
        """Rows of texts of each table."""
        tables, row = [], None
        for element in self.elements:
            if element["tag"] == "table":
                tables.append([])
            elif element["tag"] == "tr":
                row = []
                tables[-1].append(row)
            elif element["tag"] in ("td", "th"):
                row.append(element["text"])
        return tables
