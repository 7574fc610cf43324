"""PyTorch: ``native_batch_norm`` and its gradient, which is what ``F.batch_norm`` and autograd come down to."""

import numpy as np
from problem import EPS, MOMENTUM, placed
from serving import serve
from steps import CLASSES, LR
from steps import MOMENTUM as SGD_MOMENTUM


class Torch:
    """The peer; see ``serving``."""

    package = "torch"

    def start(self, threads):
        """Import PyTorch."""
        import torch

        self.torch = torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        return torch.__version__

    def prepare(self, problem):
        """Calls on tensors that share the memory of NumPy arrays; channels-last ones in PyTorch's own sense."""
        self.problem = problem
        self.x, self.dy, self.residual = map(self._tensor, (problem.x, problem.dy, problem.residual))
        parameters = (problem.gamma, problem.beta, problem.running_mean.copy(), problem.running_var.copy())
        self.gamma, self.beta, *self.running = map(self.torch.from_numpy, parameters)
        forward = self._forward_into if problem.reuse else self._forward
        if problem.what == "backward":
            return self._backward(), self._gradients
        return forward, self._results

    def _tensor(self, values):
        tensor = self.torch.from_numpy(values)
        return tensor.permute(0, 3, 1, 2) if self.problem.layout == "NHWC" else tensor

    def _memory(self):
        return placed(3, self.problem.x.shape, self.problem.x.dtype)

    def _array(self, tensor):
        return (tensor.permute(0, 2, 3, 1) if self.problem.layout == "NHWC" else tensor).numpy()

    def _epilogue(self, y):
        if self.problem.has_residual:
            y.add_(self.residual)
        return y.relu_() if self.problem.relu else y

    def _forward(self):
        training = self.problem.what == "forward"
        batch_norm = self.torch.nn.functional.batch_norm
        return self._epilogue(batch_norm(self.x, *self.running, self.gamma, self.beta, training, MOMENTUM, EPS))

    @property
    def _forward_into(self):
        """Like ``_forward``, into one tensor again and again."""
        training = self.problem.what == "forward"
        statistics = [self.torch.empty_like(self.gamma) for _ in range(2 if training else 0)]
        statistics = statistics or [self.torch.empty(0, dtype=self.x.dtype) for _ in range(2)]
        out = (self._tensor(self._memory()), *statistics)
        batch_norm = self.torch.native_batch_norm

        def call():
            batch_norm(self.x, self.gamma, self.beta, *self.running, training, MOMENTUM, EPS, out=out)
            return self._epilogue(out[0])

        return call

    def _results(self, y):
        results = {"y": self._array(y)}
        if self.problem.what == "forward":
            results["running_mean"], results["running_var"] = (value.numpy() for value in self.running)
        return results

    def _backward(self):
        """There is no gradient into memory of the caller's; what ReLU lets through is, where memory is reused."""
        aten = self.torch.ops.aten
        parameters = (self.gamma, *self.running)
        y, *saved = aten.native_batch_norm(self.x, self.gamma, self.beta, *self.running, True, MOMENTUM, EPS)
        y = self._epilogue(y)
        let_through = self._tensor(self._memory()) if self.problem.reuse else None

        def call():
            dy = self.dy
            if self.problem.relu:
                if let_through is None:
                    dy = aten.threshold_backward(dy, y, 0)
                else:
                    dy = aten.threshold_backward.grad_input(dy, y, 0, grad_input=let_through)
            return *aten.native_batch_norm_backward(dy, self.x, *parameters, *saved, True, EPS, [True] * 3), dy

        return call

    def _gradients(self, returned):
        dx, dgamma, dbeta, dresidual = returned
        results = {"dx": self._array(dx), "dgamma": dgamma.numpy(), "dbeta": dbeta.numpy()}
        return results | ({"dresidual": self._array(dresidual)} if self.problem.has_residual else {})

    def training(self, step):
        """The same network of PyTorch's modules, with the same weights, and its own loss and optimiser.

        Channels last, which is the faster order for it: ResNet-20 takes four fifths of the time of channels first.
        """
        import torch_networks

        torch = self.torch
        torch.set_grad_enabled(True)
        images, labels = map(torch.from_numpy, step.batch())
        images = images.to(memory_format=torch.channels_last)
        model = torch_networks.build(step.network, images.shape[1], CLASSES).to(memory_format=torch.channels_last)
        with np.load(step.weights) as weights, torch.no_grad():
            for parameter, name in zip(model.parameters(), weights.files, strict=True):
                parameter.copy_(torch.from_numpy(weights[name]))
        criterion = torch.nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), LR, momentum=SGD_MOMENTUM)

        def call():
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            return loss.item()

        return call


if __name__ == "__main__":
    serve(Torch())
