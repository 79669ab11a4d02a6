"""At points where a numerical derivative is hard to compute, right gradients pass and wrong ones fail."""

import numpy as np
import pytest

from tinyalex import gradcheck, layers
from tinyalex.cli import main
from tinyalex.gradcheck import cases
from tinyalex.gradcheck.slopes import Slopes

METHODS = ["complex", "central"]
WRONG = [1.01, 1.5, 7.0, 0.0, -1.0]  # what a gradient is multiplied by


class Elementwise:
    """y = f(x) and dx = dy f'(x), of which all elements or one can be multiplied by a factor."""

    def __init__(self, function, derivative, factor=1.0, element=slice(None)):
        self.function, self.derivative, self.factor, self.element = function, derivative, factor, element

    def forward(self, x):
        self.x = x.real
        return self.function(x)

    def backward(self, dy):
        dx = dy * self.derivative(self.x)
        dx[self.element] *= self.factor
        return dx


def above(x, limit=0.0):
    return x.real > limit


def relu(x, bend=0.0):
    return np.where(above(x, bend), x - bend, 0)


def tanh_slope(x):
    return 1 / np.cosh(np.clip(x, -300, 300)) ** 2


BENDS = (0.1, 0.10002, 0.1001)


def bent_three_times(x):
    return sum(relu(x, bend) for bend in BENDS)


def clipped(limit):
    return lambda x: np.where(above(x, limit), limit, np.where(above(x, -limit), x, -limit))


def cubic(x):
    return -3 * x**3 + 2 * x**2 + 1


FUNCTIONS = {  # function, derivative, points
    "tanh": (np.tanh, tanh_slope, [100, 0.5], [1000, 0.5], [1e-8, 0.5], [0, 0.3], [5, -3], [-1e-8], [1e-3, 1e6]),
    "relu": (relu, lambda x: x > 0, [1e4, 0.05], [1e8, 0.05], [1e-7, 1], [1e4, -0.05], [1e-20, 1], [1e-12, -1e-12, 1]),
    "log": (np.log, lambda x: 1 / x, [1e-3], [1e-3, 1], [1e-8, 1e3], [1e6, 1e-6]),
    "square root": (np.sqrt, lambda x: 0.5 / np.sqrt(x), [1e-3], [1e-8, 1], [1e6, 1e-9]),
    "square": (lambda x: x * x, lambda x: 2 * x, [1e4, 1e-4], [1e6, 1e-6], [1e-8, 1]),
    "cube": (lambda x: x**3, lambda x: 3 * x**2, [1e6, 1e-3], [1e2, 1e-2, 1]),
    "cubic": (cubic, lambda x: -9 * x**2 + 4 * x, [0.3, 1], [0, 0.7], [1e-8, 0.4]),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / x**2, [1e-4, 3], [1e4, -2]),
    "exponential": (np.exp, np.exp, [-20, 3], [50, -50]),
    "offset in y": (lambda x: 1e6 + np.tanh(x), tanh_slope, [0.5, -0.2], [1e-8, 0.3]),
    "offset in x": (lambda x: np.tanh(x - 1e6), lambda x: tanh_slope(x - 1e6), [1e6 + 0.3, 1e6 - 0.5]),
    "offset within": (lambda x: np.tanh((x + 1e6) - 1e6), lambda x: tanh_slope((x + 1e6) - 1e6), [0.3, -0.5]),
    "small scale": (lambda x: np.sin(1e8 * x) * 1e-8, lambda x: np.cos(1e8 * x), [1e-8, 3e-9]),
    "fast oscillation": (lambda x: np.sin(100 * x), lambda x: 100 * np.cos(100 * x), [0.3, 5, 100]),
    "oscillation near 0": (lambda x: x * np.sin(1 / x), lambda x: np.sin(1 / x) - np.cos(1 / x) / x, [1e-3, 0.2]),
    "softplus": (lambda x: np.log(1 + np.exp(x)), lambda x: 1 / (1 + np.exp(-x)), [-20, 0.5], [20, -5]),
    "leaky relu": (lambda x: np.where(above(x), x, 0.01 * x), lambda x: 0.01 + 0.99 * (x > 0), [1e4, -0.05]),
    "absolute value": (lambda x: np.where(above(x), x, -x), np.sign, [1e3, -0.01], [1e-7, -1]),
    "bend beside x": (lambda x: relu(x, 1), lambda x: x > 1, [1 + 1e-5, 2], [1 - 1e-5, 2], [1 + 1e-9, 2, 3]),
    "three bends": (bent_three_times, lambda x: sum(x > bend for bend in BENDS), [0.10003, 0.5], [0.10001, 0.2]),
    "bends on both sides": (clipped(1e-6), lambda x: abs(x) < 1e-6, [0, 5e-7, 1], [0]),
    "hard tanh": (clipped(1), lambda x: abs(x) < 1, [0.5, 1 - 1e-4, 2], [1 + 1e-6, 0.9]),
    "smooth once": (lambda x: np.where(above(x), x * x, -x * x), lambda x: 2 * abs(x), [0, 0.5], [1e-4, -2]),
    "own branch at 0": (lambda x: np.where(x.real == 0, 0, x), lambda x: 1 + 0 * x, [0, 0.3, -2]),
}  # fmt: skip
CASES = [(name, point) for name, (_, _, *points) in FUNCTIONS.items() for point in points]


