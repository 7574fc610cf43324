"""With running averages an image's output does not depend on its batch, and a batch of one works.

Setting: a small CNN and a perceptron, trained on the digits. 352 test images come in batches of 1 to 352, in random
order or sorted by label, so that a batch has one or few classes. They are normalized with the running averages of
training, or with their own batch's mean and variance, as in training. The perceptron has one value per channel and
image, so that a batch of one has no variance: it is refused with batch statistics, and has no point in the figure.

Source: S. Ioffe and C. Szegedy, "Batch Normalization", 2015, section 3.1 and algorithm 2.
Criterion: with running averages no logit of either model differs between any of these batches and all images at once by
more than rounding, which is taken to be float32's step, times the terms of the sums that lead to a logit, times the
largest logit; and alone in a batch, images are classified better by the small CNN with running averages than with batch
statistics (study.greater).
"""

import copy

import numpy as np
from study import COLOURS, Study, band, greater, plus_minus

from numbabn import nn, training

MODELS = {"small CNN": lambda seed: nn.SmallCNN(seed=seed), "perceptron": lambda seed: nn.MLP(64, 10, seed=seed)}
WAYS = {
    "running averages, random order": (False, False),
    "running averages, sorted by label": (False, True),
    "batch statistics, random order": (True, False),
    "batch statistics, sorted by label": (True, True),
}


def measure(seed, epochs, sizes):
    """What ``compare`` tells of each model. The last size is all images; no size should leave a rest of one."""
    data = training.digits(seed)
    run = {}
    for name, make in MODELS.items():
        model = make(seed)
        optimizer = nn.SGD(model, lr=0.05, momentum=0.9)
        training.fit(model, data, optimizer, epochs=epochs, batch_size=64, seed=seed, progress=False)
        run[name] = compare(model, data, seed, sizes, least=1 if name == "small CNN" else 2)
    return run


def compare(model, data, seed, sizes, least):
    """Accuracy in each way by batch size, and how much logits differ from those of all images at once."""
    chosen = np.random.default_rng(seed).permutation(len(data.test_images))[: sizes[-1]]
    images, labels = data.test_images[chosen], data.test_labels[chosen]
    terms = sum(p.value[0].size for name, p in model.named_parameters().items() if name.endswith("weight"))
    result = {}
    for way, (batch_statistics, by_label) in WAYS.items():
        order = np.argsort(labels, kind="stable") if by_label else np.arange(sizes[-1])
        sizes_here = [size for size in sizes if size >= least or not batch_statistics]
        every = [logits(model, images, order, size, batch_statistics) for size in sizes_here]
        result[way] = {
            "accuracy": [100 * float((each.argmax(axis=1) == labels).mean()) for each in every],
            "largest_difference": [float(np.abs(each - every[-1]).max()) for each in every],
            "rounding": terms * float(np.finfo(np.float32).eps) * float(np.abs(every[-1]).max()),
        }
    return result


def logits(model, images, order, size, batch_statistics):
    model = copy.deepcopy(model)  # batch statistics would enter its running averages
    result = np.empty((len(images), 10))
    for part in np.array_split(order, -(-len(order) // size)):
        result[part] = model.forward(images[part], training=batch_statistics)
    return result


def draw(study, runs, sizes):
    figure, panels = study.figure("Running averages: the same answer in any company; batch statistics: not", 2, 4.6)
    for axes, model in zip(panels, MODELS, strict=True):
        for way, colour, style, marker in zip(WAYS, COLOURS, ("-", ":", "--", "-."), "o^sv", strict=True):
            accuracy = [run[model][way]["accuracy"] for run in runs]
            band(
                axes,
                sizes[-len(accuracy[0]) :],
                accuracy,
                way,
                color=colour,
                linestyle=style,
                marker=marker,
                markersize=4,
            )
        axes.set(xscale="log", xticks=sizes, xticklabels=sizes, xlabel="images in a test batch", title=model)
        axes.set(ylabel="test accuracy, %", ylim=(0, 102))
        axes.minorticks_off()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


if __name__ == "__main__":
    study = Study(__file__, __doc__)
    sizes = [1, 2, 32] if study.quick else [1, 2, 4, 8, 16, 32, 64, 352]
    settings = {"epochs": 1 if study.quick else 8, "sizes": sizes}
    runs = study.over_seeds(lambda seed: measure(seed, **settings))
    running = [run[model][way] for run in runs for model in MODELS for way in WAYS if "running" in way]
    ratio = max(max(entry["largest_difference"]) / entry["rounding"] for entry in running)
    alone = {way: [run["small CNN"][way]["accuracy"][0] for run in runs] for way in WAYS}
    averages, statistics = alone["running averages, random order"], alone["batch statistics, random order"]
    pairs = [run["perceptron"]["batch statistics, random order"]["accuracy"][0] for run in runs]
    study.finish(
        draw(study, runs, sizes),
        quantity="accuracy in batches of one, %,",
        with_norm=averages,
        without=statistics,
        holds=ratio <= 1 and greater(averages, statistics),
        settings=settings | {"lr": 0.05, "momentum": 0.9, "batch_size": 64},
        runs=runs,
        names=("with running averages", "with batch statistics"),
        note=f"perceptron in batches of two with batch statistics {plus_minus(pairs)}; with running averages, logits "
        f"differ by at most {ratio:.2g} of rounding's bound",
    )
