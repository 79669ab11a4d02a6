"""Every layer against the reference implementation; dtypes, unmodified arguments and error messages."""

import numpy as np
import pytest

from tests.support import shim
from tests.support.layer_cases import (
    CASES,
    STEP,
    agrees_with_its_twin,
    close,
    keeps_dtype,
    leaves_its_arguments,
    noise,
    repeats_itself,
)
from tinyalex import layers
from tinyalex.devices.device import Device
from tinyalex.errors import ShapeError
from tinyalex.layers import loops
from tinyalex.layers.patches import col2im, im2col, positions
from tinyalex.randomness import Step


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_layer_matches_the_reference_implementation(case, device):
    agrees_with_its_twin(case, device)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_in_is_dtype_out(case, device, dtype):
    keeps_dtype(case, device, dtype)


def test_arguments_are_untouched(case, device):
    leaves_its_arguments(case, device)


def test_second_call_gives_the_same_result(case, device):
    repeats_itself(case, device)


def test_arguments_need_not_be_contiguous(case, device):
    layer, x = case.build(device), case.x()
    expected, dy = case.run(layer, x)

    def strided(array):
        # The same numbers, one apart in memory along the last axis and back to front along the first.
        wide = device.put(np.repeat(array[::-1], 2, axis=-1))
        return wide[::-1, ..., ::2]

    y = layer.forward(strided(x), **case.options)
    dx = layer.backward(strided(dy))
    np.testing.assert_allclose(device.get(y), expected["y"], rtol=0, atol=1e-14 * np.abs(expected["y"]).max())
    np.testing.assert_allclose(device.get(dx), expected["dx"], rtol=0, atol=1e-14 * np.abs(expected["dx"]).max())


def test_backward_without_a_forward_raises(case, device):
    layer, x = case.build(device), case.x()
    got, dy = case.run(layer, x)
    with pytest.raises(RuntimeError, match="layer: backward needs a forward before it"):
        layer.backward(device.put(dy))


def test_float32_agrees_with_float64(case, device):
    x = case.x("float32")
    single, dy = case.run(case.build(device, "float32"), x)
    layer = case.build(device)
    for parameter in layer.parameters:  # the same, rounded, values
        parameter.value = device.put(device.get(parameter.value).astype("float32").astype("float64"))
    double, _ = case.run(layer, x.astype("float64"), dy.astype("float64"))
    for name, expected in double.items():
        assert np.abs(single[name] - expected).max() <= 2e-6 * np.abs(expected).max(), name


def mixed(case, device, x_dtype, dy_dtype):
    layer, x = case.build(device, x_dtype), case.x(x_dtype)
    dy = noise(*device.get(layer.forward(device.put(x), **case.options)).shape, purpose="dy").astype(dy_dtype)
    return case.run(layer, x, dy)[0], dy


@pytest.mark.parametrize(("x_dtype", "dy_dtype"), [("float32", "float64"), ("float64", "float32")])
@pytest.mark.parametrize("name", ["cpu", "fake:0"])
def test_backward_takes_the_form_of_forward_whatever_the_type_of_dy(case, name, x_dtype, dy_dtype):
    with Device(name) as device:
        got, dy = mixed(case, device, x_dtype, dy_dtype)
    with Device("cpu", kernels=False) as readable:
        layer = case.build(readable)
        for parameter in layer.parameters:  # the same, rounded, values
            parameter.value = parameter.value.astype(x_dtype).astype("float64")
        expected, _ = case.run(layer, case.x(x_dtype).astype("float64"), dy.astype("float64"))
    for name, value in expected.items():
        close(name, got[name], value, 1e-5)


@pytest.mark.parametrize(
    "label", [label for label in CASES if label.startswith(("conv", "lrn", "spatial", "max", "avg"))]
)
def test_gpu_kernels_refuse_a_dy_of_another_type_than_x(label):
    with shim.device("kernels") as device:
        message = r"^layer: got dy in float64, wants float32, which x was: use dy.astype\('float32'\)$"
        with pytest.raises(ShapeError, match=message):
            mixed(CASES[label], device, "float32", "float64")


def test_a_layer_in_a_sum_of_inputs_says_which_it_is():
    with shim.device("kernels") as device, pytest.raises(ShapeError, match=r"^layer\.0: got dy in float64, wants"):
        mixed(CASES["sum of convs of one size"], device, "float32", "float64")


