"""Batch norm keeps the distribution of a layer's values where it is while the network trains.

Source: S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift", 2015, section 4.1 and figure 1: percentiles of what a unit of the last hidden layer gets, over training.

Setting: three hidden layers of 100 units on the digits, SGD without momentum at rate 0.1, batches of 60, as there, but
ReLU for the sigmoid. Measured at 100 times on the test images: the 15th, 50th and 85th percentile of what the last ReLU
gets, after gamma and beta, for each of its 100 units. Their shift is the distance from where they end, in units of the
width between the outer two (both means over training), averaged over units, percentiles and times.

Criterion: the shift is smaller with batch norm by a paired one-sided t-test at 2.5 %, and before gamma and beta every
channel has a mean within 1e-5 of 0 and a variance within 1e-5 of v / (v + eps), v being its variance before.
"""

import copy

import numpy as np
from study import COLOURS, WITH, WITHOUT, Study, band, greater

import numbabn as nbn
from numbabn import nn, training

NORMS = {"without": None, "with": "batch"}
PERCENTILES = (15, 50, 85)
RATE, BATCH_SIZE, HIDDEN, EPS = 0.1, 60, (100, 100, 100), 1e-5


def main():
    study = Study(__file__, __doc__)
    steps, every = (10, 5) if study.quick else (2000, 20)
    measured = study.over_seeds(lambda seed: {name: train(norm, steps, every, seed) for name, norm in NORMS.items()})
    shifts = {name: [shift(run[name][0]) for run in measured] for name in NORMS}
    totals = {name: [each.mean() for each in shifts[name]] for name in NORMS}
    error = max(run["with"][1] for run in measured)
    study.finish(
        draw(study, measured, shifts, every),
        quantity="shift of percentiles over training, in widths,",
        with_norm=totals["with"],
        without=totals["without"],
        holds=greater(totals["without"], totals["with"]) and error < 1e-5,
        note=f"means 0 and variances 1 to {error:.0e}",
        settings={"rate": RATE, "batch_size": BATCH_SIZE, "hidden": HIDDEN, "steps": steps, "percentiles": PERCENTILES},
        runs=[
            {"error": run["with"][1], "shift_over_training": {name: shifts[name][index] for name in NORMS}}
            for index, run in enumerate(measured)
        ],
    )


def train(norm, steps, every, seed):
    """Percentiles of each unit, shape (times, percentiles, units), and the largest error of its mean and variance."""
    data = training.digits(seed)
    model = nn.MLP(64, 10, hidden=HIDDEN, norm=norm, seed=seed)
    loss, optimizer, rng = nn.CrossEntropy(), nn.SGD(model, RATE), np.random.default_rng(seed)
    percentiles, error = [], 0.0
    for step in range(steps):
        if step % every == 0:
            given, before = last_relu_input(model, data.test_images)
            percentiles.append(np.percentile(given, PERCENTILES, axis=0))
            error = max(error, normalisation_error(before))
        batch = rng.choice(len(data.train_images), BATCH_SIZE, replace=False)
        loss.forward(model.forward(data.train_images[batch], training=True), data.train_labels[batch])
        model.backward(loss.backward())
        optimizer.step()
    return np.array(percentiles), error


def last_relu_input(model, images):
    """What the last ReLU gets, and the linear layer before it gives; the model stays as it is."""
    layers, x = copy.deepcopy(model).children(), images
    for name in list(layers)[: list(layers).index("linear3") + 1]:
        x = layers[name].forward(x, training=True)
    return (layers["norm3"].forward(x, training=True) if "norm3" in layers else x), x


def normalisation_error(x):
    """How far means are from 0, and variances from v / (v + eps), after batch norm without gamma and beta."""
    y = nbn.batch_norm(x, training=True, eps=EPS).astype(np.float64)
    variance = x.astype(np.float64).var(axis=0)
    return max(abs(y.mean(axis=0)).max(), abs(y.var(axis=0) - variance / (variance + EPS)).max())


def shift(percentiles):
    """Distance of a unit's percentiles from where they end, in widths: means over units and percentiles, by time."""
    width = np.mean(percentiles[:, -1] - percentiles[:, 0], axis=0)
    return (abs(percentiles - percentiles[-1]).mean(axis=1) / width).mean(axis=1)


def draw(study, measured, shifts, every):
    figure, (plain, normalised, over_time) = study.figure("What the last ReLU gets, over training", 3)
    steps = every * np.arange(len(shifts["with"][0]))
    for axes, name in ((plain, "without"), (normalised, "with")):
        for q, line, style in zip(PERCENTILES, measured[0][name][0][:, :, 0].T, ("--", "-", ":"), strict=True):
            axes.plot(steps, line, style, color=COLOURS[0 if name == "with" else 1], label=f"{q}th percentile")
        axes.set(xlabel="step", ylabel="input of the last ReLU", title=f"{name} batch norm: unit 0, seed 0")
    for name, style in (("with", WITH), ("without", WITHOUT)):
        band(over_time, steps, shifts[name], name, **{**style, "marker": ""})
    over_time.set(xlabel="step", ylabel="distance from the end (widths)", title="all units, mean ± std over seeds")
    limits = [limit for axes in (plain, normalised) for limit in axes.get_ylim()]
    for axes in (plain, normalised):
        axes.set_ylim(min(limits), max(limits))
    normalised.legend(frameon=False, fontsize=8, loc="lower right")
    over_time.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
