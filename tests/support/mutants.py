"""Bugs to plant, by function: a name, the text to replace, the new text.

The text must occur exactly once in the function. To add a mutant, add a line; test_mutants.py plants it, runs the quick
checks, and fails if none of them fails.
"""

import importlib
import inspect
import sys
import textwrap
from typing import NamedTuple


class Mutant(NamedTuple):
    name: str
    where: str
    old: str
    new: str


# fmt: off
PLACES = {
    "layers.convolution:Conv2d.forward": {
        "conv: bias forgotten": ("y += self.b.value", "pass"),
    },
    "layers.convolution:Conv2d.product": {
        "conv: groups swapped": (
            "im2col(self.device, x[..., inputs],",
            "im2col(self.device, x[..., ::-1][..., inputs],",
        ),
        "conv: every group is the first, forward": ("W[:, outputs], out", "W[:, : outputs.stop - outputs.start], out"),
        "conv: kernel turned round": ("self.W.value.reshape", "self.W.value[::-1, ::-1].reshape"),
        "conv: weights transposed": ("self.W.value.reshape", "self.W.value.transpose(1, 0, 2, 3).reshape"),
        "conv: input changed in place": ("self.saved = x", "x *= 1.5; self.saved = x"),
        "conv: float32 promoted": ("xp.result_type(x, W)", "xp.result_type(x, W, 'float64')"),
        "conv: stride forgotten": (
            "**self.geometry)",
            "**self.geometry | {'stride': max(1, self.geometry['stride'] - 1)})[: len(y)]",
        ),
    },
    "layers.convolution:Conv2d.backward": {
        "conv: bias gradient averaged": (".sum(axis=0)", ".mean(axis=0)"),
        "conv: bias gradient missing": ("self.b.grad[...] =", "_ ="),
        "conv: bias gradient adds up": ("self.b.grad[...] =", "self.b.grad +="),
    },
    "layers.convolution:Conv2d.product_backward": {
        "conv: weight gradient adds up": (
            "self.device.matmul(patches.T, dy[:, outputs], out=dW[:, outputs])",
            "dW[:, outputs] += patches.T @ dy[:, outputs]",
        ),
        "conv: weight gradient averaged": ("patches.T, dy[:, outputs]", "patches.T, dy[:, outputs] / len(x)"),
        "conv: every group is the first, backward": ("W[:, outputs].T", "W[:, : outputs.stop - outputs.start].T"),
        "conv: groups add to one input": ("dx[..., inputs] = col2im", "dx[..., : x.shape[3]] = col2im"),
        "conv: dy changed in place": ("dy = dy.reshape(-1, self.maps)", "dy = dy.reshape(-1, self.maps); dy *= 1.5"),
        "conv: input gradient flipped": ("return dx", "return None if dx is None else dx[:, ::-1]"),
    },
    "layers.locally_connected:LocallyConnected.forward": {
        "local: bias forgotten": ("y += self.b.value", "pass"),
        "local: one bias for all positions": ("y += self.b.value", "y += self.b.value.mean(axis=(0, 1))"),
        "local: the kernel of the first position everywhere": ("self._patches(x), W,", "self._patches(x), W[:1],"),
        "local: float32 promoted": ("xp.result_type(x, W)", "xp.result_type(x, W, 'float64')"),
        "local: input changed in place": ("self.saved = x", "x *= 1.5; self.saved = x"),
    },
    "layers.locally_connected:LocallyConnected.backward": {
        "local: bias gradient shared by the positions": (
            "dy.sum(axis=0)",
            "dy.sum(axis=(0, 1, 2))",
        ),
        "local: bias gradient adds up": ("self.b.grad[...] =", "self.b.grad +="),
        "local: weight gradient averaged": ("patches.transpose(0, 2, 1), dy", "patches.transpose(0, 2, 1), dy / n"),
        "local: positions turned round": ("W.transpose(0, 2, 1)", "W[::-1].transpose(0, 2, 1)"),
        "local: images and positions mixed up": ("dpatches.transpose(1, 0, 2)", "dpatches"),
    },
    "layers.locally_connected:LocallyConnected.__init__": {
        "local: fan-in counts the positions": (
            "(kernel * kernel * c)",
            "(kernel * kernel * c * self.output_size[0] * self.output_size[1])",
        ),
    },
    "layers.patches:positions": {
        "positions: floor for ceil": (
            "-(-span // stride) if rounding == \"ceil\" else span // stride",
            "span // stride",
        ),
        "positions: ceil for floor": (
            "-(-span // stride) if rounding == \"ceil\" else span // stride",
            "-(-span // stride)",
        ),
        "positions: one padding only": ("2 * pad", "pad"),
        "positions: one too few": ("return 1 + (", "return max(1, "),
    },
    "layers.patches:_pad": {
        "im2col: pad off by one": (
            "padded[:, pad : pad + inside.shape[1]",
            "padded[:, pad - 1 : pad - 1 + inside.shape[1]",
        ),
        "im2col: edge repeated instead of zeros": (
            "    return padded",
            "    padded[:, :pad] = padded[:, pad : pad + 1]\n    return padded",
        ),
    },
    "layers.patches:im2col": {
        "im2col: rows and columns of the kernel swapped": ("(0, 1, 2, 4, 5, 3)", "(0, 1, 2, 5, 4, 3)"),
    },
    "layers.patches:col2im": {
        "col2im: overwrites": ("] += patches[", "] = patches["),
        "col2im: pad off by one": ("return x[:, pad : pad + h,", "return x[:, max(pad - 1, 0) : max(pad - 1, 0) + h,"),
        "col2im: a tap lost": ("for u in range(kernel):", "for u in range(max(1, kernel - 1)):"),
        "col2im: the kernel's rows and columns swapped": ("patches[:, :, :, u, v]", "patches[:, :, :, v, u]"),
    },
    "layers.activation:ReLU.backward": {
        "relu: mask is >=": ("y > 0", "y >= 0"),
        "relu: no mask": ("y > 0", "1"),
    },
    "layers.activation:ReLU.forward": {
        "relu: leaks": ("maximum(x, 0)", "maximum(x, 0.01 * x)"),
        "relu: works in place": ("maximum(x, 0)", "maximum(x, 0, out=x)"),
    },
    "layers.activation:Tanh.backward": {
        "tanh: derivative of the sigmoid": ("(1 - y * y)", "(y - y * y)"),
    },
    "layers.units:_logistic": {
        "units: tanh for the logistic unit": ("tanh(0.5 * x)", "tanh(x)"),
    },
    "layers.units:Logistic.backward": {
        "units: logistic unit with the derivative of tanh": ("* y * (1 - y)", "* (1 - y * y)"),
    },
    "layers.units:SoftReLU.forward": {
        "units: soft relu without its linear part": ("xp.where(positive, x, 0) +", "0 * x +"),
    },
    "layers.units:SoftReLU.backward": {
        "units: soft relu with the derivative of relu": (
            "_logistic(self.device.xp, self.pop_saved())",
            "(self.pop_saved() > 0)",
        ),
    },
    "layers.units:Abs.backward": {
        "units: abs passes on its gradient as it is": ("xp.where(x < 0, -dy, 0)", "dy"),
    },
    "layers.units:Square.backward": {
        "units: square without the 2": ("2 * dy", "dy"),
    },
    "layers.units:ScaledTanh.backward": {
        "units: scaled tanh without its inner slope": ("self.a * self.b", "self.a"),
    },
    "layers.contrast:ContrastNorm.forward": {
        "contrast norm: mean over the full window": ("/ area", "/ self.size**2"),
        "contrast norm: energy of the pixels, not of the deviations": ("e * e, before", "x * x, before"),
    },
    "layers.contrast:ContrastNorm.backward": {
        "contrast norm: derivative of the mean left out, as in 2012": ("- self.window_sum(de / area, after)", "- 0"),
        "contrast norm: windows look the wrong way": ("self.size - 1 - self.size // 2", "self.size // 2"),
        "contrast norm: energy's gradient halved": ("de = -2 *", "de = -1 *"),
    },
    "layers.blur:GaussianBlur.__init__": {
        "blur: taps do not sum to 1": ("tap / sum(taps)", "tap"),
    },
    "layers.blur:GaussianBlur._blur": {
        "blur: edges are repeated": (
            "padded[:, before : before + h, before : before + w] = x",
            "padded[:] = self.device.xp.pad(x, ((0, 0), (before, before), (before, before), (0, 0)), 'edge')",
        ),
        "blur: rows only": ("rows[:, :, shift : shift + w]", "rows[:, :, before : before + w]"),
    },
    "layers.blur:Subsample.backward": {
        "subsample: gradient at every pixel": ("dx[:, :: self.stride, :: self.stride] = dy", "dx += dy[:, :1, :1]"),
    },
    "layers.sparse:DealChannels.backward": {
        "deal channels: order of forward used in backward": ("for n, (_, place)", "for n, (place, _)"),
        "deal channels: the first pack only": ("in enumerate(self.packs)", "in enumerate(self.packs[:1])"),
    },
    "layers.channels:ChannelSlice.backward": {
        "channel slice: gradient for the first channels": ("[..., self.first : self.first + self.count]",
                                                           "[..., : self.count]"),
    },
    "layers.joined:inputs_of": {
        "joined: inputs in the other order": (
            "zip(sizes, accumulate(sizes), strict=True)",
            "[*zip(sizes, accumulate(sizes), strict=True)][::-1]",
        ),
    },
    "layers.joined:SumOfInputs.forward": {
        "joined: bias forgotten": ("start=self.b.value", "start=0 * self.b.value"),
    },
    "layers.joined:SumOfInputs.backward": {
        "joined: bias gradient adds up": ("self.b.grad[...] =", "self.b.grad +="),
        "joined: bias gradient averaged": (".sum(axis=0)", ".mean(axis=0)"),
    },
    "layers.joined:ElementwiseSum.backward": {
        "elementwise sum: coefficients forgotten in backward": ("a * dy for a", "dy for a"),
    },
    "layers.normalization:_ResponseNorm.backward": {
        "lrn: cross term dropped": ("return dy * p - 2 *", "return dy * p - 0 *"),
        "lrn: sign of the cross term": ("- 2 * self.alpha", "+ 2 * self.alpha"),
        "lrn: cross term halved": ("- 2 * self.alpha", "- self.alpha"),
        "lrn: beta forgotten in the cross term": ("self.alpha * self.beta / SCALE", "self.alpha / SCALE"),
        "lrn: cross term without the neighbours": (
            "self.window_sum(dy * (x / d * SCALE * p), self.size - 1 - self.size // 2)",
            "dy * (x / d * SCALE * p)",
        ),
        "lrn: backward's window looks the wrong way": ("self.size - 1 - self.size // 2", "self.size // 2"),
        "lrn: direct term lost": ("return dy * p -", "return -"),
        "lrn: exponent of d one off": ("x / d * SCALE", "x * SCALE"),
    },
    "layers.normalization:_ResponseNorm.forward": {
        "lrn: x not squared": ("(x * x,", "(0 * x + 1,"),
        "lrn: k is 1": ("d = self.k +", "d = 1 +"),
        "lrn: beta is always 3/4": ("d**-self.beta", "d**-0.75"),
        "lrn: other powers multiply": ("d**-self.beta", "d**self.beta"),
    },
    "layers.normalization:LRN.__init__": {
        "lrn: k defaults to 1": ("k: float = K", "k: float = 1.0"),
        "lrn: alpha not divided by n": ("self.size if average else 1", "1"),
        "lrn: alpha always divided by n": ("self.size if average else 1", "self.size"),
    },
    "layers.normalization:LRN.window_sum": {
        "lrn: window of 4": ("in range(self.size))", "in range(self.size - 1))"),
        "lrn: window begins one late": (
            "padded[..., before : before + maps]",
            "padded[..., before - 1 : before - 1 + maps]",
        ),
        "lrn: window crosses the columns": (
            "a = a.reshape(*a.shape[:-1], self.groups, maps)",
            "maps = a.shape[-1]; a = a[..., None, :]",
        ),
    },
    "layers.normalization:SpatialNorm.__init__": {
        "spatial norm: alpha divided by the side": ("self.size**2", "self.size"),
    },
    "layers.normalization:SpatialNorm.window_sum": {
        "spatial norm: window over rows only": ("rows[:, :, shift : shift + w]", "rows[:, :, before : before + w]"),
    },
    "layers.pooling:MaxPool.forward": {
        "max pool: smallest": ("xp.maximum(y[units]", "xp.minimum(y[units]"),
        "max pool: a pixel of each window forgotten": ("in others:", "in others[:-1]:"),
    },
    "layers.pooling:MaxPool.backward": {
        "max pool: overlaps overwrite": ("dx[pixels] +=", "dx[pixels] ="),
        "max pool: every pixel wins": ("largest & ~found", "~found"),
        "max pool: all of several largest": ("found[units] |= first", "pass"),
        "max pool: to the last of several largest": (
            "in self.taps(x.shape):",
            "in reversed(list(self.taps(x.shape))):",
        ),
    },
    "layers.pooling:_Pool.taps": {
        "max pool: window of 2": ("for u in range(self.window)", "for u in range(min(2, self.window))"),
    },
    "layers.pooling:_Pool.output_shape": {
        "pool: clipped window left out": ("self.rounding)", "'floor')"),
    },
    "layers.pooling:AvgPool.forward": {
        "avg pool: divided by the full window": ("area[units] += 1", "area[units] += (self.window**2 - area[units])"),
        "avg pool: float32 promoted": ("x.real.dtype", "'float64'"),
    },
    "layers.pooling:AvgPool.backward": {
        "avg pool: backward not divided": ("share, dx = dy / area", "share, dx = dy"),
        "avg pool: overlaps overwrite": ("dx[pixels] += share", "dx[pixels] = share"),
    },
    "kernels.cpu.activation:ReLU.forward": {
        "relu for NumPy: leaks": ("maximum, x, scratch.get(\"zeros\", x.shape[1:]), y", "np.multiply, x, 1.0, y"),
    },
    "kernels.cpu.activation:ReLU.backward": {
        "relu for NumPy: no mask": ("dy[rows], positive, dx[rows]", "dy[rows], scratch.ones(y.shape[1:]), dx[rows]"),
        "relu for NumPy: some rows forgotten": ("ranges(len(y), -(-y.size // PIECE))", "[slice(len(y) - 1)]"),
    },
    "kernels.cpu.activation:Tanh.backward": {
        "tanh for NumPy: derivative of the sigmoid": ("np.subtract, 1.0, slope", "np.subtract, y, slope"),
    },
    "kernels.cpu.response:_ResponseNorm.__init__": {
        "lrn for NumPy: sign of the cross term": ("-2 * alpha * beta", "2 * alpha * beta"),
        "lrn for NumPy: beta forgotten in the cross term": ("-2 * alpha * beta", "-2 * alpha"),
        "lrn for NumPy: k is 1": ("self.cross = k,", "self.cross = 1.0,"),
    },
    "kernels.cpu.response:_ResponseNorm.forward": {
        "lrn for NumPy: x not squared": ("scratch, a, a, self.before", "scratch, a, a * 0 + 1, self.before"),
        "lrn for NumPy: d doubled": ("np.divide, 1.0, d[inside]", "np.divide, 0.5, d[inside]"),
    },
    "kernels.cpu.response:_ResponseNorm.backward": {
        "lrn for NumPy: cross term dropped": (
            "yield np.multiply, a, total[inside], out",
            "yield np.multiply, a, 0.0, out",
        ),
        "lrn for NumPy: backward's window looks the wrong way": ("self.size - 1 - self.before", "self.before"),
        "lrn for NumPy: direct term lost": ("yield np.add, out, power, out", "pass"),
        "lrn for NumPy: exponent of d one off": ("yield np.multiply, q, power, q", "pass"),
    },
    "kernels.cpu.response:_ResponseNorm._power": {
        "lrn for NumPy: beta is 1/2 where it is 3/4": ("yield np.multiply, out, r, out", "pass"),
        "lrn for NumPy: other powers multiply": ("r, self.beta, out", "r, -self.beta, out"),
    },
    "kernels.cpu.response:_add": {
        "lrn for NumPy: window of 4": ("terms[2:]", "terms[2:-1]"),
    },
    "kernels.cpu.response:LRN.window_sum": {
        "lrn for NumPy: window begins one late": (
            "[..., before : before + maps]",
            "[..., max(0, before - 1) : max(0, before - 1) + maps]",
        ),
    },
    "kernels.cpu.response:LRN.__init__": {
        "lrn for NumPy: window crosses the columns": ("maps // groups", "maps"),
    },
    "kernels.cpu.response:SpatialNorm.window_sum": {
        "spatial norm for NumPy: window over rows only": ("rows[:, shift : shift + w]", "rows[:, before : before + w]"),
    },
    "kernels.cpu.pooling:MaxPool._to_winners": {
        "max pool for NumPy: overlaps overwrite": ("yield np.add, pixels, won, pixels", "yield np.copyto, pixels, won"),
        "max pool for NumPy: every pixel wins": ("mask[some].view(np.uint8)", "1"),
        "max pool for NumPy: pixels beyond the windows keep what was there": ("if dx[beyond].size:", "if False:"),
    },
    "kernels.cpu.pooling:MaxPool._largest": {
        "max pool for NumPy: to the last of several largest": (
            "yield np.greater, x[pixels], x[first], mask",
            "yield np.greater_equal, x[pixels], x[first], mask",
        ),
        "max pool for NumPy: smallest": (
            "yield maximum, x[pixels], y[some], y[some]",
            "yield np.add, -x[pixels], y[some], y[some]",
        ),
    },
    "kernels.cpu.pooling:MaxPool._taps": {
        "max pool for NumPy: window of 2": ("range(self.window)", "range(min(2, self.window))"),
    },
    "kernels.cpu.pooling:_means": {
        "avg pool for NumPy: divided by the full window": ("1 / (inside.stop - inside.start)", "1 / window"),
    },
    "kernels.cpu.pooling:AvgPool.backward": {
        "avg pool for NumPy: backward not divided": ("self._across.T, dy", "np.sign(self._across.T), dy"),
    },
    "kernels.cpu.first_convolution:FirstConvolution._patches": {
        "first conv for NumPy: bias forgotten": ("lines[:, -1] = 1", "lines[:, -1] = 0"),
        "first conv for NumPy: rows and columns of the kernel swapped": (
            "numbers[:, phase::s]",
            "numbers[:, :, phase::s]",
        ),
    },
    "kernels.cpu.first_convolution:FirstConvolution.backward": {
        "first conv for NumPy: a chunk's gradient lost": ("first and number == 0", "first"),
    },
    "kernels.cpu.winograd:Winograd.prepare": {
        "winograd for NumPy: kernels not turned around": ("W[::-1, ::-1]", "W"),
        "winograd for NumPy: kernels not transposed": (
            "group.swapaxes(2, 3)",
            "group.reshape(*group.shape[:2], -1, group.shape[2])",
        ),
    },
    "kernels.cpu.winograd:Winograd.finish": {
        "winograd for NumPy: a worker's gradients lost": ("for first, _ in sums[1:]", "for first, _ in sums[:0]"),
    },
    "kernels.cpu.winograd:Tiles.calls": {
        "winograd for NumPy: bias forgotten": ("i == self.one and b is not None", "False"),
        "winograd for NumPy: bias at another position": ("i == self.one", "i == self.one - 1"),
    },
    "kernels.cpu.winograd:Tiles.kernel_gradient": {
        "winograd for NumPy: kernel gradients of chunks and blocks overwrite": (
            "new = first and tiles.start == 0",
            "new = True",
        ),
    },
    "network.fast:FastStage.shares": {
        "network: an image lost at the end of a fast share": (
            "min(low + size, share.stop)",
            "min(low + size, share.stop - 1)",
        ),
    },
    "network.fast:FastStage._run": {
        "network: every fast block is the first": ("number == 0", "True"),
        "network: fast blocks forget where they begin": ("step.first + part.start", "step.first"),
    },
    "network.fast:_Worker.block": {
        "network: fast blocks overwrite the gradients": ("number == 0) for", "True) for"),
    },
    "network.fast:load": {
        "network: images of the batch before in a fast block": (
            "array.transpose(1, 2, 0, 3), 0",
            "array.transpose(1, 2, 0, 3), pixels[:, :, count:]",
        ),
    },
    "layers.linear:Linear.forward": {
        "linear: bias forgotten": ("y += self.b.value", "pass"),
    },
    "layers.linear:Linear.product": {
        "linear: images read channel by channel": (
            "self.device.contiguous(x[..., inputs]).reshape(",
            "(x if x.ndim < 4 else x.transpose(0, 3, 1, 2).reshape(x.shape))[..., inputs].reshape(",
        ),
    },
    "layers.linear:Linear.backward": {
        "linear: bias gradient averaged": ("dy.sum(axis=0)", "dy.mean(axis=0)"),
        "linear: bias gradient of one image": ("dy.sum(axis=0)", "dy[0]"),
    },
    "layers.linear:Linear.product_backward": {
        "linear: weight gradient of images in reverse": ("dy[:, outputs], out=dW", "dy[::-1, outputs], out=dW"),
        "linear: every group is the first": ("copy(dx[..., inputs]", "copy(dx[..., : x.shape[-1] // self.groups]"),
        "linear: input gradient has the wrong sign": ("return dx", "return -dx"),
        "linear: input changed in place": ("return dx", "x += 1; return dx"),
    },
    "layers.dropout:Dropout.forward": {
        "dropout: not scaled at test": ("return x * (1 - self.p)", "return x * 1"),
        "dropout: scaled by p at test": ("return x * (1 - self.p)", "return x * self.p"),
        "dropout: scaled in training too": ("(self.saved, x, 0)", "(self.saved, x / (1 - self.p), 0)"),
        "dropout: active at test": ("if not training:", "step = step or randomness.Step(0, 0)\n    if False:"),
        "dropout: inactive in training": ("if not training:", "if True:"),
        "dropout: same mask in both columns": (
            "arange(self.first_unit, self.first_unit + math.prod(x.shape[1:]))",
            "arange(math.prod(x.shape[1:]))",
        ),
        "dropout: same mask for all images": ("images, units, xp=xp", "images * 0, units, xp=xp"),
        "dropout: every block begins with the first mask": (
            "arange(step.first, step.first + len(x))",
            "arange(len(x))",
        ),
        "dropout: keeps p instead of dropping p": (">= int", "< int"),
    },
    "layers.dropout:Dropout.key": {
        "dropout: same mask every step": (", step.number)", ")"),
        "dropout: same mask every run": ("key(step.seed,", "key(0,"),
        "dropout: same mask in both layers": ("\"dropout\", self.stream", "\"dropout\""),
    },
    "layers.dropout:Dropout.backward": {
        "dropout: backward forgets the mask": ("self.device.xp.where(m, dy, 0)", "dy"),
    },
    "layers.loss:SoftmaxLoss.forward_checked": {
        "loss: no shift": ("z - z.real.max(axis=1)[:, None]", "z - 0"),
        "loss: shift by the batch's maximum": ("z.real.max(axis=1)[:, None]", "z.real.max()"),
        "loss: summed over images": (".sum() / n", ".sum()"),
        "loss: label one off": ("labels[:, None]", "labels[:, None] + 1"),
        "loss: weighted losses summed without the weights": ("(shares * (xp", "(1 * (xp"),
    },
    "layers.loss:SoftmaxLoss._shares": {
        "loss: weight of the class before": ("self.weights[labels]", "self.weights[labels - 1]"),
        "loss: weights divided by the number of images": ("weights.sum()", "weights.sum() * 0 + len(z)"),
        "loss: weights not divided": ("weights / ", "weights / 1 #"),
    },
    "layers.loss:SoftmaxLoss.backward": {
        "loss: gradient summed over images": ("/ max(1, len(right))", ""),
        "loss: gradient averaged over classes": ("max(1, len(right))", "right.size"),
        "loss: gradient of the wrong sign": ("/ total[:, None] - right", "/ total[:, None] + right"),
        "loss: gradient without the class weights": ("difference * shares[:, None]", "difference / len(right)"),
        "loss: gradient of logits, not of probabilities": ("self.device.xp.exp(shifted) / total[:, None]", "shifted"),
    },
    "layers.initialization:first_value": {
        "init: both columns start alike": ("\"init\", name)", "\"init\", parameter.layer)"),
        "init: he without the 2": ("2.0 / fan_in", "1.0 / fan_in"),
        "init: bias is 0": ("parameter.init if parameter.kind == \"b\" else 0.0", "0.0"),
        "init: fan-out for fan-in": ("parameter.shape[:-1]", "parameter.shape[-1:]"),
    },
    "network.columns:Exchange.backward": {
        "columns: one column's gradient not sent home": ("and dy is not None", "and dx is None"),
        "columns: gradient counted twice": ("devices[source], dx, dy)", "devices[source], dx, 2 * dy)"),
    },
    "network.columns:Exchange._part": {
        "columns: gradient sent to the wrong home": (
            "if each == source",
            "if each == sources[::-1][sources.index(source)]",
        ),
    },
    "network.columns:Exchange.forward": {
        "columns: exchange doubles": (
            "return [self._join(xs, destination, devices)",
            "return [self._join([x if x is None else 2 * x for x in xs], destination, devices)",
        ),
    },
    "network.columns:Exchange._join": {
        "columns: joined in the wrong order": ("inputs_of(joined, shapes)", "inputs_of(joined, shapes)[::-1]"),
        "columns: other column's maps not read": (
            "self._transfer(xs[source],",
            "self._transfer(xs[source] * (source == destination),",
        ),
        "columns: own maps instead of the other's": ("self._transfer(xs[source],", "self._transfer(xs[sources[0]],"),
    },
    "network.columns:Exchange._transfer": {
        "columns: array not copied over": ("return devices[destination].receive(x, devices[source])", "return x"),
        "columns: backward bytes not counted": ("+= x.nbytes", "+= x.nbytes * (direction == 'forward')"),
    },
    "network.columns:Exchange.bytes_per_image": {
        "columns: own maps counted as crossing": ("self.gpus[source] != self.gpus[destination]", "sources"),
    },
    "network.columns:Stage.backward": {
        "columns: layers run backward in forward order": ("in reversed(column)", "in column"),
    },
    "network.alexnet:alexnet": {
        "net: conv3 pads nothing": ("pad=net.padding[number - 1]", "pad=net.padding[number - 1] * (number != 3)"),
        "net: norm before the pool where it should be after": ('"pool-norm"', '"pool, norm"'),
    },
    "network.cifar10:cifar10_local": {
        "net: footnote 3's normalization with the paper's k": ("k=1.0, alpha=1e-3", "alpha=1e-3"),
        "net: footnote 3's normalization after the pool": (
            "builder.norm(number, k=1.0, alpha=1e-3)\n        builder.pool(number)",
            "builder.pool(number)\n        builder.norm(number, k=1.0, alpha=1e-3)",
        ),
    },
    "network.layout:NetBuilder.exchange_before": {
        "net: columns talk before conv2": (
            "if name in self.net.exchanges:\n        self.stage(name)",
            "self.stage(name, routes=[list(range(self.devices))] * self.devices)",
        ),
    },
    "network.layout:NetBuilder.groups": {
        "net: conv2 in one group": (
            '1 if name == "conv1" or name in self.net.exchanges else self.columns_per_device',
            "1",
        ),
    },
    "network.layout:NetBuilder.norm": {
        "net: LRN crosses the columns": ("1 if across else self.columns_per_device", "1"),
        "net: LRN stops at the column where it should cross": ("1 if across else ", ""),
        "net: both columns keep column a's maps after LRN": ("column * own[column][-1]", "0"),
        "net: LRN of the paper in the 2012 net": ("average=average", "average=average and self.columns_per_device > 1"),
    },
    "network.layout:NetBuilder.dropout": {
        "net: both columns use one dropout mask": ("column * units", "0"),
    },
    "network.layout:NetBuilder.stage": {
        "net: fc7 does not talk": ("name in self.net.exchanges", "name in self.net.exchanges and name != \"fc7\""),
    },
    "network.blocks:BlockedStage.backward": {
        "network: a worker's gradients lost": ("_add_gradients(self.stage, self._replica(worker, 0))", "pass"),
        "network: a block's gradients lost": ("if number > 0:", "if False:"),
    },
    "network.blocks:BlockedStage._replica": {
        "network: blocks share their gradients' memory": ("if number > 1 else device", "if number else device"),
    },
    "network.blocks:_add_gradients": {
        "network: gradients added twice": ("parameter.grad += summand.grad", "parameter.grad += 2 * summand.grad"),
    },
    "layers.layer:Parameter.replica": {
        "network: a replica has weights of its own": (
            "return twin",
            "twin._value, twin._owner = twin.value * 1.01, None; return twin",
        ),
    },
    "network.blocks:BlockedStage.forward": {
        "network: blocks forget where they begin": ("step.first + block.start", "step.first"),
    },
    "network.blocks:BlockedStage.shares": {
        "network: an image lost at the end of a share": (
            "share.start + block.stop)",
            "max(share.start + block.start + 1, share.start + block.stop - 1))",
        ),
    },
    "network.network:Network.predict": {
        "network: predicts with logits": ("self.loss.probabilities(logits)", "logits"),
    },
    "training.optimizer:sgd_update": {
        "update: momentum has the wrong sign": ("v *= momentum", "v *= -momentum"),
        "update: no momentum": ("v *= momentum", "v *= 0"),
        "update: uphill": ("v -= rate * g", "v += rate * g"),
        "update: no decay": ("np.ndim(decay) or decay", "False"),
        "update: decay grows the weights": ("v -= decay", "v += decay"),
        "update: Nesterov's momentum": ("w += v", "w += momentum * v - rate * g"),
    },
    "training.optimizer:Optimizer.update": {
        "update: biases decay": ("if parameter.kind == \"W\" else 0.0", ""),
        "update: decay without the rate": ("decay * own", "decay"),
        "update: layers have no decay of their own": (
            "_of(self.layer_weight_decay, parameter, self.weight_decay)",
            "self.weight_decay",
        ),
        "update: biases have the weights' rate": ("rate if bias_rate is None else bias_rate", "rate"),
        "update: lr_mult ignored": (" * _of(lr_mult or {}, parameter, 1.0)", ""),
    },
    "training.optimizer:Optimizer.update_each": {
        "update: every parameter has the net's momentum": ("own.momentum", "self.momentum"),
        "update: weights and biases are one": ("/{parameter.kind}", "/W"),
        "update: weight decay of its own without the rate": ("own.weight_decay * own.rate", "own.weight_decay"),
    },
    "training.optimizer:Optimizer._step": {
        "update: frozen layers decay": ("if own and ratios:", "own = own or 1e-3\n        if own and ratios:"),
    },
    "layers.cook_toom:cook_toom": {
        "winograd: denominators forgotten": ("[[value / s for value", "[[value for value"),
        "winograd: infinity sees the first coefficient": ("Fraction(j == size - 1)", "Fraction(j == 0)"),
    },
    "layers.winograd:WinogradConv2d.forward": {
        "winograd: bias forgotten": ("M[one] += self.b.value", "pass"),
        "winograd: rows and columns of a tile are swapped": (
            "y.transpose(2, 4, 1, 3, 0, 5)",
            "y.transpose(4, 2, 1, 3, 0, 5)",
        ),
        "winograd: every group is the first": (
            "U[i][..., outputs]",
            "U[i][..., : outputs.stop - outputs.start]",
        ),
    },
    "layers.winograd:WinogradConv2d.backward": {
        "winograd: bias gradient averaged": ("dM[one].sum(axis=0)", "dM[one].mean(axis=0)"),
        "winograd: gradient transformed as the input": (
            "self._combine(A, drows[i])",
            "self._combine(B.T[:, : len(A.T)], drows[i])",
        ),
        "winograd: weight gradient adds up": ("self.W.grad[...] =", "self.W.grad +="),
        "winograd: the first row's kernels everywhere": ("U[i][..., outputs].swapaxes", "U[0][..., outputs].swapaxes"),
    },
    "layers.winograd:WinogradConv2d.prepare": {
        "winograd: the kernels of the batch before": ("self.release()", "pass"),
    },
    "layers.winograd:WinogradConv2d._overlap": {
        "winograd: overlaps are written over": ("+= column", "= column"),
    },
    "layers.winograd:WinogradConv2d._images": {
        "winograd: rows in common are written over": ("+= lines", "= lines"),
    },
    "layers.winograd:WinogradConv2d._rows": {
        "winograd: windows without the padding": ("tile * m - before", "tile * m"),
    },
    "layers.winograd:WinogradConv2d._blocks": {
        "winograd: padding on one side only": ("p : p + inside.shape[1], p", "0 : inside.shape[1], p"),
        "winograd: blocks of pixels turned": ("transpose(1, 3, 0, 2, 4, 5)", "transpose(1, 3, 0, 4, 2, 5)"),
    },
    "training.schedule:rates": {
        "schedule: a phase one epoch late": ("phase.epoch <= epoch", "phase.epoch + 1 <= epoch"),
        "schedule: a phase begins just after its epoch": ("phase.epoch <= epoch", "phase.epoch < epoch or epoch == 0"),
        "schedule: biases' multiple forgotten": ("rate * learning.bias_rate", "rate"),
        "schedule: divided by 2": ("10**", "2**"),
        "schedule: no warm-up": ("if learning.warmup else 1.0", "if False else 1.0"),
        "schedule: half a cosine": ("math.pi * epoch", "math.pi / 2 * epoch"),
    },
    "training.schedule:plateaus": {
        "schedule: equal error is an improvement": ("error < best", "error <= best"),
        "schedule: patience one longer": ("stale == patience", "stale == patience + 1"),
    },
}
# fmt: on

