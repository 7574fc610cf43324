"""Layers, losses and optimisers made of NumPy arrays and written-out gradients.

Layers have ``forward(x, training=...)`` and ``backward(dy)``; see :class:`Module`. Images are (N, C, H, W).

Examples
--------
>>> import numpy as np
>>> from numbabn import nn
>>> model = nn.Sequential(nn.Linear(4, 16, rng=0), nn.BatchNorm(16), nn.ReLU(), nn.Linear(16, 2, rng=1))
>>> loss, optimizer = nn.CrossEntropy(), nn.SGD(model, lr=0.1, momentum=0.9)
>>> rng = np.random.default_rng(0)
>>> x = rng.standard_normal((30, 4), dtype=np.float32)
>>> labels = (x[:, 0] > x[:, 1]).astype(int)
>>> for step in range(100):
...     value = loss.forward(model.forward(x, training=True), labels)
...     dx = model.backward(loss.backward(), need_dx=False)
...     optimizer.step()
>>> value < 0.1
True
"""

import os

from .containers import Residual, Sequential
from .conv import Conv2d
from .folding import fold
from .init import he_normal
from .layers import Dropout, Flatten, Linear, ReLU
from .loss import CrossEntropy
from .models import MLP, SmallCNN
from .module import Module, Parameter
from .norm import BatchNorm
from .optim import SGD, AdamW, Optimizer
from .pool import GlobalAvgPool2d, MaxPool2d
from .profiling import LayerTime, Profile
from .resnet import ResNet, Subsample
from .schedule import cosine_schedule, step_schedule, warmup_schedule

__all__ = [
    "MLP",
    "SGD",
    "AdamW",
    "BatchNorm",
    "Conv2d",
    "CrossEntropy",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "LayerTime",
    "Linear",
    "MaxPool2d",
    "Module",
    "Optimizer",
    "Parameter",
    "Profile",
    "ReLU",
    "ResNet",
    "Residual",
    "Sequential",
    "SmallCNN",
    "Subsample",
    "cosine_schedule",
    "fold",
    "he_normal",
    "step_schedule",
    "warmup_schedule",
]

# OpenMP's threads spin for milliseconds while they wait. With other programs on both cores that took a training step of
# a small network from 36 to 448 ms; without spinning, waking a thread costs microseconds. OpenMP reads this when its
# first parallel loop starts.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
