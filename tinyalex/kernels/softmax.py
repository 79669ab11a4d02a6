"""Softmax cross-entropy on a GPU; the readable form is in `tinyalex.layers.loss`."""

SOURCE = """
#define LANES 32

// Each lane reads every 32nd class and computes the largest logit and the sum of exponentials relative to it.
extern "C" __global__ void partial_sums(const real *z, real *largest, real *sums, int count, int classes)
{
    EACH(row, t, count);  // (n, 32)
    const real *logits = z + (size_t)row * classes;
    real most = -1 / (real)0, sum = 0;
    for (int c = t; c < classes; c += LANES) {
        const real value = logits[c];
        if (value > most || value != value) {
            sum = sum * exp(most - value) + 1;
            most = value;
        } else if (value > -1 / (real)0) {
            sum += exp(value - most);
        }
    }
    largest[row * LANES + t] = most;
    sums[row * LANES + t] = sum;
}

// The largest logit of all lanes, and the sum relative to it.
__device__ real together(const real *largest, const real *sums, real *sum)
{
    real most = largest[0];
    for (int t = 1; t < LANES; ++t) {
        if (largest[t] > most || largest[t] != largest[t]) most = largest[t];
    }
    *sum = 0;
    for (int t = 0; t < LANES; ++t) {
        if (sums[t] != 0) *sum += sums[t] * exp(largest[t] - most);
    }
    return most;
}

extern "C" __global__ void losses(const real *z, const int *labels, const real *largest, const real *sums,
                                  real *loss, int count, int classes)
{
    EACH(row, t, count);  // (n, 1)
    real sum;
    const real most = together(largest + row * LANES, sums + row * LANES, &sum);
    loss[row] = log(sum) - (z[(size_t)row * classes + labels[row]] - most);
}

extern "C" __global__ void loss_gradient(const real *z, const int *labels, const real *largest, const real *sums,
                                         real *dz, int count, real n)
{
    EACH(row, t, count);  // (n, classes)
    real sum;
    const real most = together(largest + row * LANES, sums + row * LANES, &sum);
    const size_t at = (size_t)row * count + t;
    dz[at] = (exp(z[at] - most) / sum - (labels[row] == t)) / n;
}
"""


def forward(device, z, labels, shares=None):
    """Return the mean loss of logits z (n, classes) and integer labels (n,), and what backward needs.

    With ``shares`` (n,) it is the sum of the images' losses, each times its share.
    """
    n, classes = z.shape
    z, labels = device.xp.ascontiguousarray(z), labels.astype("int32")
    largest, sums = (device.empty((n, 32), z.dtype) for _ in range(2))
    device.launch(SOURCE, "partial_sums", n, 32, z, largest, sums, classes)
    losses = device.empty((n,), z.dtype)
    device.launch(SOURCE, "losses", n, 1, z, labels, largest, sums, losses, classes)
    loss = losses.sum() / n if shares is None else (shares * losses).sum()
    return loss, (z, labels, largest, sums, shares)


def backward(device, saved):
    """Return the gradient with respect to the logits, (n, classes)."""
    z, labels, largest, sums, shares = saved
    dz, n = device.empty(z.shape, z.dtype), len(z) if shares is None else 1
    device.launch(SOURCE, "loss_gradient", len(z), z.shape[1], z, labels, largest, sums, dz, float(n))
    if shares is not None:
        dz *= shares[:, None]
    return dz
