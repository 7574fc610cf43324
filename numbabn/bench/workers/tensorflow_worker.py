"""TensorFlow: ``FusedBatchNormV3`` and its gradient, compiled by ``tf.function``."""

import os

from problem import EPS, MOMENTUM, UnsupportedError
from serving import serve


class TensorFlow:
    """The peer; see ``serving``."""

    package = "tensorflow"

    def start(self, threads):
        """Import TensorFlow."""
        os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
        import tensorflow as tf

        self.tf = tf
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        return tf.__version__

    def prepare(self, problem):
        """A compiled function of constant tensors."""
        if problem.layout == "NCHW":
            raise UnsupportedError("FusedBatchNormV3 is for NHWC on CPUs")
        if problem.x.dtype != "float32":
            raise UnsupportedError("FusedBatchNormV3 is for float32")
        self.problem = problem
        self.shape = problem.x.shape if problem.x.ndim == 4 else (len(problem.x), 1, 1, problem.x.shape[1])
        x, dy, residual = (
            self.tf.constant(values.reshape(self.shape)) for values in (problem.x, problem.dy, problem.residual)
        )
        parameters = (problem.gamma, problem.beta, problem.running_mean, problem.running_var)
        gamma, beta, *running = map(self.tf.constant, parameters)
        forward = self.tf.function(self._forward)
        if problem.what != "backward":
            return lambda: forward(x, gamma, beta, *running, residual), self._results
        y, *_, saved = forward(x, gamma, beta, *running, residual)
        backward = self.tf.function(self._backward)
        return lambda: backward(dy, x, gamma, y, *saved), self._gradients

    def _forward(self, x, gamma, beta, running_mean, running_var, residual):
        training = self.problem.what != "inference"
        y, mean, var, *saved = self.tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=gamma,
            offset=beta,
            mean=running_mean,
            variance=running_var,
            epsilon=EPS,
            exponential_avg_factor=MOMENTUM if training else 1.0,
            is_training=training,
        )
        if self.problem.has_residual:
            y = y + residual
        return self.tf.nn.relu(y) if self.problem.relu else y, mean, var, saved

    def _results(self, returned):
        y, mean, var, _ = returned
        results = {"y": y.numpy().reshape(self.problem.x.shape)}
        if self.problem.what == "forward":
            results |= {"running_mean": mean.numpy(), "running_var": var.numpy()}
        return results

    def _backward(self, dy, x, gamma, y, *saved):
        if self.problem.relu:
            dy = self.tf.raw_ops.ReluGrad(gradients=dy, features=y)
        names = (f"reserve_space_{number}" for number in (1, 2, 3))
        dx, dgamma, dbeta, *_ = self.tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=dy, x=x, scale=gamma, epsilon=EPS, is_training=True, **dict(zip(names, saved, strict=True))
        )
        return dx, dgamma, dbeta, dy

    def _gradients(self, returned):
        dx, dgamma, dbeta, dresidual = (value.numpy() for value in returned)
        results = {"dx": dx.reshape(self.problem.x.shape), "dgamma": dgamma, "dbeta": dbeta}
        if self.problem.has_residual:
            results["dresidual"] = dresidual.reshape(self.problem.x.shape)
        return results


if __name__ == "__main__":
    serve(TensorFlow())
