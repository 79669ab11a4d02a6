"""The paper's nets, from a handful of switches (paper §3.5 and Figure 2; 2012: ``layers-145.cfg``).

`describe` lays out stages, columns and layers; it needs no arrays. `build` gives them some. With one device for two
columns the net takes its *grouped form*: both columns' layers side by side, as one product where they share an input
and as two groups where they do not; normalization stays within its column. Names, shapes and first values of the
parameters are the same in either form.
"""

from tinyalex.columns import Exchange, Stage
from tinyalex.kernels.winograd import WinogradConv2d
from tinyalex.layers import LRN, Conv2d, Dropout, Linear, MaxPool, ReLU, SpatialNorm, Tanh
from tinyalex.network import Network
from tinyalex.parallel import ranges
from tinyalex.recipe import Init


class Columns:
    """Adds layers to the columns of a net, one device a column, and keeps count of shapes."""

    def __init__(self, net, init, devices):
        self.net, self.init, self.devices = net, init, devices
        self.letters = ["a", "b"] if net.columns == 2 else [""]
        self.shapes = [(net.input, net.input, 3)] * devices
        self.stages = []

    @property
    def grouped(self):
        """How many columns lie side by side on one device."""
        return self.net.columns // self.devices

    def stage(self, name, routes=None):
        """Begin a stage; its columns talk if the net's switches say so, or along the given routes."""
        everyone = list(range(self.devices))
        if routes is None:
            routes = [everyone if name in self.net.talk else [column] for column in everyone]
        exchange = Exchange(routes)
        self.shapes = exchange.output_shapes(self.shapes)
        self.stages.append(Stage(name, exchange, [[] for _ in routes]))

    def add(self, make, columns=None):
        """Put ``make(column, input shape)`` on every column that has an input, or on those named."""
        for column, shape in enumerate(self.shapes):
            if shape is not None and (columns is None or column in columns):
                layer = make(column, shape)
                self.stages[-1].columns[column].append(layer)
                self.shapes[column] = layer.output_shape(shape)

    def names(self, name, column):
        return [name + letter for letter in (self.letters if self.grouped > 1 else [self.letters[column]])]

    def groups(self, name):
        """Groups of a layer: with both columns on one device, two if it does not see what the other column sees."""
        return 1 if name == "conv1" or name in self.net.talk else self.grouped

    def first_values(self, name):
        """Standard deviation and bias that the recipe gives to a layer."""
        weights, biases = self.init.weights, self.init.biases
        return {
            "std": weights.get(name, weights.get("default", 0.01)),
            "bias": biases.get(name, biases.get("default", 0.0)),
        }

    def conv(self, name, maps, kernel, stride=1, pad=0):
        groups, values = self.groups(name), self.first_values(name)
        winograd = self.net.convolution == "winograd" and WinogradConv2d.suits(kernel, stride, groups)
        kind = WinogradConv2d if winograd else Conv2d
        self.add(
            lambda column, shape: kind(
                shape[2], maps // self.devices, kernel, stride, pad, groups, rounding="ceil", **values
            ).named(*self.names(name, column))
        )

    def linear(self, name, outputs):
        shares = [cut.stop - cut.start for cut in ranges(outputs, self.devices)]
        values = self.first_values(name)
        self.add(
            lambda column, shape: Linear(shape, shares[column], self.groups(name), **values).named(
                *self.names(name, column)
            )
        )

    def activation(self, number):
        kind = {"relu": ReLU, "tanh": Tanh}[self.net.activation]
        self.add(lambda *_: kind().named(f"{self.net.activation}{number}"))

    def pool(self, number, kind=MaxPool):
        self.add(lambda *_: kind(self.net.pool, 2, "ceil").named(f"pool{number}"))

    def norm(self, number):
        if self.net.norm != "none":
            average = self.net.norm == "2012"
            self.add(lambda *_: LRN(average=average, groups=self.grouped).named(f"norm{number}"))

    def dropout(self, number):
        units = self.net.hidden // self.devices
        self.add(lambda column, _: Dropout(self.net.dropout, f"fc{number}", column * units).named(f"drop{number}"))

    def network(self):
        return Network(self.stages, (self.net.input, self.net.input, 3))


def alexnet(net, init, devices=1):
    """Describe the paper's net on one device (grouped form, or one column) or on two (a column each)."""
    columns = Columns(net, init, devices)
    loose = net.pool == 2  # run 147: with 2 x 2 pools, conv2 and conv5 pad less so that 13 x 13 and 6 x 6 remain
    k1, k2, k3, k4, k5 = net.kernels

    columns.stage("conv1", routes=[[column] for column in range(devices)])  # each sees the image
    columns.conv("conv1", net.maps[0], k1, net.stride)
    if net.norm == "2012":  # the 2012 order: normalization and pooling see conv1's linear output
        columns.norm(1)
        columns.pool(1)
        columns.activation(1)
    else:
        columns.activation(1)
        columns.norm(1)
        columns.pool(1)

    if "conv2" in net.talk:
        columns.stage("conv2")
    columns.conv("conv2", net.maps[1], k2, pad=k2 // 2 - loose)
    columns.activation(2)
    columns.norm(2)
    if net.norm == "2012":  # not in the paper: a second normalization, over space
        columns.add(lambda *_: SpatialNorm().named("norm2s"))
    columns.pool(2)

    for number, maps, kernel in ((3, net.maps[2], k3), (4, net.maps[3], k4), (5, net.maps[4], k5)):
        if f"conv{number}" in net.talk:
            columns.stage(f"conv{number}")
        columns.conv(f"conv{number}", maps, kernel, pad=kernel // 2 - (loose and number == 5))
        columns.activation(number)
    columns.pool(5)

    for number in (6, 7):
        columns.stage(f"fc{number}")
        columns.linear(f"fc{number}", net.hidden)
        columns.activation(number)
        columns.dropout(number)

    everyone = list(range(devices))
    if net.fc8 == "a":  # on column a alone, which reads all units of fc7
        columns.stage("fc8", routes=[everyone] + [[]] * (devices - 1))
        columns.add(
            lambda _, shape: Linear(shape, net.classes, **columns.first_values("fc8")).named("fc8"), columns=[0]
        )
    else:
        columns.stage("fc8")
        columns.linear("fc8", net.classes)
        columns.stage("softmax", routes=[everyone] + [[]] * (devices - 1))
    return columns.network()


def describe(net, init=None, devices=1):
    """Lay out the net of a recipe, without arrays.

    Parameters
    ----------
    net : recipe.Net
    init : recipe.Init, optional
        First values; not needed to look at shapes and counts.
    devices : int
        1, or one a column.

    Returns
    -------
    Network
    """
    from tinyalex.cifar10 import cifar10  # which adds its layers with our Columns

    return {"alexnet": alexnet, "cifar10": cifar10}[net.kind](net, init or Init(), devices)


def build(net, init, devices=("cpu",), seed=0, dtype="float32"):
    """Lay out the net of a recipe and give it arrays; see `Network.build`."""
    count = min(len(devices), net.columns)
    network = describe(net, init, count).build(devices, seed, dtype)
    for device in network.devices:
        device.tf32 = net.tf32
    return network
