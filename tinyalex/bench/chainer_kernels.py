"""The kernels of the Chainer-style port that look through windows, each in CUDA and over arrays.

They compute as Chainer's did: a thread for every number that is written, which works out from the number's index where
it belongs, and gathers what goes into it. Images are (n, c, h, w), patches (n, c, k, k, ho, wo).
"""


class Kernel:
    """An elementwise kernel of CuPy, and the same over NumPy's arrays.

    Parameters
    ----------
    name : str
    inputs, outputs : str
        In CuPy's notation: what is ``raw`` is indexed as the body says, everything else by the thread's number ``i``.
    body : str
        CUDA.
    plain : callable
        ``plain(xp, *arguments)`` does the same to the same arguments.
    """

    def __init__(self, name, inputs, outputs, body, plain):
        self.name, self.inputs, self.outputs, self.body, self.plain = name, inputs, outputs, body, plain
        self._compiled = None

    def __call__(self, device, *arguments, size=None):
        """Launch it; outputs are the last arguments, ``size`` the number of threads where all arrays are raw."""
        if device.on_host:
            self.plain(device.xp, *arguments)
            return
        if self._compiled is None:
            self._compiled = device.xp.ElementwiseKernel(self.inputs, self.outputs, self.body, f"port_{self.name}")
        self._compiled(*arguments, **({} if size is None else {"size": size}))


def _taps(x, h, w, ho, wo, k, s, p):
    # For each (u, v) of a window: the part of (..., ho, wo) whose pixel is inside, and these pixels of (..., h, w).
    for u in range(k):
        for v in range(k):
            cuts = []
            for offset, size, places in ((u - p, h, ho), (v - p, w, wo)):
                first = max(0, -(offset // s))
                last = min(places - 1, (size - 1 - offset) // s)
                start = offset + s * first
                cuts.append((slice(first, last + 1), slice(start, start + s * (last - first) + 1, s)))
            (rows, down), (columns, across) = cuts
            yield u, v, (..., rows, columns), (..., down, across)


def _im2col(xp, x, h, w, ho, wo, k, s, p, col):
    col[...] = 0
    for u, v, places, pixels in _taps(x, h, w, ho, wo, k, s, p):
        col[:, :, u, v][places] = x[pixels]


IM2COL = Kernel(
    "im2col",
    "raw T x, int32 h, int32 w, int32 ho, int32 wo, int32 k, int32 s, int32 p",
    "T col",
    """
    unsigned int rest = i;
    const int wide = rest % wo; rest /= wo;
    const int high = rest % ho; rest /= ho;
    const int v = rest % k; rest /= k;
    const int u = rest % k; rest /= k;
    const int row = u + s * high - p, column = v + s * wide - p;
    const bool inside = row >= 0 && row < h && column >= 0 && column < w;
    col = inside ? x[((long long)rest * h + row) * w + column] : (T)0;
    """,
    _im2col,
)


def _col2im(xp, col, images, c, h, w, ho, wo, k, s, p, x):
    x[...] = 0
    for u, v, places, pixels in _taps(x, h, w, ho, wo, k, s, p):
        x[pixels] += col[:, u, v].transpose(1, 0, 2, 3)[places]


COL2IM = Kernel(  # of patches as the product leaves them: (c, k, k, n, ho, wo)
    "col2im",
    "raw T col, int32 images, int32 c, int32 h, int32 w, int32 ho, int32 wo, int32 k, int32 s, int32 p",
    "T x",
    """
    unsigned int rest = i;
    const int across = rest % w + p; rest /= w;
    const int down = rest % h + p; rest /= h;
    const int channel = rest % c, image = rest / c;
    T sum = 0;
    for (int high = max(0, (down - k + s) / s); high <= min(ho - 1, down / s); ++high)
        for (int wide = max(0, (across - k + s) / s); wide <= min(wo - 1, across / s); ++wide) {
            const int u = down - s * high, v = across - s * wide;
            sum += col[((((long long)(channel * k + u) * k + v) * images + image) * ho + high) * wo + wide];
        }
    x = sum;
    """,
    _col2im,
)


def _pool(xp, x, h, w, ho, wo, k, s, y, winner):
    y[...] = -xp.inf
    winner[...] = 0
    for u, v, places, pixels in _taps(x, h, w, ho, wo, k, s, 0):
        larger = x[pixels] > y[places]
        y[places] = xp.where(larger, x[pixels], y[places])
        winner[places] = xp.where(larger, u * k + v, winner[places])


POOL = Kernel(
    "pool",
    "raw T x, int32 h, int32 w, int32 ho, int32 wo, int32 k, int32 s",
    "T y, int32 winner",
    """
    unsigned int rest = i;
    const int left = rest % wo * s; rest /= wo;
    const int top = rest % ho * s; rest /= ho;
    const long long plane = (long long)rest * h;
    T best = x[(plane + top) * w + left];
    int where = 0;
    for (int row = top; row < min(top + k, h); ++row)
        for (int column = left; column < min(left + k, w); ++column) {
            const T value = x[(plane + row) * w + column];
            if (value > best) {
                best = value;
                where = (row - top) * k + column - left;
            }
        }
    y = best;
    winner = where;
    """,
    _pool,
)


def _unpool(xp, dy, winner, h, w, ho, wo, k, s, dx):
    dx[...] = 0
    for u, v, places, pixels in _taps(dx, h, w, ho, wo, k, s, 0):
        dx[pixels] += dy[places] * (winner[places] == u * k + v)


UNPOOL = Kernel(
    "unpool",
    "raw T dy, raw int32 winner, int32 h, int32 w, int32 ho, int32 wo, int32 k, int32 s",
    "T dx",
    """
    unsigned int rest = i;
    const int across = rest % w; rest /= w;
    const int down = rest % h; rest /= h;
    T sum = 0;
    for (int high = max(0, (down - k + s) / s); high <= min(ho - 1, down / s); ++high)
        for (int wide = max(0, (across - k + s) / s); wide <= min(wo - 1, across / s); ++wide) {
            const long long place = ((long long)rest * ho + high) * wo + wide;
            if (winner[place] == (down - s * high) * k + across - s * wide) sum += dy[place];
        }
    dx = sum;
    """,
    _unpool,
)
