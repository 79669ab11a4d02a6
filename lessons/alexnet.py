"""AlexNet (Krizhevsky, Sutskever and Hinton, 2012) on one page: forward, backward and training, in NumPy alone.

`python lessons/alexnet.py [IMAGES [EPOCHS]]` draws images, trains a small AlexNet on them and tests it: about a minute.
§ are the paper's sections. n images of h x w pixels and c channels are an array (n, h, w, c). L is the loss, and dx is
short for dL/dx. A layer takes x and returns two things: y, and a function `backward` that takes dy and returns dx.
"""

import sys

import numpy as np

# fmt: off
rng = np.random.default_rng(2012)

class Linear:                                                           # y = x W + b: every output sees every input
    def __init__(self, inputs, outputs):
        self.W = rng.standard_normal((inputs, outputs), np.float32) * (2 / inputs)**0.5  # He's; §5 has 0.01,
        self.b = np.zeros(outputs, np.float32)                          # and b = 1 in some layers
        self.vW = self.vb = 0.0                                         # velocities
    def __call__(self, x, training):                                    # (n, ...) -> (n, outputs)
        rows = x.reshape(len(x), -1)
        def backward(dy):  # y = x W + b:  dW = x' dy,  db = sum of dy over its rows,  dx = dy W'
            self.dW, self.db = rows.T @ dy, dy.sum(axis=0)
            return (dy @ self.W.T).reshape(x.shape)
        return rows @ self.W + self.b, backward
    def update(self, rate):  # §5:  v := 0.9 v - 0.0005 rate w - rate dw,  w := w + v;  biases do not decay
        self.vW = 0.9 * self.vW - 0.0005 * rate * self.W - rate * self.dW
        self.vb = 0.9 * self.vb - rate * self.db
        self.W, self.b = self.W + self.vW, self.b + self.vb

def windows(x, k, stride):
    """Cut images into windows of k x k pixels, one every `stride` pixels: (n, h, w, c) -> (n, ho, wo, k k, c)."""
    h, w = x.shape[1] - k + 1, x.shape[2] - k + 1                       # rows and columns where a window can begin
    pixels = [np.s_[:, u:u + h:stride, v:v + w:stride] for u in range(k) for v in range(k)]
    def backward(dy):  # a pixel is in several windows:  dx = sum of dy over them
        dx = np.zeros_like(x)
        for i in range(k * k):
            dx[pixels[i]] += dy[:, :, :, i]
        return dx
    return np.stack([x[each] for each in pixels], axis=3), backward

class Convolution(Linear):                                              # §3.5: the same linear layer for every window
    def __init__(self, channels, maps, k, stride=1, pad=0):
        super().__init__(k * k * channels, maps)
        self.k, self.stride, self.pad = k, stride, pad
    def __call__(self, x, training):                                    # (n, h, w, channels) -> (n, ho, wo, maps)
        (_, h, w, _), p = x.shape, self.pad
        patches, windows_backward = windows(np.pad(x, ((0, 0), (p, p), (p, p), (0, 0))), self.k, self.stride)
        y, linear_backward = super().__call__(patches.reshape(-1, len(self.W)), training)
        def backward(dy):  # y = linear(windows(padded x)):  dx = dy back through each of them
            dpatches = linear_backward(dy.reshape(y.shape)).reshape(patches.shape)
            return windows_backward(dpatches)[:, p:p + h, p:p + w]
        return y.reshape(*patches.shape[:3], -1), backward

def relu(x, training):                                                  # §3.1: y = max(0, x)
    return np.maximum(x, 0), lambda dy: dy * (x > 0)                    # dx = dy where x > 0, and 0 elsewhere

def normalize(x, training, k=2, alpha=1e-4, beta=0.75):
    """y_i = x_i / d_i^beta,  d_i = k + alpha (sum of x_j^2 over map i and the two maps on either side)  (§3.3)."""
    def neighbours(a):
        padded = np.pad(a, ((0, 0), (0, 0), (0, 0), (2, 2)))
        return sum(padded[..., i:i + a.shape[-1]] for i in range(5))
    d = k + alpha * neighbours(x * x)
    def backward(dy):  # dx_j = dy_j / d_j^beta - 2 alpha beta x_j (sum of dy_i x_i / d_i^(beta + 1) over neighbours i)
        return dy / d**beta - 2 * alpha * beta * x * neighbours(dy * x / d**(beta + 1))
    return x / d**beta, backward

def max_pool(x, training):
    """Take the largest of 3 x 3 pixels, every 2 pixels: windows overlap  (§3.4)."""
    pixels, windows_backward = windows(x, 3, 2)                         # (n, ho, wo, 9, c)
    winner = np.arange(9)[:, None] == pixels.argmax(axis=3, keepdims=True)  # one True in 9
    def backward(dy):  # dx = dy for the largest pixel, the first of several, and 0 for the others
        return windows_backward(dy[:, :, :, None] * winner)
    return pixels.max(axis=3), backward

