"""Lays out the layers of a net in columns, from a recipe's ``net`` and ``init`` settings and the number of devices.

With one device for two columns, both columns' layers become one layer (the *grouped form*): a single product where the
columns have the same input, a layer of two groups where they do not.
"""

from tinyalex.devices.parallel import ranges
from tinyalex.layers import LRN, ChannelSlice, Conv2d, Dropout, Linear, LocallyConnected, MaxPool, ReLU, Tanh
from tinyalex.layers.winograd import WinogradConv2d
from tinyalex.network.columns import Exchange, Stage
from tinyalex.network.network import Network


class NetBuilder:
    """Adds layers to all columns of a net, one call for each layer, and keeps track of the shapes.

    Parameters
    ----------
    net : recipe.Net
    init : recipe.Init
    devices : int
        1, or the number of columns.
    """

    def __init__(self, net, init, devices):
        self.net, self.init, self.devices = net, init, devices
        self.classes = net.classes or net.columns  # until the data says how many there are, one for each column
        self.letters = ["a", "b"] if net.columns == 2 else [""]
        self.shapes = [(net.input, net.input, 3)] * devices
        self.stages = []

    @property
    def columns_per_device(self):
        """2 in the grouped form of a two-column net, else 1."""
        return self.net.columns // self.devices

    def stage(self, name, routes=None):
        """Begin a stage; its columns exchange maps along the given routes, or if ``net.talk`` names it."""
        all_columns = list(range(self.devices))
        if routes is None:
            routes = [all_columns if name in self.net.exchanges else [column] for column in all_columns]
        exchange = Exchange(routes)
        self.shapes = exchange.output_shapes(self.shapes)
        self.stages.append(Stage(name, exchange, [[] for _ in routes]))

    def exchange_before(self, name):
        """Begin a stage if ``net.talk`` names this layer; else the layer is added to the current stage."""
        if name in self.net.exchanges:
            self.stage(name)

    def add(self, make):
        """Add the layer ``make(column, input shape)`` to every column that has an input."""
        for column, shape in enumerate(self.shapes):
            if shape is not None:
                layer = make(column, shape)
                self.stages[-1].columns[column].append(layer)
                self.shapes[column] = layer.output_shape(shape)

    def names(self, name, column):
        """Return a layer's name with its column's letter; both columns' names in the grouped form."""
        return [name + letter for letter in (self.letters if self.columns_per_device > 1 else [self.letters[column]])]

    def groups(self, name):
        """Return a layer's number of groups: 2 in the grouped form where a column reads only its own maps, else 1."""
        return 1 if name == "conv1" or name in self.net.exchanges else self.columns_per_device

    def initial_values(self, name):
        """Return a layer's initial values as keyword arguments: the weights' standard deviation, and the bias."""
        weights, biases = self.init.weights, self.init.biases
        return {
            "std": weights.get(name, weights.get("default", 0.01)),
            "bias": biases.get(name, biases.get("default", 0.0)),
        }

    def conv(self, name, maps, kernel, stride=1, pad=0):
        """Add a convolution; ``maps`` is the total over the columns."""
        groups, values, winograd = self.groups(name), self.initial_values(name), self.net.convolution == "auto"

        def make(column, shape):
            use_winograd = winograd and WinogradConv2d.supports(shape[2], kernel, stride, groups)
            layer = (WinogradConv2d if use_winograd else Conv2d)(
                shape[2], maps // self.devices, kernel, stride, pad, groups, self.net.conv_rounding, **values
            )
            return layer.named(*self.names(name, column))

        self.add(make)

    def local(self, name, maps, kernel, pad=0):
        """Add a locally connected layer to a net of one column."""
        values = self.initial_values(name)
        self.add(lambda _, shape: LocallyConnected(shape, maps, kernel, pad=pad, **values).named(name))

    def linear(self, name, outputs):
        """Add a fully connected layer; ``outputs`` is the total over the columns."""
        shares = [share.stop - share.start for share in ranges(outputs, self.devices)]
        values = self.initial_values(name)
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
        """Add a pooling layer of stride 2; with ``net.pool`` 3 its windows overlap."""
        rounding = dict(zip((1, 2, 5), self.net.pool_roundings, strict=True)).get(number, "ceil")
        self.add(lambda *_: kind(self.net.pool, 2, rounding).named(f"pool{number}"))

    def norm(self, number, **constants):
        """Add normalization across maps unless ``net.norm`` is "none"; 2012 averages where the paper sums.

        Where the windows cross the columns, and each is on its own device, the columns exchange all maps, normalize
        them, and keep their own.
        """
        net = self.net
        if net.norm == "none":
            return
        given = {"size": net.norm_size, "k": net.norm_k, "alpha": net.norm_alpha, "beta": net.norm_beta} | constants
        average, across, own = net.norm == "2012", net.norm_window == "all", list(self.shapes)
        if across and self.devices > 1:
            self.stage(f"norm{number}", routes=[list(range(self.devices))] * self.devices)
        groups = 1 if across else self.columns_per_device
        self.add(lambda *_: LRN(average=average, groups=groups, **given).named(f"norm{number}"))
        if across and self.devices > 1:
            self.add(lambda column, _: ChannelSlice(column * own[column][-1], own[column][-1]).named(f"own{number}"))

    def dropout(self, number):
        """Add dropout of a hidden layer's units."""
        units = self.net.hidden // self.devices
        self.add(lambda column, _: Dropout(self.net.dropout, f"fc{number}", column * units).named(f"drop{number}"))

    def classifier(self, name):
        """Add the last layer: on column a, which reads all columns, or split over the columns and gathered on a."""
        gather = [list(range(self.devices))] + [[]] * (self.devices - 1)
        if self.net.fc8 == "a":
            self.stage(name, gather)
            self.add(lambda _, shape: Linear(shape, self.classes, **self.initial_values(name)).named(name))
        else:
            self.stage(name)
            self.linear(name, self.classes)
            self.stage("softmax", gather)

    def network(self):
        """Return the `Network` of the stages added so far."""
        return Network(self.stages, (self.net.input, self.net.input, 3))
