"""numbabn itself, and the copy limit: the one worker that needs this package."""

import numpy as np
from problem import EPS, MOMENTUM, placed
from serving import serve
from steps import CLASSES, LR
from steps import MOMENTUM as SGD_MOMENTUM


class Numbabn:
    """The system; see ``serving``."""

    package = "numbabn"

    def start(self, threads):
        """Import numbabn; NUMBA_NUM_THREADS has set the threads."""
        import numbabn

        self.numbabn = numbabn
        return numbabn.__version__

    def prepare(self, problem):
        """Calls of the public functions."""
        self.problem = problem
        self.running = (problem.running_mean.copy(), problem.running_var.copy())
        self.outputs = [placed(number, problem.x.shape, problem.x.dtype) for number in (3, 4)]
        self.settings = {
            "axis": problem.axis,
            "eps": EPS,
            "momentum": MOMENTUM,
            "activation": "relu" if problem.relu else None,
            "residual": problem.residual if problem.has_residual else None,
        }
        self.arguments = (problem.x, problem.gamma, problem.beta, *self.running)
        if problem.what == "backward":
            return self._backward(), self._gradients
        training = problem.what == "forward"
        out = self.outputs[0] if problem.reuse else None
        return lambda: self.numbabn.batch_norm(
            *self.arguments, training=training, out=out, **self.settings
        ), self._results

    def _results(self, y):
        results = {"y": y}
        if self.problem.what == "forward":
            results["running_mean"], results["running_var"] = self.running
        return results

    def _backward(self):
        self.y, context = self.numbabn.batch_norm_forward(*self.arguments, **self.settings)
        out = tuple(self.outputs) if self.problem.has_residual else self.outputs[0]
        if not self.problem.reuse:
            out = None
        return lambda: self.numbabn.batch_norm_backward(self.problem.dy, context, out=out)

    def _gradients(self, grads):
        results = {"dx": grads.dx, "dgamma": grads.dgamma, "dbeta": grads.dbeta}
        return results | ({"dresidual": grads.dresidual} if self.problem.has_residual else {})

    def training(self, step):
        """A step of one of the package's networks."""
        from numbabn import nn

        images, labels = step.batch()
        channels = images.shape[1]
        model = nn.SmallCNN(channels, CLASSES) if step.network == "small-cnn" else nn.ResNet(20, channels, CLASSES)
        np.savez(step.weights, *(parameter.value for parameter in model.named_parameters().values()))
        criterion, optimizer = nn.CrossEntropy(), nn.SGD(model, LR, momentum=SGD_MOMENTUM)

        def call():
            loss = criterion.forward(model.forward(images, training=True), labels)
            model.backward(criterion.backward(), need_dx=False)
            optimizer.step()
            return loss

        return call

    def limits(self):
        """Copies of the same bytes: of the arrays that are read, to those that are written."""
        from numbabn.bench import limits

        problem, (first, second) = self.problem, self.outputs
        if problem.what != "backward":
            sources = [problem.x, problem.residual] if problem.has_residual else [problem.x]
            passes = [(*sources, first)]
        elif problem.has_residual:
            passes = [(problem.dy, problem.x, first), (self.y, second)]
        else:
            passes = [(problem.dy, problem.x, first)]
        passes = [tuple(array.reshape(-1) for array in arrays) for arrays in passes]
        return {
            "limit_stored": lambda: limits.run(passes, streamed=False),
            "limit_streamed": lambda: limits.run(passes, streamed=True),
        }


if __name__ == "__main__":
    serve(Numbabn())
