"""The functions on arrays, from a first call to gradients: run this, read along.

It trains nothing and needs no extra: NumPy arrays go in, NumPy arrays come out.
"""

import os
from statistics import median
from time import perf_counter

import numpy as np

import numbabn as nbn


def main():
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for when other programs keep the cores busy
    print("The first run on a machine compiles the kernels, for a minute or so; later ones find them on disk.")
    forward_and_inference()
    check_gradients()
    compare_speed()


def forward_and_inference():
    """Training normalises with the batch's statistics and updates the running ones; inference uses those."""
    x = np.random.default_rng(0).normal(3, 2, size=(64, 3, 8, 8))  # (N, C, H, W): three channels on axis 1
    gamma, beta = np.array([1.0, 2.0, 1.0]), np.array([0.0, 0.0, 5.0])
    running_mean, running_var = np.zeros(3), np.ones(3)

    y, _ = nbn.batch_norm_forward(x, gamma, beta, running_mean, running_var)
    print("\nA batch with mean 3 and standard deviation 2, after training forward, channel by channel:")
    print("  mean", y.mean(axis=(0, 2, 3)).round(3), "= beta;  std", y.std(axis=(0, 2, 3)).round(3), "= gamma")
    print("  running_mean has moved a tenth of the way from 0:", running_mean.round(2))

    for _ in range(50):
        nbn.batch_norm_forward(x, gamma, beta, running_mean, running_var)
    one = nbn.batch_norm(x[:1], gamma, beta, running_mean, running_var)
    every = nbn.batch_norm(x, gamma, beta, running_mean, running_var)
    print(
        "  after 50 more:", running_mean.round(2), "and inference gives an image the same result in any batch:", end=" "
    )
    print(np.array_equal(one[0], every[0]))

    last = nbn.batch_norm(np.moveaxis(x, 1, -1).copy(), gamma, beta, training=True, axis=-1)
    print("  channels last (axis=-1) differ by at most", abs(np.moveaxis(last, -1, 1) - y).max())


def check_gradients():
    """The written-out gradients against central differences, for a loss that weighs every value of y."""
    rng = np.random.default_rng(1)
    given = {"x": rng.normal(size=(6, 3, 2, 2)), "gamma": rng.normal(size=3), "beta": rng.normal(size=3)}
    dy = rng.normal(size=given["x"].shape)

    _, context = nbn.batch_norm_forward(**given)
    grads = nbn.batch_norm_backward(dy, context)

    def loss():
        return float((nbn.batch_norm(**given, training=True) * dy).sum())

    step = np.cbrt(np.finfo(float).eps)  # where the difference's own error and rounding are about equal
    print(f"\nGradients against differences of the loss over steps of {step:.0e}:")
    for name, gradient in (("x", grads.dx), ("gamma", grads.dgamma), ("beta", grads.dbeta)):
        values, differences = given[name].reshape(-1), []
        for index, value in enumerate(values.copy()):
            values[index] = value + step
            above = loss()
            values[index] = value - step
            differences.append((above - loss()) / (2 * step))
            values[index] = value
        error = abs(np.reshape(differences, gradient.shape) - gradient).max() / abs(gradient).max()
        assert error < 100 * step**2, f"d{name} is off by {error:.1e}"
        print(f"  d{name}: largest error {error:.0e} of the largest gradient")


def compare_speed():
    """A forward pass, beside the formula in plain NumPy."""
    x = np.random.default_rng(2).normal(size=(32, 64, 28, 28)).astype(np.float32)
    out = np.empty_like(x)

    def plain():
        mean, var = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
        return (x - mean) / np.sqrt(var + np.float32(1e-5))

    def kernel():
        return nbn.batch_norm(x, training=True, out=out)

    print("\nA training forward pass on float32 of shape", x.shape, "here and now:")
    print(f"  they differ by at most {abs(plain() - kernel()).max():.0e}")
    times = {"plain NumPy": milliseconds(plain), "numbabn": milliseconds(kernel)}
    for name, time in times.items():
        print(f"  {name:<12} {time:6.1f} ms")
    print(f"  that is {times['plain NumPy'] / times['numbabn']:.1f} times as fast")


def milliseconds(function):
    """Median time of a call."""
    times = []
    for _ in range(9):
        started = perf_counter()
        function()
        times.append(1e3 * (perf_counter() - started))
    return median(times)


if __name__ == "__main__":
    main()
