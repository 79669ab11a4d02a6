"""Layers whose output is not a function of their input are refused: they have no derivative to compare with."""

import numpy as np
import pytest

from tests.support.layer_cases import noise
from tinyalex import gradcheck, layers
from tinyalex.errors import UsageError
from tinyalex.gradcheck import cases
from tinyalex.network import alexnet
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.recipes.settings import Init

METHODS = ["complex", "central"]
FIX = r"draw its random numbers from the step, .* check with training=True, step=Step\(seed, number\)"


class Scaled:
    """y = s x; the gradient is multiplied by a factor. Each subclass computes s in its own way."""

    def __init__(self, factor):
        self.factor, self.calls, self.cached, self.last, self.mean = factor, 0, None, None, 0.0
        self.generator = np.random.default_rng(0)

    def forward(self, x):
        self.calls += 1
        self.scale = self.scale_for(x)
        return x * self.scale

    def backward(self, dy):
        return self.factor * dy * self.scale


class NewMask(Scaled):
    def scale_for(self, x):
        return 1.0 * (self.generator.random(x.shape) < 0.5)


class MaskEveryTenCalls(Scaled):
    def scale_for(self, x):
        if self.calls % 10 == 1:
            self.mask = 1.0 * (self.generator.random(x.shape) < 0.5)
        return self.mask


class Counter(Scaled):
    def scale_for(self, x):
        return self.calls


class LateCounter(Scaled):
    def scale_for(self, x):
        return 1 + (self.calls > 15)


class RunningMean(Scaled):
    def scale_for(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.real.mean()
        return 1 + self.mean


class InputBefore(Scaled):
    def scale_for(self, x):
        before, self.last = self.last, x.real.mean()
        return 1.0 if before is None else before


class CountsBackward(Scaled):
    number = 1

    def scale_for(self, x):
        return self.number

    def backward(self, dy):
        self.number += 1
        return super().backward(dy)


class CachedOutput(Scaled):
    def forward(self, x):
        self.scale = 1
        if self.cached is None:
            self.cached = x + 0j
        return self.cached.astype(x.dtype) if x.dtype.kind == "c" else self.cached.real


@pytest.mark.parametrize("factor", [1.0, 7.0])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", [
    NewMask, MaskEveryTenCalls, Counter, LateCounter, RunningMean, InputBefore, CountsBackward, CachedOutput
])  # fmt: skip
def test_random_layers_and_layers_with_state_are_refused(layer, method, factor):
    with pytest.raises(
        UsageError, match=f"^{layer.__name__}: forward gives different outputs for the same input .*{FIX}"
    ):
        gradcheck.check(layer(factor), noise(3, 5), method=method)


@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_a_mask_drawn_from_the_step_is_checked(factor):
    class Mask(layers.Dropout):
        def backward(self, dy):
            return factor * super().backward(dy)

    (result,) = gradcheck.check(Mask(0.5, "fc6"), noise(3, 5), training=True, step=Step(0, 3))
    assert result.failed == (factor != 1) and not result.excused
    with pytest.raises(UsageError, match=r"pass step=Step\(seed, number\)"):
        gradcheck.check(Mask(0.5, "fc6"), noise(3, 5), training=True)


def test_a_forward_that_computes_something_else_with_complex_numbers_is_refused():
    class Noisy(Scaled):
        def scale_for(self, x):
            return self.generator.random(x.shape) if x.dtype.kind == "c" else 1.0

    with pytest.raises(UsageError, match="another output if x is complex; .*method='central'"):
        gradcheck.check(Noisy(1.0), noise(3, 5))
    assert gradcheck.check(Noisy(1.0), noise(3, 5), method="central")[0].verdict == "ok"


def test_images_that_are_not_alone_are_refused():
    class Centred:
        def forward(self, x):
            return x - x.mean(axis=0)

        def backward(self, dy):
            return dy - dy.mean(axis=0)

    assert gradcheck.check(Centred(), noise(4, 3))[0].verdict == "ok"
    with pytest.raises(UsageError, match="an output depends on other rows of x; check with images_alone=False"):
        gradcheck.check(Centred(), noise(4, 3), images_alone=True)


