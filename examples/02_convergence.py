"""Batch norm between convolution and ReLU lets a network learn in fewer epochs.

Source: S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift", 2015, section 4.2.2, figures 2 and 3: steps to a given accuracy, at the same learning rate and at higher ones.

Setting: conv -> batch norm -> ReLU (nn.SmallCNN) on the digits, SGD with momentum 0.9, batches of 64, 20 epochs. Either
network gets the learning rate that suits it best, of 0.01, 0.03, 0.1 and 0.3: the one that first reaches 97 %
test accuracy, on average over the seeds. A run that never does counts as 21 epochs, which is in its favour.

Criterion: epochs to 97 % test accuracy are fewer with batch norm by a paired one-sided t-test at 2.5 %, each at its
own best rate.
"""

import numpy as np
from study import WITH, WITHOUT, Study, band, greater

from numbabn import nn, training

NORMS = {"with": "batch", "without": None}
LEVEL = 0.97
MOMENTUM, BATCH_SIZE = 0.9, 64


def main():
    study = Study(__file__, __doc__)
    rates = (0.03,) if study.quick else (0.01, 0.03, 0.1, 0.3)
    epochs = 1 if study.quick else 20
    runs = study.over_seeds(
        lambda seed: {name: [curve(norm, rate, epochs, seed) for rate in rates] for name, norm in NORMS.items()}
    )
    best = {name: fastest(runs, name) for name in NORMS}
    reached = {name: [epochs_to_level(run[name][best[name]]) for run in runs] for name in NORMS}
    at_same = {name: [epochs_to_level(run[name][best["without"]]) for run in runs] for name in NORMS}
    study.finish(
        draw(study, runs, rates, best),
        quantity=f"epochs to {LEVEL:.0%} test accuracy",
        with_norm=reached["with"],
        without=reached["without"],
        holds=greater(reached["without"], reached["with"]),
        note=f"rates {rates[best['with']]} and {rates[best['without']]}; {np.mean(at_same['with']):.1f} with at the "
        "rate that is best without",
        settings={
            "rates": rates,
            "epochs": epochs,
            "momentum": MOMENTUM,
            "batch_size": BATCH_SIZE,
            "model": "SmallCNN",
        },
        runs=runs,
    )


def curve(norm, rate, epochs, seed):
    """Test accuracy after each epoch; that of a guess where training diverged."""
    model = nn.SmallCNN(norm=norm, seed=seed)
    optimizer = nn.SGD(model, rate, momentum=MOMENTUM)
    data = training.digits(seed)
    try:
        history = training.fit(model, data, optimizer, epochs=epochs, batch_size=BATCH_SIZE, seed=seed, progress=False)
    except FloatingPointError:
        return [1 / data.classes] * epochs
    return [record.test_accuracy for record in history.records]


def epochs_to_level(accuracies):
    """The first epoch at the level, or one more than there were."""
    return next((epoch for epoch, value in enumerate(accuracies, 1) if value >= LEVEL), len(accuracies) + 1)


def fastest(runs, name):
    """Which rate needs the fewest epochs, on average over the seeds."""
    return int(np.argmin(np.mean([[epochs_to_level(each) for each in run[name]] for run in runs], axis=0)))


def draw(study, runs, rates, best):
    figure, (curves, sweep) = study.figure("Epochs to a given accuracy, with and without batch norm", 2)
    for name, style in (("with", WITH), ("without", WITHOUT)):
        accuracies = 100 * np.array([run[name] for run in runs])  # (seeds, rates, epochs)
        x = np.arange(1, accuracies.shape[2] + 1)
        band(curves, x, accuracies[:, best[name]], f"{name}, rate {rates[best[name]]}", **style)
        needed = [[epochs_to_level(each) for each in run[name]] for run in runs]
        band(sweep, rates, needed, name, **style)
    curves.axhline(100 * LEVEL, color="gray", linewidth=0.8)
    curves.xaxis.get_major_locator().set_params(integer=True)
    curves.set(xlabel="epoch", ylabel="test accuracy (%)", title="at each one's best rate", ylim=(85, 100))
    sweep.set(xscale="log", xlabel="learning rate", ylabel=f"epochs to {LEVEL:.0%}", title="at every rate")
    for axes in (curves, sweep):
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
