"""Batch norm keeps gradients from vanishing and exploding as networks get deeper.

Source: S. Ioffe, C. Szegedy, "Batch Normalization", 2015, section 3.3: gradients do not depend on the scale of weights;
K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", 2015, section 4.1: with batch norm,
gradients of plain networks have healthy norms. Against it: G. Yang et al., "A Mean Field Theory of Batch
Normalization", 2019: in plain networks at the start, batch norm itself makes them explode with depth.

Setting: plain and residual networks of 8 to 56 layers (nn.ResNet, 8 filters) before the first step, one batch of 32
synthetic images of 3x32x32. Initial weights of the convolutions are He's, which suit networks without batch norm, or
half or twice those. Measured: the norm of the loss's gradient by the weights of the first convolution, and by how many
powers of ten (decades) that changes from 8 to 56 layers, up or down.

Criterion: in each of the six settings (plain or residual, three scales) it changes by less with batch norm, by a paired
one-sided t-test at 2.5 %. The line has the worst of the six.
"""

import numpy as np
from study import WITH, WITHOUT, Study, band, greater

from numbabn import nn, training

NORMS, STYLES = {"with": "batch", "without": None}, {"with": WITH, "without": WITHOUT}
KINDS = {"plain": False, "residual": True}
SCALES = (0.5, 1.0, 2.0)
WIDTH, BATCH_SIZE = 8, 32


def main():
    study = Study(__file__, __doc__)
    depths = (8, 14) if study.quick else (8, 20, 32, 44, 56)
    runs = study.over_seeds(lambda seed: measure(depths, 4 if study.quick else BATCH_SIZE, seed))
    norms = {name: np.array([run[name] for run in runs]) for name in NORMS}  # (seeds, kinds, scales, depths)
    decades = {name: abs(np.log10(each[..., -1] / each[..., 0])) for name, each in norms.items()}
    better = [
        [greater(decades["without"][:, kind, scale], decades["with"][:, kind, scale]) for scale in range(len(SCALES))]
        for kind in range(len(KINDS))
    ]
    study.finish(
        draw(study, norms, depths),
        quantity="decades by which the first layer's gradient changes with depth, worst of six settings,",
        with_norm=decades["with"].max(axis=(1, 2)),
        without=decades["without"].max(axis=(1, 2)),
        holds=np.all(better),
        note=f"less with in {sum(better[0])} of 3 plain, {sum(better[1])} of 3 residual settings; plain with "
        f"He's weights {decades['with'][:, 0, 1].mean():.1f} with, {decades['without'][:, 0, 1].mean():.1f} without",
        settings={"depths": depths, "scales": SCALES, "kinds": list(KINDS), "width": WIDTH, "batch_size": BATCH_SIZE},
        runs=runs,
    )


def measure(depths, batch_size, seed):
    """Gradient norms of the first convolution, (kinds, scales, depths), with and without."""
    data = training.synthetic(train=batch_size, test=1, seed=seed)
    images, labels = data.train_batch(np.arange(batch_size), np.random.default_rng(seed))
    return {
        name: [
            [
                [gradient_norm(depth, norm, shortcut, scale, images, labels, seed) for depth in depths]
                for scale in SCALES
            ]
            for shortcut in KINDS.values()
        ]
        for name, norm in NORMS.items()
    }


def gradient_norm(depth, norm, shortcut, scale, images, labels, seed):
    """Norm of the gradient by the first convolution's weights, before the first step."""
    model = nn.ResNet(depth, width=WIDTH, norm=norm, shortcut=shortcut, seed=seed)
    convolutions = [each for each in model.named_parameters().values() if each.value.ndim == 4]
    for each in convolutions:
        each.value *= scale
    loss = nn.CrossEntropy()
    loss.forward(model.forward(images, training=True), labels)
    model.backward(loss.backward())
    return float(np.linalg.norm(convolutions[0].grad.astype(np.float64)))


def draw(study, norms, depths):
    figure, panels = study.figure("Gradient of the first layer before training, by depth (scales differ)", len(SCALES))
    for index, (axes, scale) in enumerate(zip(panels, SCALES, strict=True)):
        for kind, label in enumerate(KINDS):
            for name, style in STYLES.items():
                face = {"fillstyle": "none" if label == "residual" else "full"}
                band(axes, depths, np.log10(norms[name][:, kind, index]), f"{label}, {name}", **style, **face)
        axes.set(
            xlabel="layers", xticks=depths, ylabel="log10 of the gradient's norm", title=f"weights: {scale:g} x He's"
        )
    panels[0].legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
