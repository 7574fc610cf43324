"""Running statistics, updated in one small compiled function: a dozen NumPy calls would be most of a tiny call."""

from ...jit import serial
from ..host import MEAN, VAR, Running, running_weights


def update_running(running: Running, table, count):
    """As ``reference.update_running`` does, to the bit."""
    if running is not None and running.momentum != 0:
        mix(running.mean, running.var, table, *running_weights(running, count))


@serial
def mix(running_mean, running_var, table, old, new_mean, new_var):
    """``old * running + new * batch``, computed in float64 and rounded once."""
    for channel in range(table.shape[1]):
        running_mean[channel] = old * running_mean[channel] + new_mean * table[MEAN, channel]
        running_var[channel] = old * running_var[channel] + new_var * table[VAR, channel]
