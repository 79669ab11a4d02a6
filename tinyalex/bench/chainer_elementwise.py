"""The kernels of the Chainer-style port that go number by number, or down the maps, each in CUDA and over arrays."""

from tinyalex import randomness
from tinyalex.bench.chainer_kernels import Kernel


def _window(xp, x, c, area, span, total):
    half = span // 2
    x, total = x.reshape(-1, c, area), total.reshape(-1, c, area)
    total[...] = 0
    for shift in range(-half, half + 1):
        inside, neighbours = slice(max(0, -shift), c - max(0, shift)), slice(max(0, shift), c + min(0, shift))
        total[:, inside] += x[:, neighbours]


WINDOW = Kernel(  # a thread for each place of each image: it goes down the maps with a running sum
    "window",
    "raw T x, int32 c, int32 area, int32 span",
    "raw T total",
    """
    const unsigned int place = i;
    const long long first = (long long)(place / area) * c * area + place % area;
    const int half = span / 2;
    T sum = 0;
    for (int map = 0; map < c + half; ++map) {
        if (map < c) sum += x[first + (long long)map * area];
        if (map >= span) sum -= x[first + (long long)(map - span) * area];
        if (map >= half) total[first + (long long)(map - half) * area] = sum;
    }
    """,
    _window,
)


def _norm(xp, x, total, k, alpha, beta, scale, y):
    scale[...] = k + alpha * total
    y[...] = x * scale**-beta


NORM = Kernel(
    "norm",
    "T x, T total, T k, T alpha, T beta",
    "T scale, T y",
    "scale = k + alpha * total; y = x * pow(scale, -beta);",
    _norm,
)


def _summand(xp, y, dy, scale, out):
    out[...] = y * dy / scale


SUMMAND = Kernel("summand", "T y, T dy, T scale", "T out", "out = y * dy / scale;", _summand)


def _norm_back(xp, x, dy, scale, total, alpha, beta, dx):
    dx[...] = dy * scale**-beta - 2 * alpha * beta * x * total


NORM_BACK = Kernel(
    "norm_back",
    "T x, T dy, T scale, T total, T alpha, T beta",
    "T dx",
    "dx = dy * pow(scale, -beta) - 2 * alpha * beta * x * total;",
    _norm_back,
)


def _relu_back(xp, y, dy, dx):
    dx[...] = dy * (y > 0)


RELU_BACK = Kernel("relu_back", "T y, T dy", "T dx", "dx = y > 0 ? dy : (T)0;", _relu_back)


def _draw(xp, low, high, drawn):
    key = high << 32 | low
    drawn[...] = (randomness.bits(key, xp.arange(drawn.size), xp=xp) >> 8).reshape(drawn.shape) * 2.0**-24


DRAW = Kernel(  # as cuRAND does: one kernel that only writes; the bits are those of `tinyalex.randomness`
    "draw",
    "uint32 low, uint32 high",
    "float32 drawn",
    """
    unsigned int state = ((unsigned int)i * 0x9E3779B9u) ^ low;
    for (int turn = 0; turn < 2; ++turn) {
        if (turn) state += high;
        state = (state ^ (state >> 16)) * 0x7FEB352Du;
        state = (state ^ (state >> 15)) * 0x846CA68Bu;
        state ^= state >> 16;
    }
    drawn = (state >> 8) * 5.9604644775390625e-8f;
    """,
    _draw,
)


def _silence(xp, x, drawn, p, mask, y):
    mask[...] = drawn >= p
    y[...] = x * mask


SILENCE = Kernel(
    "silence", "T x, float32 drawn, float32 p", "T mask, T y", "mask = drawn >= p; y = x * mask;", _silence
)


def _move(xp, dw, rate, momentum, decay, v, w):
    v *= momentum
    v -= rate * (dw + decay * w)
    w += v


MOVE = Kernel(
    "move",
    "T dw, T rate, T momentum, T decay",
    "T v, T w",
    "v = momentum * v - rate * (dw + decay * w); w += v;",
    _move,
)
