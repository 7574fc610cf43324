"""JAX: the formulas as they are written, compiled by ``jax.jit``, and the gradient that ``jax.vjp`` makes of them."""

import os

import numpy as np
from problem import EPS, MOMENTUM
from serving import serve


class Jax:
    """The peer; see ``serving``."""

    package = "jax"

    def start(self, threads):
        """Import JAX, which takes as many threads as there are CPUs for this process."""
        os.environ.update(JAX_PLATFORMS="cpu", JAX_ENABLE_X64="1")
        import jax

        self.jax = jax
        return jax.__version__

    def prepare(self, problem):
        """A compiled function of arrays on the device; its result is waited for."""
        jax, self.problem = self.jax, problem
        names = ("x", "gamma", "beta", "residual")
        primals = [jax.device_put(getattr(problem, name)) for name in names]
        running = [jax.device_put(problem.running_mean), jax.device_put(problem.running_var)]
        if problem.what == "backward":
            # vjp is itself compiled, and returns a function with what it kept: the backward pass alone is timed.
            _, pullback = jax.jit(lambda *values: jax.vjp(self._normalize, *values))(*primals)
            backward = jax.jit(self._backward)
            dy = jax.device_put(problem.dy)
            return lambda: jax.block_until_ready(backward(pullback, dy)), self._gradients
        forward = jax.jit(self._forward if problem.what == "forward" else self._inference)
        return lambda: jax.block_until_ready(forward(*primals, *running)), self._results

    def _statistics(self, x):
        axes = tuple(axis for axis in range(x.ndim) if axis != self.problem.axis)
        return x.mean(axes), x.var(axes)

    def _apply(self, x, gamma, beta, residual, mean, var):
        shape = [1] * x.ndim
        shape[self.problem.axis] = -1
        mean, scale, beta = (values.reshape(shape) for values in (mean, gamma * self.jax.lax.rsqrt(var + EPS), beta))
        y = (x - mean) * scale + beta
        if self.problem.has_residual:
            y = y + residual
        return self.jax.nn.relu(y) if self.problem.relu else y

    def _normalize(self, x, gamma, beta, residual):
        return self._apply(x, gamma, beta, residual, *self._statistics(x))

    def _forward(self, x, gamma, beta, residual, running_mean, running_var):
        mean, var = self._statistics(x)
        n = x.size // mean.size
        running_mean = (1 - MOMENTUM) * running_mean + MOMENTUM * mean
        running_var = (1 - MOMENTUM) * running_var + MOMENTUM * var * (n / (n - 1))
        return self._apply(x, gamma, beta, residual, mean, var), running_mean, running_var

    def _inference(self, x, gamma, beta, residual, running_mean, running_var):
        return (self._apply(x, gamma, beta, residual, running_mean, running_var),)

    def _backward(self, pullback, dy):
        dx, dgamma, dbeta, dresidual = pullback(dy)
        return (dx, dgamma, dbeta, dresidual) if self.problem.has_residual else (dx, dgamma, dbeta)

    def _results(self, returned):
        return dict(zip(("y", "running_mean", "running_var"), map(np.asarray, returned), strict=False))

    def _gradients(self, returned):
        return dict(zip(("dx", "dgamma", "dbeta", "dresidual"), map(np.asarray, returned), strict=False))


if __name__ == "__main__":
    serve(Jax())
