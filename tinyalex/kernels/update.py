"""The update rule on a GPU, all parameters in one pass; the readable form is in `tinyalex.training.optimizer`."""

import numpy as np

SOURCE = """
// Parameters lie one after the other, each starting at a multiple of ROW: all numbers of a row have the same rates.
extern "C" __global__ void update(real *w, const real *g, real *v, const int *owner, const real *momenta,
                                  const real *rates, const real *decays, int count)
{
    EACH(row, t, count);
    const real momentum = momenta[owner[row]], rate = rates[owner[row]], decay = decays[owner[row]];
    if (rate == 0) return;  // frozen: no weight decay and no momentum
    const size_t at = (size_t)row * count + t;
    real step = momentum * v[at];
    step -= decay * w[at];
    step -= rate * g[at];
    v[at] = step;
    w[at] += step;
}
"""

ROW = 1024


class Flat:
    """All parameters of one device in one buffer, their gradients and their v in two others.

    Parameters
    ----------
    device : Device
    parameters : list of Parameter
        Their values and gradients become views of the buffers.
    dtype : numpy.dtype

    Attributes
    ----------
    v : list of array
        One view for each parameter, in its shape.
    """

    def __init__(self, device, parameters, dtype):
        self.device, self.parameters = device, parameters
        rows = [-(-parameter.size // ROW) for parameter in parameters]
        starts = np.cumsum([0, *rows]) * ROW
        self._w, self._g, self._v = (device.zeros((starts[-1],), dtype) for _ in range(3))
        self._owner = device.put(np.repeat(np.arange(len(rows), dtype=np.int32), rows))
        self._rates = self._settings = None
        self.v = []
        for parameter, start in zip(parameters, starts, strict=False):
            w, g, v = (
                whole[start : start + parameter.size].reshape(parameter.shape) for whole in (self._w, self._g, self._v)
            )
            w[...], g[...] = parameter.value, parameter.grad
            parameter.value, parameter.grad = w, g
            self.v.append(v)

    def update(self, settings):
        """Take one step.

        Parameters
        ----------
        settings : list of (float, float, float)
            Every parameter's momentum, rate and decay, the latter already times the rate.
        """
        device, dtype = self.device, self._w.dtype
        if settings != self._settings and settings:  # changes a few times in a run
            self._rates = [device.put(np.array(column, dtype)) for column in zip(*settings, strict=True)]
            self._settings = settings
        if len(self._w):
            arrays = self._w, self._g, self._v, self._owner, *self._rates
            device.launch(SOURCE, "update", len(self._w) // ROW, ROW, *arrays)