def test_replica_does_not_share_saved_state():
    layer = layers.ReLU()
    layer.forward(np.ones((2, 3)))
    with pytest.raises(RuntimeError, match="ReLU: backward needs a forward before it"):
        layer.replica().backward(np.ones((2, 3)))


def test_default_settings_of_layers():
    pool = layers.MaxPool()
    assert (pool.window, pool.stride, pool.rounding, layers.Dropout().p) == (3, 2, "ceil", 0.5)
    for make in (lambda: layers.Conv2d(3, 4, 3), lambda: layers.Linear(5, 4)):
        layer = make().build()
        assert not layer.b.value.any()
        np.testing.assert_array_equal(layer.W.value, make().build(seed=0).W.value)


# Convolution.


def test_default_stride_and_padding_of_patches(device):
    with device:
        x = device.put(noise(2, 5, 6, 3))
        patches = device.get(im2col(device, x, 3))
        assert patches.shape == (2 * 3 * 4, 3 * 3 * 3)
        np.testing.assert_array_equal(patches, device.get(im2col(device, x, 3, 1, 0, "floor")))
        added = (device.get(col2im(device, device.put(patches), x.shape, 3, *more)) for more in ((), (1, 0, "floor")))
        np.testing.assert_array_equal(*added)


@pytest.mark.parametrize(("side", "rounding"), [(224, "ceil"), (227, "floor"), (227, "ceil")])
def test_55_positions_on_224_and_227_pixels(side, rounding):
    assert layers.Conv2d(3, 96, 11, stride=4, rounding=rounding).output_shape((side, side, 3)) == (55, 55, 96)


def test_224_rounded_down_is_54():
    assert layers.Conv2d(3, 96, 11, stride=4).output_shape((224, 224, 3)) == (54, 54, 96)


def test_positions_agree_with_the_reference_implementation():
    for size in range(1, 20):
        for window in range(1, 6):
            for stride in range(1, 5):
                for pad in range(3):
                    for rounding in ("floor", "ceil"):
                        if size + 2 * pad >= window:
                            walked = loops.convolution.positions(size, window, stride, pad, rounding)
                            assert positions(size, window, stride, pad, rounding) == walked


def test_no_input_gradient_if_switched_off(device):
    case = CASES["conv 3x3 pad 1"]
    expected, dy = case.run(case.build(device), case.x())
    layer = case.build(device)
    layer.input_gradient = False
    layer.forward(device.put(case.x()))
    assert layer.backward(device.put(dy)) is None
    np.testing.assert_array_equal(device.get(layer.W.grad), expected["dW"])
    np.testing.assert_array_equal(device.get(layer.b.grad), expected["db"])


def test_groups_are_one_convolution_with_blocks_of_zeros(device):
    case = CASES["conv 5x5 pad 2 groups 2"]
    grouped = case.build(device)
    W, b, x = device.get(grouped.W.value), device.get(grouped.b.value), case.x()
    whole = layers.Conv2d(4, 6, 5, pad=2).build(device, dtype="float64")
    blocks = np.zeros((5, 5, 4, 6))
    blocks[:, :, :2, :3], blocks[:, :, 2:, 3:] = W[..., :3], W[..., 3:]
    whole.W.value, whole.b.value = device.put(blocks), device.put(b)
    y = device.get(grouped.forward(device.put(x)))
    np.testing.assert_allclose(device.get(whole.forward(device.put(x))), y, rtol=0, atol=1e-13)


# Pooling.


def test_max_pool_gives_the_gradient_to_the_first_maximum(device):
    x = np.zeros((1, 5, 5, 1))
    x[0, 1, 1] = x[0, 1, 2] = x[0, 2, 0] = 3.0
    layer = layers.MaxPool(3, 2).build(device)
    layer.forward(device.put(x))
    dy = noise(1, 2, 2, 1)
    dx = device.get(layer.backward(device.put(dy)))
    np.testing.assert_array_equal(dx, loops.max_pool_backward(dy, x))
    winners = {(1, 1): dy[0, 0, 0], (1, 2): dy[0, 0, 1], (2, 0): dy[0, 1, 0], (2, 2): dy[0, 1, 1]}
    assert all(dx[0, row, column] == value for (row, column), value in winners.items())


