"""Before or after the ReLU, batch norm does equally well.

Setting: a perceptron and a small CNN on the digits, and a residual network of 8 layers on synthetic images (3 channels
of 16x16, 1,000 to train on and 1,000 to test on), each with batch norm right before each ReLU and right after it; the
initial weights and the order of the images are the same. After the ReLU, layers have a bias, which before it batch
norm would take off again; and the residual network's sums are then not rectified (see nn.ResNet).

Source: S. Ioffe and C. Szegedy, "Batch Normalization", 2015, section 3.2, has it before. D. Mishkin et al.,
"Systematic evaluation of convolution neural network advances on the ImageNet", 2017, section on batch normalization,
find it better after: 49.3 % of images right instead of 47.8 %, in a plain CNN with scale and shift.
Criterion: for each of the three networks, the 95 % confidence interval of the mean difference in test accuracy after
the last epoch, paired by seed (Student's t), lies within 1.5 points to either side: what Mishkin et al. found.
"""

import math

import numpy as np
from scipy.stats import t as student
from study import WITH, WITHOUT, Study, band

from numbabn import nn, training

MARGIN = 1.5
NETWORKS = {
    "perceptron": lambda seed, placement: nn.MLP(64, 10, placement=placement, seed=seed),
    "small CNN": lambda seed, placement: nn.SmallCNN(placement=placement, seed=seed),
    "ResNet-8": lambda seed, placement: nn.ResNet(8, width=8, placement=placement, seed=seed),
}
LOOKS = {"before": WITH, "after": WITHOUT}


def measure(seed, epochs, images):
    """Test accuracy after each epoch, in per cent, by network and placement."""
    digits = training.digits(seed)
    made_up = training.synthetic(height=16, width=16, train=images, test=images, seed=seed)
    run = {}
    for name, make in NETWORKS.items():
        data = made_up if name == "ResNet-8" else digits
        run[name] = {}
        for placement in LOOKS:
            model = make(seed, placement)
            optimizer = nn.SGD(model, lr=0.05, momentum=0.9)
            history = training.fit(model, data, optimizer, epochs=epochs, batch_size=64, seed=seed, progress=False)
            run[name][placement] = [100 * record.test_accuracy for record in history.records]
    return run


def interval(differences):
    """95 % confidence interval of the mean."""
    half = student.ppf(0.975, len(differences) - 1) * np.std(differences, ddof=1) / math.sqrt(len(differences))
    return np.mean(differences) - half, np.mean(differences) + half


def draw(study, runs, intervals):
    figure, panels = study.figure("Test accuracy with batch norm before and after the ReLU", len(NETWORKS))
    for axes, (name, (low, high)) in zip(panels, intervals.items(), strict=True):
        for placement, look in LOOKS.items():
            values = [run[name][placement] for run in runs]
            band(axes, range(1, 1 + len(values[0])), values, placement, **look)
        axes.set(
            title=f"{name}: {low:+.2f} to {high:+.2f} points at the end", xlabel="epoch", ylabel="test accuracy, %"
        )
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, loc="lower right")
    return figure


if __name__ == "__main__":
    study = Study(__file__, __doc__)
    settings = {"epochs": 1 if study.quick else 10, "images": 200 if study.quick else 1000}
    runs = study.over_seeds(lambda seed: measure(seed, **settings))
    final = {p: np.array([[run[name][p][-1] for name in NETWORKS] for run in runs]) for p in LOOKS}
    differences = final["before"] - final["after"]
    intervals = {name: interval(column) for name, column in zip(NETWORKS, differences.T, strict=True)}
    told = ", ".join(f"{name} {low:+.2f} to {high:+.2f}" for name, (low, high) in intervals.items())
    study.finish(
        draw(study, runs, intervals),
        quantity="test accuracy, mean of three networks, %,",
        with_norm=final["before"].mean(axis=1),
        without=final["after"].mean(axis=1),
        holds=bool(np.abs(list(intervals.values())).max() < MARGIN),
        settings=settings | {"lr": 0.05, "momentum": 0.9, "batch_size": 64, "margin": MARGIN},
        runs=runs,
        names=("before", "after"),
        note=f"95 % intervals of before minus after, points: {told}",
    )