def check(name, point, method, **wrong):
    function, derivative, *_ = FUNCTIONS[name]
    return gradcheck.check(Elementwise(function, derivative, **wrong), np.array(point, float), method=method)[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name, point", CASES)
def test_right_gradients_pass_and_wrong_ones_fail(name, point, method):
    result = check(name, point, method)
    assert not result.failed and not result.excused, result
    slopes = FUNCTIONS[name][1](np.array(point, float))
    elements = [slice(None), *np.flatnonzero(abs(slopes) > 1e-20)]
    for element in elements:
        for factor in WRONG:
            assert check(name, point, method, factor=factor, element=element).wrong, (element, factor)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["tanh", "relu", "log", "square root", "reciprocal", "exponential", "hard tanh"])
def test_an_error_of_5e_8_is_found_where_rounding_permits(name, method):
    for point in FUNCTIONS[name][2:]:
        assert check(name, point, method, factor=1 + 5e-8).wrong, point


@pytest.mark.parametrize("method", METHODS)
def test_a_stationary_point_is_smooth_and_excuses_nothing(method):
    for point in ([0.0], [0.0, 0.3]):
        assert not check("cubic", point, method).failed
        layer = Elementwise(cubic, lambda x: -9 * x**2 + 4 * x + 5e-8)
        (result,) = gradcheck.check(layer, np.array(point), method=method)
        assert result.wrong and not result.excused


@pytest.mark.parametrize("method", METHODS)
def test_right_gradients_too_small_for_the_outputs_to_show_pass(method):
    cases = [
        (np.tanh, lambda x: 1 - np.tanh(x) ** 2, [12, 17.5, 40, 0.5]),
        (lambda x: np.log(1 + np.exp(x)), lambda x: 1 / (1 + np.exp(-x)), [-30.66, -36, -50, 0.5]),
        (lambda x: 1 / (1 + np.exp(-x)), lambda x: 1 / (2 + np.exp(x) + np.exp(-x)), [30, 40, -40, 0.5]),
        (np.exp, np.exp, [-700, -50, 1]),
        (relu, lambda x: x > 0, [5e-324, 1e-300, 1, -2, 3]),
        (lambda x: 0 * x + 3, lambda x: 0 * x, [1, 2]),
    ]
    for function, derivative, point in cases:
        (result,) = gradcheck.check(Elementwise(function, derivative), np.array(point, float), method=method)
        assert not result.failed, result
        wrong = Elementwise(function, lambda x, derivative=derivative: derivative(x) + 1e-3)
        assert gradcheck.check(wrong, np.array(point, float), method=method)[0].wrong


