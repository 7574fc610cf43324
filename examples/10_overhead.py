"""Batch norm costs little of a training step, and nothing in inference once folded.

Setting: small CNNs of growing width on batches of 64 made-up images (3 channels of 16x16). Training: what nn.Profile
measures of forward and backward calls; the ReLU is part of batch norm's own call, loss and optimizer are not counted.
A convolution's work grows with the square of the width, but for the first one's, and batch norm's with the width, so
that its share should fall. Inference: the network as it is, folded by nn.fold, and built without batch norm, in turns.
Each seed makes new weights and images and goes through all widths. Times are of one machine, which may have other work
to do, and differ from run to run.

Source: common wisdom in tutorials and in frameworks' guides, against W. Jung et al., "Restructuring Batch Normalization
to Accelerate CNN Training", 2018, section 1, who find a large share of the training of modern CNNs in it.
Criterion: at every width the median share over seeds is below a quarter of the layers' time; the folded network has no
BatchNorm left and the same logits, up to a thousandth of the largest; and at every width its median time is not above
the upper quartile of that of the network built without batch norm.
"""

from time import perf_counter

import numpy as np
from study import COLOURS, Study

from numbabn import nn

MOST_SHARE, ROUNDING = 0.25, 1e-3
KINDS = ("Conv2d", "BatchNorm", "others")
NETWORKS = ("with batch norm", "folded", "built without")
STYLES = ("o-", "s--", "^:")


def measure(seed, widths, steps):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(64, 3, 16, 16)).astype(np.float32)
    run = {"norms_left": [], "difference": []}
    run |= {"share": {kind: [] for kind in KINDS}, "milliseconds": {name: [] for name in NETWORKS}}
    for width in widths:
        model = nn.SmallCNN(3, width=width, seed=seed)
        for kind, share in zip(KINDS, shares(model, x, rng, steps), strict=True):
            run["share"][kind].append(share)
        folded = nn.fold(model)
        run["norms_left"].append(sum(isinstance(layer, nn.BatchNorm) for layer in folded.children().values()))
        logits = model.forward(x, training=False)
        run["difference"].append(np.abs(folded.forward(x, training=False) - logits).max() / np.abs(logits).max())
        networks = (model, folded, nn.SmallCNN(3, width=width, norm=None, seed=seed))
        for name, times in zip(NETWORKS, inference(networks, x, steps), strict=True):
            run["milliseconds"][name].append(times)
    return run


def shares(model, x, rng, steps):
    """Shares of the layers' time in training, by kind."""
    dy = rng.normal(size=(len(x), 10)).astype(np.float32)
    with nn.Profile(model) as profile:
        for _ in range(steps):
            model.forward(x, training=True)
            model.backward(dy)
    rows = profile.rows()
    conv, norm = (sum(row.share for row in rows if row.kind == kind) for kind in KINDS[:2])
    return conv, norm, 1 - conv - norm


def inference(networks, x, steps):
    """Milliseconds of each network's calls, which take turns."""
    times = [[] for _ in networks]
    for turn in range(steps + 1):
        for network, taken in zip(networks, times, strict=True):
            started = perf_counter()
            network.forward(x, training=False)
            if turn:  # the first may compile, and takes memory
                taken.append(1e3 * (perf_counter() - started))
    return times


def quartiles(values):
    return np.percentile(values, [25, 50, 75], axis=0)


def span(values):
    return f"{min(values):.2f} to {max(values):.2f}"


def draw(study, widths, share, ratios):
    figure, (training, inference) = study.figure("Batch norm's share falls with the width; folded, it is gone", 2, 4.2)
    for axes, curves in ((training, share), (inference, ratios)):
        for (name, (low, middle, high)), style, colour in zip(curves.items(), STYLES, COLOURS, strict=False):
            look = {"fmt": style, "color": colour, "markersize": 4, "capsize": 3}
            axes.errorbar(widths, middle, [middle - low, high - middle], label=name, **look)
        axes.set(xscale="log", xticks=widths, xticklabels=widths, xlabel="filters of the first convolution")
        axes.minorticks_off()
        axes.legend(frameon=False)
    training.axhline(100 * MOST_SHARE, color="gray", linewidth=1, linestyle=":")
    training.set(ylabel="share of a training step's layers, %", ylim=(0, 100), title="training: medians, quartiles")
    inference.axhline(1, color="gray", linewidth=1, linestyle=":")
    inference.set(ylabel="time / that of the network built without", title="inference: medians, quartiles")
    return figure


if __name__ == "__main__":
    study = Study(__file__, __doc__)
    widths = [8, 16] if study.quick else [8, 16, 32, 64]
    settings = {"widths": widths, "steps": 3 if study.quick else 20}
    runs = study.over_seeds(lambda seed: measure(seed, **settings))
    share = {kind: quartiles([100 * np.array(run["share"][kind]) for run in runs]) for kind in KINDS}
    times = {n: np.concatenate([np.transpose(run["milliseconds"][n]) for run in runs]) for n in NETWORKS}
    ratios = {name: quartiles(times[name] / times["built without"]) for name in NETWORKS[:2]}
    gone = all(not any(run["norms_left"]) and max(run["difference"]) < ROUNDING for run in runs)
    free = np.all(np.median(times["folded"], axis=0) <= np.percentile(times["built without"], 75, axis=0))
    told = [f"{m:.0f} ({a:.0f} to {b:.0f}) at {w}" for w, (a, m, b) in zip(widths, share["BatchNorm"].T, strict=True)]
    slower, folded = (span(middle) for low, middle, high in ratios.values())
    study.finish(
        draw(study, widths, share, ratios),
        quantity=f"share of a training step's layers at width {widths[-1]}, %,",
        with_norm=[100 * run["share"]["BatchNorm"][-1] for run in runs],
        without=None,
        holds=gone and free and share["BatchNorm"][1].max() < 100 * MOST_SHARE,
        settings=settings | {"batch": [64, 3, 16, 16], "most_share": MOST_SHARE},
        runs=runs,
        note=f"by width, medians and quartiles: {', '.join(told)}; inference takes {slower} times as long as without "
        f"batch norm, folded {folded}",
    )