@pytest.mark.parametrize("culprit", ["forward", "backward"])
def test_parameters_that_a_pass_changes_are_refused(culprit):
    class Learning:
        def __init__(self):
            self.W = np.ones(5)

        def forward(self, x):
            self.x, used = x, self.W
            if culprit == "forward":
                self.W = 0.99 * self.W
            return x * used

        def backward(self, dy):
            self.dW, dx = (dy * self.x).sum(axis=0), dy * self.W
            if culprit == "backward":
                self.W = self.W - 0.1 * self.dW
            return dx

    for method in METHODS:
        with pytest.raises(UsageError, match=f"{culprit} changes W|different outputs for the same input"):
            gradcheck.check(Learning(), noise(3, 5), parameters={"W": "dW"}, method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_views_and_buffers_that_are_used_again_change_no_verdict(method, factor):
    class View:
        def forward(self, x):
            return x[:, ::2]

        def backward(self, dy):
            dx = np.zeros((3, 5))
            dx[:, ::2] = factor * dy
            return dx

    class Buffers:
        def __init__(self):
            self.y, self.dx = {}, np.empty((3, 5))

        def forward(self, x):
            self.x = x
            return np.multiply(x, x, out=self.y.setdefault(x.dtype, np.empty(x.shape, x.dtype)))

        def backward(self, dy):
            return np.multiply(2 * factor * dy, self.x, out=self.dx)

    for layer in (View(), Buffers()):
        (result,) = gradcheck.check(layer, noise(3, 5), method=method)
        assert result.failed == (factor != 1) and not result.excused


def test_backward_may_not_change_what_it_was_given():
    class OverX:
        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, dy):
            self.x *= 2
            return dy * self.x

    with pytest.raises(UsageError, match="backward changes its argument"):
        gradcheck.check(OverX(), noise(3, 5))


@pytest.mark.parametrize("method", METHODS)
def test_every_run_of_backward_has_to_be_right_and_proportional_to_dy(method):
    class Sometimes:
        def __init__(self, wrong_run):
            self.run, self.wrong_run = 0, wrong_run

        def forward(self, x):
            return 1 * x

        def backward(self, dy):
            self.run += 1
            return dy * (1.3 if self.run == self.wrong_run else 1)

    class Clipped(Sometimes):
        def backward(self, dy):
            return np.clip(dy, -1.5, 1.5)

    for layer in (Sometimes(1), Sometimes(2), Clipped(0)):
        assert gradcheck.check(layer, noise(3, 5), method=method)[0].wrong
    assert not gradcheck.check(Sometimes(0), noise(3, 5), method=method)[0].failed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_not_finite_is_refused(value):
    class Broken(Scaled):
        def scale_for(self, x):
            return value

    with pytest.raises(UsageError, match="forward's output for x is not finite"):
        gradcheck.check(Broken(1.0), noise(3, 5))


@pytest.mark.parametrize("culprit", ["forward", "backward"])
def test_changing_an_argument_on_a_device_is_refused(culprit):
    class Negated(layers.ReLU):
        def forward(self, x, training=False, step=None):
            y = 2 * x
            if culprit == "forward":
                x *= 2
            return y

        def backward(self, dy):
            dx = 2 * dy
            if culprit == "backward":
                dy *= 2
            return dx

    from tinyalex.devices.device import Device

    layer = Negated().build(Device("fake:0"), dtype="float64")
    with pytest.raises(UsageError, match=f"{culprit} changes its argument"):
        gradcheck.check(layer, noise(3, 5))


def test_a_network_with_a_random_layer_is_refused(monkeypatch):
    net = alexnet.build(cases.small(recipe.load("cifar10-relu").net), Init({"default": "he"}), ["cpu"], dtype="float64")
    generator, forward = np.random.default_rng(0), layers.ReLU.forward

    def noisy(self, x, **options):
        return forward(self, x, **options) * (1 + 0.1 * generator.random())

    monkeypatch.setattr(layers.ReLU, "forward", noisy)
    with pytest.raises(UsageError, match=f"^net: forward gives different outputs for the same input .*{FIX}"):
        gradcheck.check_network(net, noise(2, 12, 12, 3), np.array([3, 8]), inputs=False)
