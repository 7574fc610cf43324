"""Running averages with a small momentum lag in short training, with a large one they are noisy.

Setting: a small CNN on the digits, 23 batches an epoch. Momentum is the weight of the new batch, as in PyTorch; Keras
gives one minus that. Training normalizes with each batch's own statistics, so that the weights are bit for bit the same
for every momentum, and only what is measured in testing differs. The error of the running means is their distance from
the exact means over all training images, under the weights of that moment, in standard deviations over these images:
the root of the mean square over all channels. Running means start at 0, so that after t batches (1 - momentum)^t of the
start is left: of 23 batches, 98 % at a momentum of 0.001, 79 % at 0.01, 9 % at 0.1.

Source: S. Ioffe and C. Szegedy, "Batch Normalization", 2015, section 3.1; Y. Wu and J. Johnson, "Rethinking 'Batch' in
BatchNorm", 2021, section 3; the defaults 0.1 (PyTorch) and 0.01 (Keras).
Criterion: after one epoch the test accuracy is higher with momentum 0.1 than with 0.01, and after the last epoch the
error of the running means is larger with momentum 1, the last batch alone, than with 0.1 (study.greater both times).
"""

import copy

import numpy as np
from study import COLOURS, Study, greater, plus_minus

from numbabn import nn, training


def measure(seed, epochs, momenta):
    """Accuracy and error after each epoch for each momentum: lists of lists, (momenta, epochs)."""
    data = training.digits(seed)
    run = {"accuracy": [], "error": [], "exact_accuracy": []}
    weights = set()
    for momentum in momenta:
        model = nn.SmallCNN(width=8, seed=seed)
        for norm in norms(model):
            norm.momentum = momentum
        optimizer = nn.SGD(model, lr=0.05, momentum=0.9)
        accuracy, error, exact = zip(*(epoch(model, optimizer, data, seed, e) for e in range(epochs)), strict=True)
        for name, values in (("accuracy", accuracy), ("error", error), ("exact_accuracy", exact)):
            run[name].append(values)
        weights.add(b"".join(parameter.value.tobytes() for parameter in model.named_parameters().values()))
    if len(weights) != 1:
        raise AssertionError("weights differ by momentum")
    run["exact_accuracy"] = run["exact_accuracy"][0]
    return run


def epoch(model, optimizer, data, seed, number):
    """Train for one epoch: test accuracy, error of the running means, test accuracy with exact statistics."""
    order = 1000 * seed + number
    history = training.fit(model, data, optimizer, epochs=1, batch_size=64, seed=order, progress=False)
    exact = copy.deepcopy(model)
    for norm in norms(exact):
        norm.momentum = 1.0
    exact.forward(data.train_images, training=True)
    pairs = zip(norms(model), norms(exact), strict=True)
    errors = [(norm.running_mean - true.running_mean) / np.sqrt(true.running_var) for norm, true in pairs]
    accuracy = training.evaluate(exact, data.test_images, data.test_labels).accuracy
    error = float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))
    return 100 * history.final.test_accuracy, error, 100 * accuracy


def norms(model):
    return [layer for layer in model.children().values() if isinstance(layer, nn.BatchNorm)]


def draw(study, runs, momenta):
    figure, (errors, accuracies) = study.figure("Small momenta lag behind; large ones lose little here", 2, 4.2)
    epochs = len(runs[0]["exact_accuracy"])
    shown = [number for number in (1, 2, 5, 10, 20) if number <= epochs]
    looks = zip((*COLOURS, "#555555"), ("-", "--", "-.", ":", "-"), "os^vD", strict=True)
    for number, (colour, style, marker) in zip(shown, looks, strict=False):
        for axes, name in ((errors, "error"), (accuracies, "accuracy")):
            values = [np.array(run[name])[:, number - 1] for run in runs]
            label = f"after {number} epoch{'s' * (number > 1)}"
            look = {"color": colour, "linestyle": style, "marker": marker, "markersize": 4, "capsize": 2}
            axes.errorbar(momenta, np.mean(values, axis=0), np.std(values, axis=0, ddof=1), label=label, **look)
    for axes in (errors, accuracies):
        axes.set(xscale="log", xlabel="momentum (weight of the new batch)")
    errors.set(yscale="log", ylabel="error of running means, standard deviations")
    accuracies.set(ylabel="test accuracy, %", ylim=(0, 102))
    accuracies.legend(frameon=False, loc="lower right")
    return figure


if __name__ == "__main__":
    study = Study(__file__, __doc__)
    momenta = [0.01, 0.1, 1.0] if study.quick else [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
    settings = {"epochs": 1 if study.quick else 10, "momenta": momenta}
    runs = study.over_seeds(lambda seed: measure(seed, **settings))
    accuracy, error = (np.array([run[name] for run in runs]) for name in ("accuracy", "error"))
    slow, usual, last = (momenta.index(momentum) for momentum in (0.01, 0.1, 1.0))
    exact = [run["exact_accuracy"][0] for run in runs]
    usual_error, last_error = error[:, usual, -1], error[:, last, -1]
    study.finish(
        draw(study, runs, momenta),
        quantity="test accuracy after one epoch, %,",
        with_norm=accuracy[:, usual, 0],
        without=accuracy[:, slow, 0],
        holds=greater(accuracy[:, usual, 0], accuracy[:, slow, 0]) and greater(last_error, usual_error),
        settings=settings | {"width": 8, "lr": 0.05, "sgd_momentum": 0.9, "batch_size": 64},
        runs=runs,
        names=("with momentum 0.1", "with 0.01"),
        note=f"error of the running means after {settings['epochs']} epochs {plus_minus(usual_error)} with 0.1, "
        f"{plus_minus(last_error)} with 1; accuracy after one epoch with exact statistics {plus_minus(exact)}",
    )
