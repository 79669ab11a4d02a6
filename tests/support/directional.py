"""Gradients of a whole network along random directions: one forward pass a parameter, exact by the complex step."""

import numpy as np

from tinyalex.randomness import key, normal

H = 1e-30


def wrong_gradients(network, images, labels, step, tolerance=1e-10):
    """Return ``{parameter: (gradient, numerical derivative)}`` of the parameters whose gradient is wrong.

    Both are taken along a random direction, by which a wrong element shows. The network is in float64 on the CPU.
    """
    network.loss_and_backward(images, labels, training=True, step=step)
    parameters = network.parameters()
    values, gradients = [p.value for p in parameters], [p.grad.copy() for p in parameters]
    wrong = {}
    try:
        for number, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            direction = normal(key(number, "direction"), np.arange(parameter.size)).reshape(parameter.shape)
            for each, value in zip(parameters, values, strict=True):
                each.value = value + 1j * H * direction if each is parameter else value.astype(complex)
            logits = network.forward(images.astype(complex), training=True, step=step)
            numeric = network.loss.forward(logits, labels).imag / H
            analytic = float((gradient * direction).sum())
            if not abs(analytic - numeric) <= tolerance * np.abs(gradient * direction).sum() or numeric == 0:
                wrong[f"{parameter.names[0]}/{parameter.kind}"] = analytic, float(numeric)
    finally:
        for each, value in zip(parameters, values, strict=True):
            each.value = value
    return wrong
