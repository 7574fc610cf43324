"""Batch norm lets a network train at higher learning rates.

Source: J. Bjorck, C. Gomes, B. Selman, K. Q. Weinberger, "Understanding Batch Normalization", 2018, figure 1:
without batch norm, only small learning rates train; larger ones diverge.

Setting: nn.SmallCNN on the digits, SGD with momentum 0.9, batches of 64, 6 epochs at each of 11 rates from 0.001 to
100. A run trains if it ends with at least 50 % test accuracy (chance is 10 %), and diverges if its loss is not finite
any more. Where none trains, the lowest rate counts.

Criterion: the highest rate that trains is higher with batch norm, its logarithm by a paired one-sided t-test at 2.5 %.
"""

import numpy as np
from study import WITH, WITHOUT, Study, band, greater

from numbabn import nn, training

NORMS = {"with": "batch", "without": None}
TRAINS = 0.5
MOMENTUM, BATCH_SIZE = 0.9, 64


def main():
    study = Study(__file__, __doc__)
    rates = [0.1] if study.quick else (10.0 ** np.arange(-3, 2.25, 0.5)).round(4).tolist()
    epochs = 1 if study.quick else 6
    runs = study.over_seeds(
        lambda seed: {name: [train(norm, rate, epochs, seed) for rate in rates] for name, norm in NORMS.items()}
    )
    highest = {name: [highest_rate(run[name], rates) for run in runs] for name in NORMS}
    accuracy = {name: np.array([[0.1 if a is None else a for a in run[name]] for run in runs]) for name in NORMS}
    best = {name: 100 * accuracy[name].mean(axis=0).max() for name in NORMS}
    study.finish(
        draw(study, runs, rates, accuracy),
        quantity="highest learning rate that trains",
        with_norm=highest["with"],
        without=highest["without"],
        holds=greater(np.log10(highest["with"]), np.log10(highest["without"])),
        note=f"accuracy at the best rate {best['with']:.1f} % with, {best['without']:.1f} % without",
        settings={
            "rates": rates,
            "epochs": epochs,
            "momentum": MOMENTUM,
            "batch_size": BATCH_SIZE,
            "model": "SmallCNN",
        },
        runs=runs,
    )


def train(norm, rate, epochs, seed):
    """Test accuracy at the end, or None where training diverged."""
    model = nn.SmallCNN(norm=norm, seed=seed)
    optimizer, data = nn.SGD(model, rate, momentum=MOMENTUM), training.digits(seed)
    try:
        history = training.fit(model, data, optimizer, epochs=epochs, batch_size=BATCH_SIZE, seed=seed, progress=False)
    except FloatingPointError:
        return None
    return history.final.test_accuracy


def highest_rate(accuracies, rates):
    """The highest rate that trains."""
    trains = [rate for rate, value in zip(rates, accuracies, strict=True) if value is not None and value >= TRAINS]
    return max(trains, default=rates[0])


def draw(study, runs, rates, accuracy):
    figure, (axes, diverged) = study.figure("Training at a sweep of learning rates, with and without batch norm", 2)
    for name, style in (("with", WITH), ("without", WITHOUT)):
        band(axes, rates, 100 * accuracy[name], name, **style)
        share = 100 * np.mean([[value is None for value in run[name]] for run in runs], axis=0)
        diverged.plot(rates, share, label=name, **style)
    axes.axhline(100 * TRAINS, color="gray", linewidth=0.8)
    axes.set(
        xscale="log", xlabel="learning rate", ylabel="test accuracy at the end (%)", title="accuracy (diverged: 10 %)"
    )
    diverged.set(xscale="log", xlabel="learning rate", ylabel="runs (%)", title="loss not finite", ylim=(-5, 105))
    for each in (axes, diverged):
        each.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
