"""Right answers to the exercises, and typical wrong ones, for test_exercises.py.

For each exercise: its correct functions by name, and for each typical mistake the functions that make it.
"""

from math import comb

import numpy as np

ANSWERS = {}


def answer(number, right, **wrong):
    """Register an exercise: its correct functions, and for each mistake the functions that differ; dicts by name."""
    ANSWERS[number] = (right, wrong)


def _windows(side, k, s):
    return range((side - k) // s + 1)


def im2col(x, k, stride, pad, order=(0, 1, 2), where="constant"):
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)), where)
    corners = [(i * stride, j * stride) for i in _windows(len(x), k, stride) for j in _windows(x.shape[1], k, stride)]
    return np.array([x[i : i + k, j : j + k].transpose(order).ravel() for i, j in corners])


answer(
    0,
    {"im2col": im2col},
    transposed={"im2col": lambda x, k, stride, pad: im2col(x, k, stride, pad, order=(1, 0, 2))},
    channels_first={"im2col": lambda x, k, stride, pad: im2col(x, k, stride, pad, order=(2, 0, 1))},
    not_padded={"im2col": lambda x, k, stride, pad: im2col(x, k, stride, 0)},
    edge_repeated={"im2col": lambda x, k, stride, pad: im2col(x, k, stride, pad, where="edge")},
    opposite_sign={"im2col": lambda *given: -im2col(*given)},
)


def col2im(patches, shape, k, stride, add=True, order=(0, 1, 2), step=None):
    x, rows = np.zeros(shape), iter(patches)
    step = step or stride
    for i in _windows(shape[0], k, stride):
        for j in _windows(shape[1], k, stride):
            window = x[step * i : step * i + k, step * j : step * j + k]
            patch = next(rows).reshape(
                np.array((k, k, shape[2]))[np.argsort(order)] if order != (0, 1, 2) else (k, k, -1)
            )
            window[...] = (window if add else 0) + patch.transpose(order)[: len(window), : window.shape[1]]
    return x


answer(
    1,
    {"col2im": col2im},
    assigned={"col2im": lambda p, shape, k, s: col2im(p, shape, k, s, add=False)},
    stride_forgotten={"col2im": lambda p, shape, k, s: col2im(p, shape, k, s, step=1)},
    transposed={"col2im": lambda p, shape, k, s: col2im(p, shape, k, s, order=(1, 0, 2))},
    averaged={"col2im": lambda p, shape, k, s: col2im(p, shape, k, s) / np.maximum(col2im(p * 0 + 1, shape, k, s), 1)},
)


def input_gradient(dy, W, pad, rotate=True, extra=None):
    k = len(W)
    extra = k - 1 - pad if extra is None else extra
    dy = np.pad(dy, ((0, 0), (extra, extra), (extra, extra), (0, 0)))
    W = W[::-1, ::-1] if rotate else W
    view = np.lib.stride_tricks.sliding_window_view(dy, (k, k), axis=(1, 2))
    return np.einsum("nijouv,uvco->nijc", view, W)


answer(
    2,
    {"input_gradient": input_gradient},
    not_rotated={"input_gradient": lambda dy, W, pad: input_gradient(dy, W, pad, rotate=False)},
    padding_of_forward={"input_gradient": lambda dy, W, pad: input_gradient(dy, W, pad, extra=pad)},
    mirrored_once={"input_gradient": lambda dy, W, pad: input_gradient(dy, W[::-1], pad)},
    halved={"input_gradient": lambda dy, W, pad: input_gradient(dy, W, pad) / 2},
    opposite_sign={"input_gradient": lambda *given: -input_gradient(*given)},
)

answer(
    3,
    {
        "abs_tanh": lambda x: np.abs(np.tanh(x)),
        "abs_tanh_backward": lambda dy, x: dy * np.sign(x) * (1 - np.tanh(x) ** 2),
    },
    sign_forgotten={"abs_tanh_backward": lambda dy, x: dy * (1 - np.tanh(x) ** 2)},
    square_forgotten={"abs_tanh_backward": lambda dy, x: dy * np.sign(x) * (1 - np.abs(np.tanh(x)))},
    dy_forgotten={"abs_tanh_backward": lambda dy, x: np.sign(x) * (1 - np.tanh(x) ** 2)},
    not_absolute={"abs_tanh": np.tanh},
)