MUTANTS = [Mutant(name, where, *texts) for where, bugs in PLACES.items() for name, texts in bugs.items()]


def plant(mutant, monkeypatch):
    """Put a mutant's text into its function, everywhere in the package, until the test ends."""
    module_name, _, path = mutant.where.partition(":")
    module = importlib.import_module(f"tinyalex.{module_name}")
    owner = module
    for part in path.split(".")[:-1]:
        owner = vars(owner)[part]
    name = path.split(".")[-1]
    original = vars(owner)[name]
    function = getattr(original, "__func__", original)
    source = textwrap.dedent(inspect.getsource(function))
    if (times := source.count(mutant.old)) != 1:
        raise LookupError(f"{mutant.name}: {mutant.old!r} is {times} times in {mutant.where}; bring it up to date")
    source = source.replace(mutant.old, mutant.new)
    if owner is not module:
        source = source.replace("super()", f"super({owner.__name__}, self)")
    made = {}
    exec(compile(source, f"<{mutant.name}>", "exec"), vars(module), made)
    if owner is not module:
        monkeypatch.setattr(owner, name, made[name])
        return
    for other in [each for key, each in sys.modules.items() if key.split(".")[0] == "tinyalex"]:
        for attribute, value in list(vars(other).items()):
            if value is original:
                monkeypatch.setattr(other, attribute, made[name])
