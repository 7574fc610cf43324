"""Training steps of the example network, and how much of a step is batch normalization."""

from functools import lru_cache
from time import perf_counter

import numpy as np

import numbabn as nbn

from .measure import taking_turns

NETWORKS = {"64 of 1x8x8, width 16": ((64, 1, 8, 8), 16), "128 of 1x28x28, width 32": ((128, 1, 28, 28), 32)}
"""Shape of a batch of images, and filters of the first convolution. The first is the digits run's."""

GRADIENT_LIMIT = 1e-3
"""Largest difference of a parameter's gradient from the reference's, relative to its norm; measured: up to 1e-5."""


class Step:
    """One step of training ``nn.SmallCNN`` on random images."""

    def __init__(self, network):
        try:
            from numbabn import nn
        except ModuleNotFoundError as error:
            raise NotImplementedError("this commit has no layers") from error
        shape, width = NETWORKS[network]
        rng = np.random.default_rng(0)
        self.images = rng.standard_normal(shape, dtype=np.float32)
        self.labels = rng.integers(0, 10, shape[0])
        self.model = nn.SmallCNN(width=width)
        self.norms = [layer for layer in self.model.layers if isinstance(layer, nn.BatchNorm)]
        self.loss = nn.CrossEntropy()
        self.optimizer = nn.SGD(self.model, lr=0.01, momentum=0.9)

    def gradients(self):
        """Those of the parameters, by name."""
        self.loss.forward(self.model.forward(self.images, training=True), self.labels)
        self.model.backward(self.loss.backward())
        return {name: parameter.grad for name, parameter in self.model.named_parameters().items()}

    def __call__(self):
        self.gradients()
        self.optimizer.step()

    def share_of_batch_norm(self, steps):
        """Per cent of the time that is spent in the BatchNorm layers, with the ReLU that is part of their calls."""
        spent = 0.0

        def timed(method):
            def call(*args, **options):
                nonlocal spent
                started = perf_counter()
                try:
                    return method(*args, **options)
                finally:
                    spent += perf_counter() - started

            return call

        for layer in self.norms:
            layer.forward, layer.backward = timed(layer.forward), timed(layer.backward)
        started = perf_counter()
        for _ in range(steps):
            self()
        total = perf_counter() - started
        for layer in self.norms:
            del layer.forward, layer.backward
        return 100 * spent / total


@lru_cache(maxsize=1)
def checked_step(network):
    """A compiled step whose gradients are those that the reference's batch normalization gives."""
    step = Step(network)
    with nbn.use_backend("reference"):
        expected = {name: gradient.copy() for name, gradient in step.gradients().items()}
    for name, gradient in step.gradients().items():
        difference = np.linalg.norm(gradient - expected[name]) / np.linalg.norm(expected[name])
        assert difference <= GRADIENT_LIMIT, f"{network}: gradient of {name} is off by {difference:.2g} of its norm"
    step()
    return step


class Training:
    params = (list(NETWORKS),)
    param_names = ("network",)
    timeout = 300
    rounds = 1
    repeat = (5, 100, 2.0)

    def setup(self, network):
        self.step = checked_step(network)

    def time_step(self, network):
        self.step()

    def track_steps_per_second(self, network):
        (seconds,) = taking_turns(self.step)
        return 1 / seconds

    def track_share_of_batch_norm(self, network):
        return self.step.share_of_batch_norm(steps=10)

    track_steps_per_second.unit = "steps/s"
    track_share_of_batch_norm.unit = "%"