def test_max_pool_with_many_ties_matches_the_reference(device):
    x = np.round(noise(2, 7, 6, 3))  # few values, many ties
    dy = noise(2, 3, 3, 3)
    layer = layers.MaxPool(3, 2).build(device)
    y = device.get(layer.forward(device.put(x)))
    np.testing.assert_array_equal(y, loops.max_pool(x))
    assert_close = np.testing.assert_allclose
    assert_close(device.get(layer.backward(device.put(dy))), loops.max_pool_backward(dy, x), rtol=0, atol=1e-14)


def test_max_pool_window_of_more_than_256_pixels():
    x = np.zeros((1, 300, 300, 1))
    x[0, 290, 299] = 1.0
    layer = layers.MaxPool(300, 2)
    assert layer.forward(x).item() == 1.0
    np.testing.assert_array_equal(layer.backward(np.full((1, 1, 1, 1), 5.0)), 5 * x)


def test_average_of_a_clipped_window(device):
    x = np.full((1, 6, 6, 2), 7.0)
    y = device.get(layers.AvgPool(3, 2).build(device).forward(device.put(x)))
    np.testing.assert_allclose(y, np.full((1, 3, 3, 2), 7.0), rtol=1e-15)


# Nonlinearity, normalization.


def test_relu_gradient_at_zero_is_zero(device):
    layer = layers.ReLU().build(device)
    layer.forward(device.put(np.array([[0.0, -0.0, 1.0]])))
    assert device.get(layer.backward(device.put(np.array([[1.0, 1.0, 1.0]])))).tolist() == [[0.0, 0.0, 1.0]]


def test_constants_of_the_paper_and_of_2012():
    lrn, spatial = layers.LRN(), layers.SpatialNorm()
    assert (lrn.k, lrn.size, lrn.alpha, lrn.beta) == (2.0, 5, 1e-4, 0.75)
    assert layers.LRN(average=True).alpha == 2e-5
    assert (spatial.k, spatial.size, spatial.alpha, spatial.beta) == (1.0, 5, 1e-3 / 25, 0.75)


def test_lrn_windows_stay_inside_their_column(device):
    x = noise(2, 3, 3, 8)
    both = device.get(layers.LRN(alpha=1.0, groups=2).build(device).forward(device.put(x)))
    for half in (slice(0, 4), slice(4, 8)):
        alone = device.get(layers.LRN(alpha=1.0).build(device).forward(device.put(x[..., half])))
        np.testing.assert_array_equal(both[..., half], alone)


# Dropout.


def mask(device, n=64, m=512, step=STEP, **options):
    layer = layers.Dropout(**{"p": 0.5, "stream": "fc6"} | options).build(device)
    return device.get(layer.forward(device.put(np.ones((n, m))), training=step is not None, step=step))


def test_dropout_zeroes_half_the_units_and_keeps_the_rest(device):
    y = mask(device)
    assert set(np.unique(y)) == {0.0, 1.0}
    assert abs(y.mean() - 0.5) < 5 * 0.5 / y.size**0.5
    assert abs(mask(device, p=0.2).mean() - 0.8) < 5 * 0.4 / y.size**0.5


def test_dropout_at_test_scales_by_one_half(device):
    np.testing.assert_array_equal(mask(device, step=None), np.full((64, 512), 0.5))


def test_dropout_masks_are_independent(device):
    masks = {
        "this": mask(device),
        "next step": mask(device, step=Step(5, 12, 3)),
        "other seed": mask(device, step=Step(6, 11, 3)),
        "other layer": mask(device, stream="fc7"),
        "other column": mask(device, first_unit=512),
        "other images": mask(device, step=Step(5, 11, 67)),
    }
    for name, one in masks.items():
        for other, two in masks.items():
            assert name == other or abs((one == two).mean() - 0.5) < 0.02, (name, other)
    first, second = masks["this"][:32], masks["this"][32:]
    assert abs((first == second).mean() - 0.5) < 0.02, "images share a mask"


def test_columns_and_blocks_use_slices_of_one_mask(device):
    whole = mask(device)
    np.testing.assert_array_equal(mask(device, m=256, first_unit=256), whole[:, 256:])
    np.testing.assert_array_equal(mask(device, n=16, step=Step(5, 11, 3 + 48)), whole[48:])