def test_functions_without_complex_numbers():
    cases = {
        "cube root": (np.cbrt, lambda x: 1 / (3 * np.cbrt(x) ** 2), [1e-4, 1]),
        "steps": (lambda x: x + np.round(x), lambda x: 1 + 0 * x, [0.3, 1.2, 5.3]),
        "small steps": (lambda x: x + np.round(x, 3), lambda x: 1 + 0 * x, [0.3003, 1.2]),
        "float32 inside": (lambda x: np.tanh(x.astype("f4")).astype(float), tanh_slope, [0.3, 1e-3]),
    }
    for name, (function, derivative, point) in cases.items():
        x = np.array(point)
        (right,) = gradcheck.check(Elementwise(function, derivative), x, method="central")
        assert not right.failed and not right.excused, name
        for factor in WRONG:
            (wrong,) = gradcheck.check(Elementwise(function, derivative, factor), x, method="central")
            assert wrong.wrong == len(x), (name, factor)


def test_a_rounded_function_has_the_derivative_0():
    for digits in (0, 3):
        for derivative, failed in ((0, False), (1, True)):
            layer = Elementwise(lambda x, digits=digits: np.round(x, digits), lambda x, d=derivative: d + 0 * x)
            (result,) = gradcheck.check(layer, np.array([0.3003, 0.7]), method="central")
            assert result.failed == failed and not result.excused


@pytest.mark.parametrize("method", METHODS)
def test_one_wrong_element_of_a_parameter_is_found_at_any_scale(method):
    W = np.array([1e4, 1.0, 1e-4, 1e-8])
    x = np.array([[1e-3, 2.0, 300.0, 1.0], [-1e-3, 1.0, -500.0, 2.0]])

    class Squares:
        factor = np.ones(4)

        def forward(self, x):
            self.x = x
            return self.W**2 * x

        def backward(self, dy):
            self.dW = 2 * self.W * (dy * self.x).sum(axis=0) * self.factor
            return dy * self.W**2

    layer = Squares()
    layer.W = W
    assert [r.verdict for r in gradcheck.check(layer, x, parameters={"W": "dW"}, method=method)] == ["ok", "ok"]
    for element in range(4):
        for factor in WRONG:
            layer.factor = np.where(np.arange(4) == element, factor, 1.0)
            _, result = gradcheck.check(layer, x, parameters={"W": "dW"}, method=method)
            assert result.wrong == 1 and result.index == (element,), (element, factor)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_may_leave_the_domain_of_forward(method):
    def logarithm(x):
        if (x.real <= 0).any():
            raise ValueError("the logarithm of a negative number")
        return np.log(x)

    for factor in (1.0, *WRONG):
        (result,) = gradcheck.check(Elementwise(logarithm, lambda x: 1 / x, factor), np.array([1e-3, 1]), method=method)
        assert result.wrong == (2 if factor != 1 else 0) and not result.excused


@pytest.mark.parametrize("method", METHODS)
def test_the_edge_of_a_domain_is_excused_and_counted(method):
    layer = Elementwise(lambda x: x**1.5, lambda x: 1.5 * np.sqrt(x))
    (result,) = gradcheck.check(layer, np.array([0, 0.3, 2]), method=method)
    assert result.verdict == "not measurable here (1 of 3)"


# Kinks at the point itself.


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("slope, allowed", [
    (0, True), (0.3, True), (1, True), (-0.01, False), (1.01, False), (1.5, False), (7, False), (-1, False),
])  # fmt: skip
def test_at_a_kink_the_slopes_of_both_sides_and_those_between_are_excused(slope, allowed, method):
    layer = Elementwise(relu, lambda x: np.where(x == 0, slope, x > 0))
    (result,) = gradcheck.check(layer, np.array([0, 0.5, -0.5]), method=method)
    assert result.failed == (not allowed) and result.nondifferentiable == allowed


