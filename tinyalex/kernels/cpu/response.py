"""Response normalization for NumPy; the readable form is in `tinyalex.layers.normalization`.

Both passes take so few rows (or images) at a time that all that is computed of them stays in cache.
"""

from tinyalex.devices.parallel import ranges

PIECE = 3 << 15  # numbers that are normalized at a time
SCALE = 2.0**40  # as in `tinyalex.layers.normalization`


def forward(device, x, size, k, alpha, beta, groups):
    """Normalize x; return y and what backward needs.

    Parameters
    ----------
    device : Device
    x : array, shape (n, h, w, c)
        With ``groups``, any shape with the maps last.
    size : int
    k, alpha, beta : float
    groups : int or None
        Windows over maps, in so many groups (`LRN`); None for windows over pixels (`SpatialNorm`).
    """
    xp, shape, x = device.xp, x.shape, _rows(x, groups)
    window_sum = _over_pixels if groups is None else _over_maps
    y, u = (device.empty(x.shape, x.dtype) for _ in range(2))
    for i in _pieces(x):
        d, inside = window_sum(device, x[i], x[i], size, size // 2)
        d *= alpha
        d += k
        xp.multiply(x[i], _power(device, xp.divide(1, d[inside], out=u[i]), beta), out=y[i])
    return y.reshape(shape), (x, u)


def backward(device, dy, saved, size, k, alpha, beta, groups):
    """Return dx."""
    (x, u), shape, dy, xp = saved, dy.shape, _rows(dy, groups), device.xp
    window_sum = _over_pixels if groups is None else _over_maps
    dx, after = device.empty(dy.shape, dy.dtype), size - 1 - size // 2
    for i in _pieces(x):
        p = _power(device, u[i], beta)
        q = xp.multiply(x[i], u[i], out=dx[i])
        q *= SCALE
        q *= p
        cross, inside = window_sum(device, dy[i], q, size, after)
        xp.multiply(x[i], cross[inside], out=dx[i])
        dx[i] *= -2 * alpha * beta / SCALE
        dx[i] += xp.multiply(dy[i], p, out=p)  # reuse p's buffer
    return dx.reshape(shape)


def _rows(x, groups):
    # Over maps: a row holds the c/g maps of a group at one position.
    return x if groups is None else x.reshape(-1, x.shape[-1] // groups)


def _pieces(x):
    return ranges(len(x), -(-x.size // PIECE))


def _power(device, u, beta):
    # d^-beta of u = 1 / d. The paper's beta, 3/4, is two square roots, several times as fast as a power: u^1/2 u^1/4.
    # (The root of u^3/2 is the same, but u^3/2 is less than the smallest number where x is 1e16.)
    xp, out = device.xp, device.empty(u.shape, u.dtype)
    if beta != 0.75:
        return xp.power(u, beta, out=out)
    root = xp.sqrt(u, out=out)
    return xp.multiply(root, xp.sqrt(root, out=device.empty(u.shape, u.dtype)), out=out)


def _over_maps(device, a, b, size, before):
    # The sum of a b over windows of maps. One row of c/g maps and size - 1 zeros after the other, so that a shifted
    # view of all rows at once never reaches the next row's maps.
    rows, maps = a.shape
    padded = device.zeros((rows + 1, maps + size - 1), a.dtype)
    total = device.empty((rows, padded.shape[1]), a.dtype)
    device.xp.multiply(a, b, out=padded[:rows, before : before + maps])
    padded, flat = padded.reshape(-1), total.reshape(-1)
    _add(device, [padded[shift : shift + flat.size] for shift in range(size)], flat)
    return total, (slice(rows), slice(maps))


def _over_pixels(device, a, b, size, before):
    # The sum of a b over square windows of pixels: along the columns first, then along the rows.
    n, h, w, c = a.shape
    padded = device.zeros((n, h + size - 1, w + size - 1, c), a.dtype)
    device.xp.multiply(a, b, out=padded[:, before : before + h, before : before + w])
    rows, total = device.empty((n, h, *padded.shape[2:]), a.dtype), device.empty(a.shape, a.dtype)
    _add(device, [padded[:, shift : shift + h] for shift in range(size)], rows)
    _add(device, [rows[:, :, shift : shift + w] for shift in range(size)], total)
    return total, ...


def _add(device, terms, out):
    first, *others = terms
    if not others:
        out[...] = first
        return
    device.xp.add(first, others[0], out=out)
    for term in others[1:]:
        out += term
