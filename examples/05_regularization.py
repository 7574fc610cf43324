"""Batch norm regularizes mildly and is no substitute for dropout.

Setting: a perceptron with two hidden layers of 256 on a fifth of the digits, 359 images, tested on the other 1,438;
with batch norm, with dropout of one half behind each hidden layer, with both and with neither, otherwise alike. The gap
is training accuracy minus test accuracy, both with running averages and without dropping, in points. Four seeds were
tried with half the batch size beforehand, to see that all four networks learn their images.

Variance shift: a value x of mean mu and variance sigma^2 becomes x b / (1 - p) in training, where b is 1 with
probability 1 - p, else 0. Its mean stays mu, its mean square becomes (sigma^2 + mu^2) / (1 - p), and so its variance

    (sigma^2 + p mu^2) / (1 - p)    in training,    sigma^2    in testing.

What is dropped in one unit is independent of the others, so covariances stay, and a linear layer of weights w has

    Var(w x) + p / (1 - p) sum_i w_i^2 (sigma_i^2 + mu_i^2)    in training,    Var(w x)    in testing.

A batch norm behind either keeps the training variance and scales test values by it. Measured on the first hidden layer
of the network with both, over all its training images and many draws; variances are summed over units.

Source: S. Ioffe and C. Szegedy, "Batch Normalization", 2015, section 3.4; X. Li et al., "Understanding the Disharmony
between Dropout and Batch Normalization by Variance Shift", 2018, section 3.
Criterion: the gap is smaller with batch norm than with neither, and smaller with dropout alone than with batch norm
alone, seed by seed (study.greater both times); and every measured variance ratio is within four standard errors of the
closed form.
"""

import numpy as np
from study import COLOURS, Study, band, greater, plus_minus

from numbabn import nn, training

KINDS = {"neither": (None, 0.0), "batch norm": ("batch", 0.0), "dropout": (None, 0.5), "both": ("batch", 0.5)}
RATES = np.arange(0.1, 0.75, 0.1)
SHIFTS = {"unit": "behind dropout itself", "linear": "behind dropout and a linear layer"}


def measure(seed, epochs, draws):
    whole = training.digits(seed)
    data = training.Dataset(whole.test_images, whole.test_labels, whole.train_images, whole.train_labels)
    run = {}
    for kind, (norm, p) in KINDS.items():
        model = nn.MLP(64, 10, norm=norm, dropout=p, seed=seed)
        optimizer = nn.SGD(model, lr=0.05, momentum=0.9)
        history = training.fit(model, data, optimizer, epochs=epochs, batch_size=64, seed=seed, progress=False)
        train, test = training.evaluate(model, data.train_images, data.train_labels), history.final
        run[kind] = {
            "gap": 100 * (train.accuracy - test.test_accuracy),
            "test_accuracy": 100 * test.test_accuracy,
            "loss_gap": test.test_loss - train.loss,
        }
    return run | {"shift": variance_shift(model, data.train_images, seed, draws)}


def variance_shift(model, images, seed, draws):
    """Training variance over test variance, by the closed form and measured, of the first hidden layer's dropout."""
    layers = model.children()
    front = nn.Sequential(*(layers[name] for name in ("flatten", "linear1", "norm1", "relu1")))
    x = front.forward(images, training=False).copy()
    weight = layers["linear2"].weight.value
    wx = x @ weight.T
    squares = (x.astype(np.float64) ** 2).mean(axis=0)
    direct, linear = x.var(axis=0, dtype=np.float64), wx.var(axis=0, dtype=np.float64)
    shift = {"unit": {}, "linear": {}}
    shift["unit"]["closed"] = [(direct + p * (squares - direct)).sum() / (1 - p) / direct.sum() for p in RATES]
    shift["linear"]["closed"] = [1 + p / (1 - p) * (weight**2 @ squares).sum() / linear.sum() for p in RATES]
    ratios = np.empty((2, len(RATES), draws))
    for index, p in enumerate(RATES):
        dropout = nn.Dropout(p, seed=seed)
        for draw in range(draws):  # means are known exactly, so mean squares about them are unbiased
            dropped = dropout.forward(x, training=True)
            ratios[0, index, draw] = ((dropped - x.mean(axis=0)) ** 2).mean(axis=0).sum() / direct.sum()
            ratios[1, index, draw] = ((dropped @ weight.T - wx.mean(axis=0)) ** 2).mean(axis=0).sum() / linear.sum()
    for entry, values in zip(shift.values(), ratios, strict=True):
        entry["measured"] = values.mean(axis=1)
        entry["standard_error"] = values.std(axis=1, ddof=1) / np.sqrt(draws)
    return shift | {"running_var": layers["norm2"].running_var.sum() / linear.sum()}


def draw(study, runs):
    figure, (gaps, shifts) = study.figure(
        "Gaps of similar size; and dropout in front of a batch norm shifts its variances", 2
    )
    for place, kind in enumerate(KINDS):
        values = [run[kind]["gap"] for run in runs]
        gaps.plot([place] * len(values), values, "o", color=COLOURS[place], alpha=0.6)
        gaps.hlines(np.mean(values), place - 0.25, place + 0.25, color=COLOURS[place], linewidth=2.5)
    gaps.set(xticks=range(4), xticklabels=KINDS, xlim=(-0.5, 3.5), title="each seed, and the mean")
    gaps.set_ylabel("training minus test accuracy, points")
    for (kind, name), colour, style in zip(SHIFTS.items(), COLOURS, ("-", "--"), strict=False):
        shifts.plot(RATES, np.mean([run["shift"][kind]["closed"] for run in runs], axis=0), style, color=colour)
        measured = [run["shift"][kind]["measured"] for run in runs]
        band(shifts, RATES, measured, name, color=colour, linestyle="", marker="os"[style == "--"], markersize=4)
    running = [run["shift"]["running_var"] for run in runs]
    shifts.plot([0.5] * len(runs), running, "x", color=COLOURS[2], label="the network's own running variance")
    shifts.set(xlabel="dropout rate p", ylabel="training variance / test variance", title="lines: closed form")
    shifts.legend(frameon=False)
    return figure


if __name__ == "__main__":
    study = Study(__file__, __doc__)
    settings = {"epochs": 2 if study.quick else 60, "draws": 3 if study.quick else 100}
    runs = study.over_seeds(lambda seed: measure(seed, **settings))
    gap = {kind: [run[kind]["gap"] for run in runs] for kind in KINDS}
    shifts = [run["shift"][kind] for run in runs for kind in SHIFTS]
    errors = [np.abs(np.subtract(s["measured"], s["closed"])) / s["standard_error"] for s in shifts]
    mild, lesser = greater(gap["neither"], gap["batch norm"]), greater(gap["batch norm"], gap["dropout"])
    study.finish(
        draw(study, runs),
        quantity="gap in points",
        with_norm=gap["batch norm"],
        without=gap["neither"],
        holds=mild and lesser and np.max(errors) < 4,
        settings=settings | {"kinds": KINDS, "rates": RATES, "lr": 0.05, "momentum": 0.9, "batch_size": 64},
        runs=runs,
        names=("with batch norm", "with neither"),
        note=f"dropout {plus_minus(gap['dropout'])}, both {plus_minus(gap['both'])}; "
        f"variances at most {np.max(errors):.1f} standard errors from the closed form",
    )