@pytest.mark.parametrize("method", METHODS)
def test_equal_maxima_excuse_no_multiple_of_the_gradient(method):
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    x[0, 0, 0] = x[0, 1, 1] = 9.0
    for factor in (1.0, *WRONG):
        layer = layers.MaxPool(2, 2)
        layer.backward = lambda dy, factor=factor, layer=layer: factor * layers.MaxPool.backward(layer, dy)
        (result,) = gradcheck.check(layer, x, method=method)
        assert result.failed == (factor != 1) and result.excused == 2 - result.failed * (factor not in (0, 1)), factor


@pytest.mark.parametrize("method", METHODS)
def test_a_small_kink_is_counted_too(method):
    layer = Elementwise(lambda x: np.where(above(x), x, 0.999 * x), lambda x: np.where(x > 0, 1, 0.999))
    (result,) = gradcheck.check(layer, np.array([0, 0.5, -0.5]), method=method)
    assert result.verdict == "not differentiable here (1 of 3)"


@pytest.mark.parametrize("method", METHODS)
def test_where_two_kinks_cancel_the_function_is_differentiable(method):
    """relu(x) - relu(-x) = x, but the chain rule with relu'(0) = 0 gives 0 at 0."""
    for derivative, failed in ((lambda x: 1 + 0 * x, False), (lambda x: 1.0 * (x != 0), True)):
        layer = Elementwise(lambda x: relu(x) - relu(-x), derivative)
        (result,) = gradcheck.check(layer, np.array([0, 0.5, -0.5]), method=method)
        assert result.failed == failed and not result.excused


# What is excused is counted, and too much of it fails.


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_with_more_than_half_of_its_elements_excused_is_not_checked(method):
    for zeros, failed in ((1, False), (2, False), (3, True), (4, True)):
        x = np.array([0.0] * zeros + [1.0] * (4 - zeros))
        (result,) = gradcheck.check(layers.ReLU(), x, method=method)
        assert (result.failed, result.excused, result.wrong) == (failed, zeros, 0)
        text = gradcheck.table([result])
        assert f"not differentiable here ({zeros} of 4)" in text
        assert text.endswith(f"4 derivatives, {zeros} of them excused")
        assert ("1 of 1 tensors NOT CHECKED" in text) == ("NOT CHECKED" in result.verdict) == failed
        assert ("no error" in text) != failed


def test_the_command_returns_1_if_a_tensor_is_not_checked(capsys, monkeypatch):
    for size, code in ((1.0, 0), (0.0, 1)):
        monkeypatch.setitem(cases.CASES, "relu", [cases._Case("relu", layers.ReLU, (2, 3), size)])
        assert main(["gradcheck", "relu"]) == code
        assert ("1 of 1 tensors NOT CHECKED, 6 derivatives, 6 of them excused" in capsys.readouterr().out) == bool(code)


def test_what_rounding_hides_is_excused_and_counted():
    (result,) = gradcheck.check(
        Elementwise(lambda x: 1e12 + x, lambda x: 1 + 0 * x), np.array([0.3, 0.7]), method="central"
    )
    assert result.failed and result.verdict == "NOT CHECKED: not measurable here (2 of 2)"


@pytest.mark.parametrize("method", METHODS)
def test_error_bars_contain_the_true_derivative(method):
    """Against closed forms, at 300 random points from 1e-9 to 50, and none of the bars is large."""
    generator = np.random.default_rng(0)
    for function, derivative in (
        (np.tanh, tanh_slope),
        (np.log, lambda x: 1 / x),
        (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    ):
        x = 10 ** generator.uniform(-9, 1.7, 300)
        if function is np.tanh:
            x = np.minimum(x, 5)  # beyond, rounding exceeds the derivative
        slopes = Slopes(x, function, np.ones(300), method, tolerance=1e-9, chunk=100)
        with np.errstate(all="ignore"):
            estimate, _, bar, measured, kinks = slopes.bracket(np.arange(300))
        assert measured.all() and not kinks.any()
        assert (abs(estimate - derivative(x)) <= bar + 1e-13 * abs(derivative(x))).all()
        assert (bar <= 1e-6 * derivative(x)).all()