def lrn_backward(dy, x, k, n, alpha, beta, factor=2.0, power=1.0, of=None):
    def window(a):
        padded = np.pad(a, [(0, 0)] * (a.ndim - 1) + [(n // 2, n // 2)])
        return sum(padded[..., shift : shift + a.shape[-1]] for shift in range(n))

    d = k + alpha * window(x * x)
    cross = window(dy * x * d ** (-beta - power)) if of is None else of(window, dy, x, d)
    return dy * d**-beta - factor * alpha * beta * x * cross


answer(
    4,
    {"lrn_backward": lrn_backward},
    cross_terms_forgotten={"lrn_backward": lambda *a: lrn_backward(*a, factor=0.0)},
    two_forgotten={"lrn_backward": lambda *a: lrn_backward(*a, factor=1.0)},
    wrong_power={"lrn_backward": lambda *a: lrn_backward(*a, power=0.0)},
    own_term_alone={"lrn_backward": lambda *a: lrn_backward(*a, of=lambda w, dy, x, d: dy * x * d ** (-a[5] - 1))},
    own_dy_for_all_neighbours={
        "lrn_backward": lambda *a: lrn_backward(*a, of=lambda w, dy, x, d: dy * w(x * d ** (-a[5] - 1)))
    },
)


def max_pool_backward(dy, x, z, s, add=True, ties="first"):
    dx = np.zeros(x.shape)
    for i, j in np.ndindex(dy.shape):
        window = x[s * i : s * i + z, s * j : s * j + z]
        winners = np.argwhere(window == window.max())
        for u, v in {"first": winners[:1], "last": winners[-1:], "all": winners}[ties]:
            dx[s * i + u, s * j + v] = (dx[s * i + u, s * j + v] if add else 0) + dy[i, j]
    return dx


answer(
    5,
    {"max_pool_backward": max_pool_backward},
    assigned={"max_pool_backward": lambda *a: max_pool_backward(*a, add=False)},
    all_tied_pixels={"max_pool_backward": lambda *a: max_pool_backward(*a, ties="all")},
    last_tied_pixel={"max_pool_backward": lambda *a: max_pool_backward(*a, ties="last")},
    spread_over_all_pixels={"max_pool_backward": lambda dy, x, z, s: np.full(x.shape, dy.sum() / x.size)},
)


def dropout(x, mask, p):
    return x * (1 - p) if mask is None else x * mask


answer(
    6,
    {"dropout": dropout, "dropout_backward": dropout},
    scaled_in_training={"dropout": lambda x, mask, p: x if mask is None else x * mask / (1 - p)},
    test_not_scaled={"dropout": lambda x, mask, p: x if mask is None else x * mask},
    scaled_by_p={"dropout": lambda x, mask, p: x * p if mask is None else x * mask},
    backward_passes_all={"dropout_backward": lambda dy, mask, p: dy * (1 - p) if mask is None else dy},
    mask_inverted={"dropout": lambda x, mask, p: x * (1 - p) if mask is None else x * ~mask},
)


def plateau_rate(errors, rate, patience, drops, equal=False, last=False, limit=True, restart=True):
    best, stale, count = float("inf"), 0, 0
    for error in errors:
        better = error <= best if equal else error < best
        stale = 0 if better else stale + 1
        best = error if last else min(best, error)
        if stale == patience if restart else stale >= patience:
            count, stale = count + 1, 0 if restart else stale
    return rate / 10 ** (min(count, drops) if limit else count)


answer(
    7,
    {"plateau_rate": plateau_rate},
    equal_is_better={"plateau_rate": lambda *a: plateau_rate(*a, equal=True)},
    compared_with_the_last={"plateau_rate": lambda *a: plateau_rate(*a, last=True)},
    no_limit={"plateau_rate": lambda *a: plateau_rate(*a, limit=False)},
    every_epoch_after={"plateau_rate": lambda *a: plateau_rate(*a, restart=False)},
)

answer(
    8,
    {"deviation": lambda kind, n: (2 / n) ** 0.5 if kind == "relu" else n**-0.5},
    relu_like_linear={"deviation": lambda kind, n: n**-0.5},
    variance_instead_of_deviation={"deviation": lambda kind, n: 2 / n if kind == "relu" else 1 / n},
    relu_gain_for_all={"deviation": lambda kind, n: (2 / n) ** 0.5},
    the_papers={"deviation": lambda kind, n: 0.01},
)


def cut(image, mean, top, left, flip, size):
    window = (image.astype(np.float32) - mean)[top : top + size, left : left + size]
    return window[:, ::-1] if flip else window


def _cut_then_mean(image, mean, top, left, flip, size):
    window = image[top : top + size, left : left + size].astype(np.float32)
    return (window[:, ::-1] if flip else window) - mean[top : top + size, left : left + size]


def _centre_mean(image, mean, top, left, flip, size):
    window, start = image[top : top + size, left : left + size].astype(np.float32), (len(mean) - size) // 2
    return (window[:, ::-1] if flip else window) - mean[start : start + size, start : start + size]


answer(
    9,
    {"cut": cut},
    mean_not_mirrored={"cut": _cut_then_mean},
    centre_of_the_mean={"cut": _centre_mean},
    upside_down={"cut": lambda *a: cut(*a)[::-1] if a[4] else cut(*a)},
    uint8_overflow={"cut": lambda i, m, *a: cut(i - m.astype(np.uint8), 0 * m, *a)},
)


def count(layers, side, channels=3, bias=True, grouping=True, up=True, products_of_bias=False):
    shape, parameters, products = (side, side, channels), 0, 0

    def positions(n, window, stride):
        return 1 + (-(-(n - window) // stride) if up else (n - window) // stride)

    for kind, *numbers in layers:
        if kind == "conv":
            maps, k, stride, pad, groups = numbers
            h = positions(shape[0] + 2 * pad, k, stride)
            weights, outputs = k * k * shape[2] // (groups if grouping else 1) * maps, maps
            parameters, products, shape = parameters + weights, products + weights * h * h, (h, h, maps)
        elif kind == "pool":
            h = positions(shape[0], *numbers)
            shape, outputs = (h, h, shape[2]), 0
        else:
            weights, outputs = int(np.prod(shape)) * numbers[0], numbers[0]
            parameters, products, shape = parameters + weights, products + weights, (outputs,)
        parameters += outputs if bias else 0
        products += outputs if products_of_bias else 0
    return parameters, products


answer(
    10,
    {"count": count},
    no_biases={"count": lambda *a: count(*a, bias=False)},
    groups_ignored={"count": lambda *a: count(*a, grouping=False)},
    rounded_down={"count": lambda *a: count(*a, up=False)},
    biases_multiplied={"count": lambda *a: count(*a, products_of_bias=True)},
)


def bytes_crossed(sizes, routes, batch, ways=2, own=False, itemsize=4):
    return ways * itemsize * batch * sum(sizes[s] for d, sources in enumerate(routes) for s in sources if own or s != d)


answer(
    11,
    {"bytes_crossed": bytes_crossed},
    backward_forgotten={"bytes_crossed": lambda *a: bytes_crossed(*a, ways=1)},
    own_output_counted={"bytes_crossed": lambda *a: bytes_crossed(*a, own=True)},
    eight_bytes={"bytes_crossed": lambda *a: bytes_crossed(*a, itemsize=8)},
    size_of_the_reader={
        "bytes_crossed": lambda sizes, routes, batch: sum(
            8 * batch * sizes[d] for d, sources in enumerate(routes) for s in sources if s != d
        )
    },
)


def order(seed, epoch, count):
    from tinyalex.randomness import bits, key

    return np.argsort(bits(key(seed, "order", epoch), np.arange(count)), kind="stable")


answer(
    12,
    {"order": order},
    rotated={"order": lambda seed, epoch, n: np.roll(order(seed, 0, n), epoch)},
    from_a_global_generator={"order": lambda seed, epoch, n: np.random.permutation(n)},
    with_replacement={"order": lambda seed, epoch, n: order(seed, epoch, n) // 2 * 2},
    epoch_forgotten={"order": lambda seed, epoch, n: order(seed, 0, n)},
    seeds_added={"order": lambda seed, epoch, n: order(seed + epoch, 0, n)[:: 1 if n != 4 else -1] * 0 + np.arange(n)},
)


def top5_error(p, labels, mean=None, k=5):
    p = p.mean(axis=0) if mean is None else mean(p)
    first = np.argsort(-p, axis=1, kind="stable")[:, :k]
    return float((first != labels[:, None]).all(axis=1).mean())


answer(
    13,
    {"top5_error": top5_error},
    geometric={"top5_error": lambda p, labels: top5_error(p, labels, lambda p: np.log(p).mean(axis=0))},
    errors_averaged={"top5_error": lambda p, labels: np.mean([top5_error(view[None], labels) for view in p])},
    first_view={"top5_error": lambda p, labels: top5_error(p[:1], labels)},
    top_six={"top5_error": lambda p, labels: top5_error(p, labels, k=6)},
    ties_backwards={
        "top5_error": lambda p, labels: float(
            (np.argsort(p.mean(axis=0), axis=1, kind="stable")[:, -5:] != labels[:, None]).all(axis=1).mean()
        )
    },
)


def colour_share(kernels, axes=(0, 1, 2)):
    chroma = kernels - kernels.mean(axis=2, keepdims=True)
    return (chroma**2).sum(axis=axes) / (kernels**2).sum(axis=axes)


answer(
    14,
    {"colour_share": colour_share},
    not_divided={"colour_share": lambda w: ((w - w.mean(axis=2, keepdims=True)) ** 2).sum(axis=(0, 1, 2))},
    over_the_layer={"colour_share": lambda w: colour_share(w) * 0 + colour_share(w.reshape(5, -1, 3, 1))[0]},
    not_squared={
        "colour_share": lambda w: (
            np.abs(w - w.mean(axis=2, keepdims=True)).sum(axis=(0, 1, 2)) / np.abs(w).sum(axis=(0, 1, 2))
        )
    },
    mean_over_positions={
        "colour_share": lambda w: (
            ((w - w.mean(axis=(0, 1), keepdims=True)) ** 2).sum(axis=(0, 1, 2)) / (w**2).sum(axis=(0, 1, 2))
        )
    },
)


def codes(points, centre, planes):
    return np.packbits((points - centre) @ planes > 0, axis=1)


def hamming(a, b):
    return np.bitwise_count(a[:, None] ^ b[None]).sum(axis=2, dtype=np.int64)


answer(
    15,
    {"codes": codes, "hamming": hamming},
    not_centred={"codes": lambda points, centre, planes: codes(points, 0, planes)},
    packed_along_the_wrong_axis={"codes": lambda p, c, planes: np.packbits((p - c) @ planes > 0, axis=0)},
    equal_bits={"hamming": lambda a, b: 8 * a.shape[1] - hamming(a, b)},
    differing_bytes_counted={"hamming": lambda a, b: (a[:, None] != b[None]).sum(axis=2)},
    overflow={"hamming": lambda a, b: np.bitwise_count(a[:, None] ^ b[None]).sum(axis=2, dtype=np.uint8)},
)


def mcnemar(wrong_a, wrong_b, sides=2, most=1.0):
    b, c = int((wrong_a & ~wrong_b).sum()), int((wrong_b & ~wrong_a).sum())
    return min(most, sides * sum(comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c))


answer(
    16,
    {"mcnemar": mcnemar},
    one_sided={"mcnemar": lambda a, b: mcnemar(a, b, sides=1)},
    p_above_1={"mcnemar": lambda a, b: mcnemar(a, b, most=9.0)},
    all_errors={"mcnemar": lambda a, b: mcnemar(np.append(a, [True] * 3), np.append(b, [False] * 3))},
    chi_squared={
        "mcnemar": lambda a, b: float(np.exp(-(((a & ~b).sum() - (b & ~a).sum()) ** 2) / max(1, 2 * (a ^ b).sum())))
    },
)


def three_outputs(d, g):
    at_zero, at_infinity = (d[0] - d[2]) * g[0], (d[3] - d[1]) * g[1]
    at_one, at_minus = (d[1] + d[2]) * ((g[0] + g[1]) / 2), (d[2] - d[1]) * ((g[0] - g[1]) / 2)
    return at_zero + at_one + at_minus, at_one - at_minus, at_one + at_minus + at_infinity


answer(
    17,
    {"three_outputs": three_outputs},
    six_products={"three_outputs": lambda d, g: [d[i] * g[0] + d[i + 1] * g[1] for i in range(3)]},
    kernel_reversed={"three_outputs": lambda d, g: three_outputs(d, g[::-1])},
    five_products={
        "three_outputs": lambda d, g: (d[0] * g[0] + d[1] * g[1], d[1] * g[0] + d[2] * g[1], three_outputs(d, g)[2])
    },
    half_forgotten={
        "three_outputs": lambda d, g: [
            y + z for y, z in zip(three_outputs(d, g), three_outputs([0 * d[0], d[1], d[2], 0 * d[3]], g), strict=True)
        ]
    },
)


def tree_sum(parts, sequential=False, lonely=True, zero=False):
    if sequential:
        present = [part for part in parts if part is not None]
        return sum(present[1:], present[0]) if present else None
    while len(parts) > 1:
        pairs = [(*parts[i : i + 2], None)[:2] for i in range(0, len(parts), 2)]
        parts = [
            (b if lonely else None) if a is None else a if b is None else np.float32(a + b)
            for a, b in pairs
        ]  # fmt: skip
    return np.float32(0) if zero and parts[0] is None else parts[0]


answer(
    18,
    {"tree_sum": tree_sum},
    one_after_the_other={"tree_sum": lambda parts: tree_sum(parts, sequential=True)},
    a_lonely_second_part_is_lost={"tree_sum": lambda parts: tree_sum(parts, lonely=False)},
    none_is_zero={"tree_sum": lambda parts: tree_sum(parts, zero=True)},
    from_the_end={"tree_sum": lambda parts: tree_sum(parts[::-1])},
)


def unpool(y, x, window, stride, add=True, share=True, first=False, middle=False):
    back = np.zeros(x.shape)
    for i, j, m in np.ndindex(y.shape):
        part = x[stride * i : stride * i + window, stride * j : stride * j + window, m]
        places = np.argwhere(part == part.max())
        places = [np.array(part.shape) // 2] if middle else places[:1] if first else places
        for row, column in places:
            where = min(stride * i + row, len(x) - 1), min(stride * j + column, x.shape[1] - 1), m
            back[where] = y[i, j, m] / (len(places) if share else 1) + (back[where] if add else 0)
    return back


answer(
    19,
    {"unpool": unpool},
    first_maximum_as_in_the_lesson={"unpool": lambda y, x, k, s: unpool(y, x, k, s, first=True)},
    each_maximum_gets_all={"unpool": lambda y, x, k, s: unpool(y, x, k, s, share=False)},
    overwritten={"unpool": lambda y, x, k, s: unpool(y, x, k, s, add=False)},
    always_in_the_middle={"unpool": lambda y, x, k, s: unpool(y, x, k, s, middle=True)},
    stride_forgotten={"unpool": lambda y, x, k, s: unpool(y, x, k, 1)},
    opposite_sign={"unpool": lambda *given: -unpool(*given)},
    whole_numbers={"unpool": lambda *given: unpool(*given).astype(int)},
)


def signal(logits, axis=0, centred=True):
    logits = logits - logits.mean(axis=1, keepdims=True) if centred else logits
    return np.sqrt(logits.var(axis=axis).mean() / (logits**2).mean())


def dead(W, b, low, high):
    return np.mean(np.maximum(W * low, W * high).sum(axis=0) + b <= 0)


answer(
    20,
    {"signal": signal, "dead": dead},
    as_in_the_lesson={"signal": lambda logits: signal(logits, centred=False)},
    across_classes={"signal": lambda logits: signal(logits, axis=1)},
    not_divided={"signal": lambda logits: (logits - logits.mean(axis=1, keepdims=True)).std(axis=0).mean()},
    mean_of_deviations={
        "signal": lambda logits: (
            (c := logits - logits.mean(axis=1, keepdims=True)).std(axis=0).mean() / np.sqrt((c**2).mean())
        )
    },
    mean_of_all_subtracted={"signal": lambda logits: signal(logits - logits.mean(), centred=False)},
    largest_input={"dead": lambda W, b, low, high: np.mean(high * W.sum(axis=0) + b <= 0)},
    bias_forgotten={"dead": lambda W, b, low, high: dead(W, 0 * b, low, high)},
    middle_of_the_range={"dead": lambda W, b, low, high: np.mean((low + high) / 2 * W.sum(axis=0) + b <= 0)},
    active_share={"dead": lambda *given: 1 - dead(*given)},
    range_symmetric_about_0={"dead": lambda W, b, low, high: dead(W, b, -high, high)},
)


def gather(dy, t, h, w, c, ho, wo, window, stride, clip=True, first=1, order="pixels"):
    i, j, channel = t // (w * c), t // c % w, t % c
    total = 0.0
    for a in range(max(0, (i - window) // stride + first), min(i // stride, ho - 1) + 1):
        for b in range(max(0, (j - window) // stride + first), min(j // stride, wo - 1) + 1):
            down, across = min(window, h - a * stride), min(window, w - b * stride)
            at = (a * wo + b) * c + channel if order == "pixels" else (channel * ho + a) * wo + b
            total += dy[at] / (down * across if clip else window**2)
    return total


answer(
    21,
    {"gather": gather},
    edge_not_clipped={"gather": lambda *given: gather(*given, clip=False)},
    first_window_too_late={"gather": lambda *given: gather(*given, first=2)},
    channels_first={"gather": lambda *given: gather(*given, order="channels")},
    own_window_only={"gather": lambda dy, t, h, w, c, ho, wo, z, s: (
        dy[(min(t // (w * c) // s, ho - 1) * wo + min(t // c % w // s, wo - 1)) * c + t % c] / z**2
    )},
    beyond_the_last_window={"gather": lambda dy, t, h, w, c, ho, wo, z, s: gather(dy, t, h, w, c, ho + 1, wo, z, s)},
)  # fmt: skip


def largest_batch(layers, shape, memory, copies=1, rounded=int, inputs=True, most=max, least=0, itemsize=4):
    parameters, needed = 0, []
    for layer in layers:
        before, shape = shape, layer.output_shape(shape)
        parameters += sum(parameter.size for parameter in layer.parameters)
        needed.append(int(np.prod(shape)) + (int(np.prod(before)) if inputs else 0))
    return max(least, int(rounded((memory - itemsize * copies * parameters) / (itemsize * most(needed)))))


answer(
    22,
    {"largest_batch": largest_batch},
    as_in_training={
        "largest_batch": lambda *given: largest_batch(
            *given, copies=3, inputs=False, most=lambda needed: 2 * sum(needed)
        )
    },
    all_outputs_kept={"largest_batch": lambda *given: largest_batch(*given, inputs=False, most=sum)},
    inputs_forgotten={"largest_batch": lambda *given: largest_batch(*given, inputs=False)},
    momentum_kept={"largest_batch": lambda *given: largest_batch(*given, copies=3)},
    first_layer_only={"largest_batch": lambda *given: largest_batch(*given, most=lambda needed: needed[0])},
    last_layer_only={"largest_batch": lambda *given: largest_batch(*given, most=lambda needed: needed[-1])},
    rounded_up={"largest_batch": lambda *given: largest_batch(*given, rounded=np.ceil)},
    negative={"largest_batch": lambda *given: largest_batch(*given, least=-(10**9))},
    numbers_for_bytes={"largest_batch": lambda *given: largest_batch(*given, itemsize=1)},
)