def dropout(x, training):
    """y = m x:  in training m is 0 for a random half of the units and 1 for the rest; in testing it is 0.5  (§4.2)."""
    m = rng.random(x.shape) < 0.5 if training else 0.5
    return x * m, lambda dy: dy * m                                     # dx = m dy

def exchange(xs):                                                       # §3.2: each column reads the maps of both
    return [np.concatenate(xs, axis=-1)] * 2, lambda dys: np.split(sum(dys), 2, axis=-1)  # dx = sum of both readers' dy

def columns(layers, xs, training):                                      # one layer a column, on the column's own maps
    ys, backwards = zip(*[layer(x, training) for layer, x in zip(layers, xs, strict=False)], strict=True)
    return ys, lambda dys: [backward(dy) for backward, dy in zip(backwards, dys, strict=True)]

def alexnet(side=227, k=11, stride=4, maps=(96, 256, 384, 384, 256), hidden=4096, classes=1000):
    """Describe the net (§3.5, Figure 2) as a list of steps: a layer for each column, or an exchange between them."""
    def two(kind, *sizes):
        return [kind(*sizes), kind(*sizes)]
    m1, m2, m3, m4, m5 = (count // 2 for count in maps)                 # of a column
    last = (((side - k) // stride // 2 - 1) // 2 - 1) // 2              # side of the maps: 55, 27, 13, at last 6
    return [two(Convolution, 3, m1, k, stride), [relu] * 2, [normalize] * 2, [max_pool] * 2,
            two(Convolution, m1, m2, 5, 1, 2), [relu] * 2, [normalize] * 2, [max_pool] * 2,
            exchange, two(Convolution, 2 * m2, m3, 3, 1, 1), [relu] * 2,
            two(Convolution, m3, m4, 3, 1, 1), [relu] * 2,
            two(Convolution, m4, m5, 3, 1, 1), [relu] * 2, [max_pool] * 2,
            exchange, two(Linear, 2 * m5 * last**2, hidden // 2), [relu] * 2, [dropout] * 2,
            exchange, two(Linear, hidden, hidden // 2), [relu] * 2, [dropout] * 2,
            exchange, [Linear(hidden, classes)]]                        # one layer, which reads both columns

def forward(net, images, training):
    xs, backwards = [images, images], []                                # both columns see the images
    for step in net:
        xs, backward = exchange(xs) if step is exchange else columns(step, xs, training)
        backwards.append(backward)
    return xs[0], backwards                                             # logits (n, classes), and the way back

def softmax_loss(logits, labels):
    """L = mean of -log p[right class],  p = softmax(logits)  (§3.5)."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))              # (n, classes)
    p /= p.sum(axis=1, keepdims=True)
    right = np.arange(p.shape[1]) == labels[:, None]                    # one True a row
    return -np.log(p[right]).mean(), (p - right) / len(p)               # dlogits = (p - [right class]) / n

def learn(net, images, labels, rate):
    """Take one step of gradient descent; return the loss."""
    logits, backwards = forward(net, images, training=True)
    loss, dlogits = softmax_loss(logits, labels)
    dys = [dlogits]
    for backward in reversed(backwards):
        dys = backward(dys)
    for layer in [layer for step in net if step is not exchange for layer in step if isinstance(layer, Linear)]:
        layer.update(rate)
    return loss

def draw(count, side):
    """Draw striped images: the stripes run in one of 4 directions and are red or blue, which makes 8 classes."""
    labels = rng.integers(8, size=(count, 1, 1, 1))
    turn, colour = np.pi / 4 * (labels // 2), np.where(labels % 2, [1, 0, -1], [-1, 0, 1])
    width, start, light = (rng.uniform(low, high, labels.shape) for low, high in ((4, 8), (0, 1), (-1, 1)))
    y, x, _ = np.ogrid[:side, :side, :1]
    stripes = np.sin(2 * np.pi * ((x * np.cos(turn) + y * np.sin(turn)) / width + start)) > 0
    images = light + stripes * colour + rng.normal(0, 0.4, (count, side, side, 3))
    return images.astype(np.float32), labels.ravel()

def main(count=2000, epochs=6, side=33):
    images, labels = draw(count + 500, side)                            # the last 500 are for the test
    images -= images[:count].mean(axis=0)                               # §2
    net = alexnet(side, k=5, stride=2, maps=(16, 32, 32, 32, 32), hidden=256, classes=8)
    for epoch in range(1, epochs + 1):
        rate = 0.02 if epoch < 0.8 * epochs else 0.002                  # §5 divides it by 10; before, errors may jump
        batches = np.array_split(rng.permutation(count), count // 32 + 1)
        losses = [learn(net, images[batch], labels[batch], rate) for batch in batches]
        wrong = forward(net, images[count:], training=False)[0].argmax(axis=1) != labels[count:]
        print(f"epoch {epoch}: loss {np.mean(losses):.3f}, test error {wrong.mean():.1%} (guessing: {7 / 8:.1%})")

if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
