"""Batch norm makes the loss smoother along the gradient.

Source: S. Santurkar, D. Tsipras, A. Ilyas, A. Madry, "How Does Batch Normalization Help Optimization?", 2018, section
3.1 and figure 4: range of the loss along the gradient, and change of the gradient, over training.

Setting: nn.SmallCNN on the digits, SGD without momentum at rate 0.1 with and without batch norm, batches of 64, 400
steps. At every 5th step: losses of the same batch after steps of 1/2 to 4 times the rate along the gradient, and
gradients there. Measured: the range of those losses (largest minus smallest), and the greatest distance of those
gradients from the one at the start, both means over training.

Criterion: the range of losses is smaller with batch norm by a paired one-sided t-test at 2.5 %. The gradients' change
is reported beside it.
"""

import numpy as np
from study import WITH, WITHOUT, Study, band, greater, plus_minus

from numbabn import nn, training

NORMS, STYLES = {"with": "batch", "without": None}, {"with": WITH, "without": WITHOUT}
RATE, BATCH_SIZE, EVERY = 0.1, 64, 5
STEPS_ALONG = RATE * np.geomspace(0.5, 4, 7)


def main():
    study = Study(__file__, __doc__)
    steps = 10 if study.quick else 400
    runs = study.over_seeds(lambda seed: {name: train(norm, steps, seed) for name, norm in NORMS.items()})
    measured = {name: np.array([run[name] for run in runs]) for name in NORMS}  # (seeds, times, 3)
    ranges = {name: (each[..., 1] - each[..., 0]).mean(axis=1) for name, each in measured.items()}
    changes = {name: each[..., 2].mean(axis=1) for name, each in measured.items()}
    study.finish(
        draw(study, measured),
        quantity="range of losses along the gradient",
        with_norm=ranges["with"],
        without=ranges["without"],
        holds=greater(ranges["without"], ranges["with"]),
        note=f"change of the gradient {plus_minus(changes['with'])} with, {plus_minus(changes['without'])} without",
        settings={"rate": RATE, "batch_size": BATCH_SIZE, "steps": steps, "along": STEPS_ALONG, "model": "SmallCNN"},
        runs=[
            {name: dict(zip(("least", "most", "change"), np.transpose(run[name]), strict=True)) for name in NORMS}
            for run in runs
        ],
    )


def train(norm, steps, seed):
    """Least and greatest loss along the gradient, and the gradient's change, for every 5th step: (times, 3)."""
    data, model = training.digits(seed), nn.SmallCNN(norm=norm, seed=seed)
    optimizer, rng, measured = nn.SGD(model, RATE), np.random.default_rng(seed), []
    for step in range(steps):
        batch = rng.choice(len(data.train_images), BATCH_SIZE, replace=False)
        images, labels = data.train_images[batch], data.train_labels[batch]
        if step % EVERY == 0:
            measured.append(look_along(model, images, labels))
        loss_and_gradient(model, images, labels)
        optimizer.step()
    return measured


def look_along(model, images, labels):
    """Least and greatest loss along the gradient, and its greatest change there; the model stays as it is."""
    state = model.state_dict()
    _, start = loss_and_gradient(model, images, labels)
    losses, changes = [], []
    for size in STEPS_ALONG:
        model.load_state_dict(state | {name: state[name] - np.float32(size) * grad for name, grad in start.items()})
        loss, there = loss_and_gradient(model, images, labels)
        losses.append(loss)
        changes.append(np.sqrt(sum(np.sum((there[name] - grad) ** 2, dtype=float) for name, grad in start.items())))
    model.load_state_dict(state)
    return min(losses), max(losses), max(changes)


def loss_and_gradient(model, images, labels):
    """Loss of a batch, and its gradient by each parameter."""
    criterion = nn.CrossEntropy()
    loss = criterion.forward(model.forward(images, training=True), labels)
    model.backward(criterion.backward())
    return loss, {name: each.grad.copy() for name, each in model.named_parameters().items()}


def draw(study, measured):
    figure, panels = study.figure("Losses along the gradient: seed 0, and the range over all seeds", 3)
    for axes, (name, style) in zip(panels, STYLES.items(), strict=False):
        steps = EVERY * np.arange(measured[name].shape[1])
        axes.fill_between(steps, measured[name][0, :, 0], measured[name][0, :, 1], color=style["color"], linewidth=0)
        axes.set(xlabel="step", ylabel="cross-entropy", yscale="log", title=f"{name} batch norm: least to greatest")
        extent = np.log10(measured[name][..., 1] - measured[name][..., 0])
        band(panels[2], steps, extent, name, **{**style, "marker": ""})
    panels[2].set(xlabel="step", ylabel="log10(greatest - least)", title="mean ± std over seeds")
    panels[2].legend(frameon=False, loc="lower left")
    limits = [axes.get_ylim() for axes in panels[:2]]
    for axes in panels[:2]:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    return figure


if __name__ == "__main__":
    main()
