"""col2im for NumPy; the readable form is in `tinyalex.layers.patches`."""


def col2im(device, patches, shape, ho, wo, kernel, stride, pad):
    """Add patches (n ho wo, k k c) up to images, an array of ``shape`` (n, h, w, c)."""
    n, h, w, c = shape
    patches = patches.reshape(n, ho, wo, kernel, kernel, c)
    # Patches that lie this many output positions apart share no pixel, so whole rows of k c numbers are added at once.
    apart = -(-kernel // stride)
    height, width, span = (ho - 1) * stride + kernel, (wo - 1 + apart) * stride, apart * stride
    x = device.zeros((n, max(height, pad + h), max(width, pad + w), c), patches.dtype)
    for v in range(min(apart, wo)):
        some = patches[:, :, v::apart]  # (n, ho, wo / apart, k, k, c)
        pixels = x[:, :, v * stride :][:, :, : some.shape[2] * span].reshape(*x.shape[:2], some.shape[2], span, c)
        for u in range(kernel):
            pixels[:, u : u + stride * ho : stride, :, :kernel] += some[:, :, :, u]
    return x[:, pad : pad + h, pad : pad + w]
