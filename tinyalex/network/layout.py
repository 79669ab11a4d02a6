"""Lays layers out in columns: what a net's switches, its first values and its devices mean for each layer.

With one device for two columns the layers lie side by side (the *grouped form*): as one product where the columns share
an input, as two groups where they do not.
"""

from tinyalex.devices.parallel import ranges
from tinyalex.layers import LRN, Conv2d, Dropout, Linear, LocallyConnected, MaxPool, ReLU, Tanh
from tinyalex.layers.winograd import WinogradConv2d
from tinyalex.network.columns import Exchange, Stage
from tinyalex.network.network import Network


class NetBuilder:
    """Adds layers to the columns of a net, one device a column, and keeps count of shapes.

    Parameters
    ----------
    net : recipe.Net
    init : recipe.Init
    devices : int
        1, or one a column.
    """

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
            routes = [everyone if name in self.net.exchanges else [column] for column in everyone]
        exchange = Exchange(routes)
        self.shapes = exchange.output_shapes(self.shapes)
        self.stages.append(Stage(name, exchange, [[] for _ in routes]))

    def talk(self, name):
        """Begin a stage if the columns talk before this layer; else it follows the last one."""
        if name in self.net.exchanges:
            self.stage(name)

    def add(self, make):
        """Put ``make(column, input shape)`` on every column that has an input."""
        for column, shape in enumerate(self.shapes):
            if shape is not None:
                layer = make(column, shape)
                self.stages[-1].columns[column].append(layer)
                self.shapes[column] = layer.output_shape(shape)

    def names(self, name, column):
        """Give a layer's name with its column's letter, or with both columns' where they lie side by side."""
        return [name + letter for letter in (self.letters if self.grouped > 1 else [self.letters[column]])]

    def groups(self, name):
        """Groups of a layer: with both columns on one device, two if it does not see what the other column sees."""
        return 1 if name == "conv1" or name in self.net.exchanges else self.grouped

    def first_values(self, name):
        """Standard deviation and bias that the recipe gives to a layer."""
        weights, biases = self.init.weights, self.init.biases
        return {
            "std": weights.get(name, weights.get("default", 0.01)),
            "bias": biases.get(name, biases.get("default", 0.0)),
        }

    def conv(self, name, maps, kernel, stride=1, pad=0):
        """Add a convolution; ``maps`` are those of all columns."""
        groups, values, winograd = self.groups(name), self.first_values(name), self.net.convolution == "winograd"

        def make(column, shape):
            suits = winograd and WinogradConv2d.supports(shape[2], kernel, stride, groups)
            layer = (WinogradConv2d if suits else Conv2d)(
                shape[2], maps // self.devices, kernel, stride, pad, groups, rounding="ceil", **values
            )
            return layer.named(*self.names(name, column))

        self.add(make)

    def local(self, name, maps, kernel, pad=0):
        """Add a locally connected layer to a net of one column."""
        values = self.first_values(name)
        self.add(lambda _, shape: LocallyConnected(shape, maps, kernel, pad=pad, **values).named(name))

    def linear(self, name, outputs):
        """Add a fully connected layer; ``outputs`` are those of all columns."""
        shares = [cut.stop - cut.start for cut in ranges(outputs, self.devices)]
        values = self.first_values(name)
        self.add(
            lambda column, shape: Linear(shape, shares[column], self.groups(name), **values).named(
                *self.names(name, column)
            )
        )

    def activation(self, number):
        """Add the net's nonlinearity."""
        kind = {"relu": ReLU, "tanh": Tanh}[self.net.activation]
        self.add(lambda *_: kind().named(f"{self.net.activation}{number}"))

    def pool(self, number, kind=MaxPool):
        """Add a pool, overlapping if the net's are."""
        self.add(lambda *_: kind(self.net.pool, 2, "ceil").named(f"pool{number}"))

    def norm(self, number, **constants):
        """Add a normalization across maps, if the net has any; 2012 averages where the paper sums."""
        if self.net.norm != "none":
            average = self.net.norm == "2012"
            self.add(lambda *_: LRN(average=average, groups=self.grouped, **constants).named(f"norm{number}"))

    def dropout(self, number):
        """Add dropout of the units of a hidden layer."""
        units = self.net.hidden // self.devices
        self.add(lambda column, _: Dropout(self.net.dropout, f"fc{number}", column * units).named(f"drop{number}"))

    def classifier(self, name):
        """Add the last layer, on column a alone, which then reads all columns, or split; a gets the logits."""
        gather = [list(range(self.devices))] + [[]] * (self.devices - 1)
        if self.net.fc8 == "a":
            self.stage(name, gather)
            self.add(lambda _, shape: Linear(shape, self.net.classes, **self.first_values(name)).named(name))
        else:
            self.stage(name)
            self.linear(name, self.net.classes)
            self.stage("softmax", gather)

    def network(self):
        """Give the network of all that was added."""
        return Network(self.stages, (self.net.input, self.net.input, 3))