# Loss.


def test_softmax_loss_matches_the_reference(device):
    z, labels = noise(4, 7) * 3, np.array([6, 0, 3, 3])
    loss = layers.SoftmaxLoss().build(device)
    value = device.get(loss.forward(device.put(z), device.put(labels)))
    dz = device.get(loss.backward())
    assert abs(value - loops.softmax_loss(z, labels)) < 1e-14
    np.testing.assert_allclose(dz, loops.softmax_loss_backward(z, labels), rtol=0, atol=1e-15)
    np.testing.assert_allclose(dz.sum(axis=1), 0, atol=1e-16)
    with pytest.raises(RuntimeError, match="backward needs a forward"):
        loss.backward()


def test_softmax_loss_of_equal_logits(device):
    loss = layers.SoftmaxLoss().build(device)
    value = loss.forward(device.put(np.zeros((3, 1000))), device.put(np.array([1, 5, 999])))
    assert abs(float(device.get(value)) - np.log(1000)) < 1e-14


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_does_not_overflow_and_keeps_dtype(device, dtype):
    z = np.array([[1000.0, 0.0], [0.0, -1000.0], [3e4, 3e4]], dtype)
    loss = layers.SoftmaxLoss().build(device)
    value = device.get(loss.forward(device.put(z), device.put(np.array([0, 0, 1]))))
    dz, p = device.get(loss.backward()), device.get(loss.probabilities(device.put(z)))
    assert value.dtype == dz.dtype == p.dtype == dtype
    np.testing.assert_allclose(value, np.log(2) / 3, rtol=1e-6)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert np.isfinite(dz).all()


# Refusals: one line that says what came and what was wanted.

WRONG = {
    "conv": (lambda: layers.Conv2d(3, 4, 3), (2, 8, 8, 4), r"conv: got \(8, 8, 4\), wants \(height, width, 3\)"),
    "units for conv": (lambda: layers.Conv2d(3, 4, 3), (2, 8), r"units for conv: got \(8,\), wants"),
    "too small": (lambda: layers.Conv2d(3, 4, 11), (2, 8, 8, 3), "wants 11 pixels a side or more: feed larger images"),
    "too small, padded": (lambda: layers.Conv2d(3, 4, 7, pad=2), (2, 2, 2, 3), "wants 3 pixels a side or more: feed"),
    "pool": (lambda: layers.MaxPool(), (2, 8), r"pool: got \(8,\), wants \(height, width, channels\)$"),
    "avg": (lambda: layers.AvgPool(), (2, 2, 2, 3), "wants 3 pixels a side or more"),
    "linear": (lambda: layers.Linear((2, 3, 4), 5), (2, 3, 2, 4), r"linear: got \(3, 2, 4\), wants \(2, 3, 4\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_shape_raises_a_one_line_error(name, device):
    make, shape, message = WRONG[name]
    layer = make().named(name).build(device, dtype="float64")
    with pytest.raises(ShapeError, match=message) as caught:
        layer.forward(device.put(np.zeros(shape)))
    assert "\n" not in str(caught.value)


def test_error_names_the_class_of_an_unnamed_layer():
    with pytest.raises(ShapeError, match=r"^MaxPool: got \(8,\), wants"):
        layers.MaxPool().output_shape((8,))
    assert list(layers.Linear(2, 3).W.parts(np.zeros((2, 3)))) == ["/W"]


def test_window_larger_than_the_image():
    with pytest.raises(ShapeError, match="a side of 2 pixels is too small for a 3-pixel window; feed larger images"):
        positions(2, 3, 1, 0, "floor")


def test_groups_must_divide():
    with pytest.raises(ShapeError, match="channels and maps in 2 groups"):
        layers.Conv2d(3, 4, 3, groups=2)
    with pytest.raises(ShapeError, match="2 equal groups"):
        layers.Linear(7, 4, groups=2)
    with pytest.raises(ShapeError, match="maps in 2 equal groups"):
        layers.LRN(groups=2).forward(np.zeros((1, 2, 2, 5)))


def test_pool_window_smaller_than_its_stride_raises():
    with pytest.raises(ShapeError, match="a window of 3 or more, to leave no pixel out"):
        layers.MaxPool(2, 3)
