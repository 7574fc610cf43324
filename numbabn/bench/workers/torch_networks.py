"""numbabn's networks, made of PyTorch's modules: the order of their parameters is the same."""

import torch
from torch import nn


def build(network: str, channels: int, classes: int) -> nn.Module:
    """``"small-cnn"`` or ``"resnet20"``."""
    return small_cnn(channels, classes) if network == "small-cnn" else ResNet20(channels, classes)


def small_cnn(channels, classes):
    """As ``numbabn.nn.SmallCNN``."""

    def block(inputs, outputs):
        return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)

    layers = [*block(channels, 16), *block(16, 32), nn.MaxPool2d(2), *block(32, 64)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


class Block(nn.Module):
    """``relu(x + norm(conv(relu(norm(conv(x))))))``; x is subsampled where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs

    def forward(self, x):
        y = torch.relu(self.norm1(self.conv1(x)))
        shortcut = x
        if self.more:
            shortcut = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return torch.relu(self.norm2(self.conv2(y)) + shortcut)


class ResNet20(nn.Module):
    """As ``numbabn.nn.ResNet(20)``."""

    def __init__(self, channels, classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        sizes = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = nn.Sequential(*(Block(*size) for size in sizes))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        return self.linear(self.blocks(self.stem(x)).mean((2, 3)))
