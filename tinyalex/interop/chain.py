"""Recognizes an AlexNet in a chain of layers, whatever library they come from, and says as a recipe's net what it is.

A net is five convolutions, each with a ReLU, the first two with a pool, and normalization before or after it, or none;
a pool; and three fully connected layers, the first two with a ReLU, and dropout or none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tinyalex.errors import CheckpointError, UsageError
from tinyalex.recipes.recipe import Net

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


@dataclass(frozen=True)
class Step:
    """One layer.

    Attributes
    ----------
    kind : {"conv", "relu", "norm", "pool", "linear", "dropout"}
        Anything else is named in an error message.
    name : str
        As in the file.
    settings : dict
        conv: maps, kernel, stride, pad, groups. norm: size, k, alpha (of the sum of squares), beta. pool: window,
        stride, rounding. linear: outputs. dropout: p.
    """

    kind: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)


def to_net(steps: Sequence[Step], input: int, rounding: str = "floor") -> tuple[Net, dict[str, str]]:
    """Return the net of a chain of layers.

    Parameters
    ----------
    steps : sequence of Step
        From the first convolution to the last fully connected layer, without softmax.
    input : int
        Pixels of a side of its images.
    rounding : {"floor", "ceil"}
        Of convolutions.

    Returns
    -------
    net : recipe.Net
        With two columns if a convolution has two groups.
    names : dict of str to str
        For each of `LAYERS`, in order, what the file calls it.

    Raises
    ------
    CheckpointError
        If it is no AlexNet; the message names the first layer that does not fit.
    """
    chain = _Chain(steps)
    convs, norms, pools, orders = [], [], [], []
    for number in range(1, 6):
        conv = chain.take("conv", "a convolution")
        if number > 1:
            chain.require(conv, conv.settings["stride"] == 1, f"stride {conv.settings['stride']}", "stride 1")
        groups = conv.settings["groups"]
        chain.require(conv, groups in ((1,) if number == 1 else (1, 2)), f"{groups} groups", "one or two; conv1 one")
        convs.append(conv)
        chain.take("relu", "a ReLU")
        if number in (1, 2):
            found = chain.take_all(("norm", "pool"), "a pool, or normalization and a pool")
            norms += [step for step in found if step.kind == "norm"]
            pools += [step for step in found if step.kind == "pool"]
            orders.append("-".join(step.kind for step in found))
            if orders[-1] not in ("pool", "norm-pool", "pool-norm") or orders[-1] != orders[0]:
                chain.refuse(found[-1], f"follows {conv.name}", "one pool, with at most one norm, alike in both layers")
    pools.append(chain.take("pool", "a pool"))
    linears, dropouts = [], chain.skip("dropout")
    for number in (6, 7, 8):
        linears.append(chain.take("linear", "a fully connected layer"))
        if number < 8:
            chain.take("relu", "a ReLU")
            dropouts += chain.skip("dropout")
    chain.end()

    roundings = tuple(step.settings["rounding"] for step in pools)
    for same in (norms, pools):
        for step in same[1:]:
            alike = step.settings | {"rounding": ""} == same[0].settings | {"rounding": ""}
            chain.require(step, alike, "other settings", f"those of {same[0].name}")
    pool = pools[0]
    chain.require(pool, pool.settings["stride"] == 2, f"stride {pool.settings['stride']}", "stride 2")
    chain.require(pool, pool.settings["window"] in (2, 3), f"{pool.settings['window']} pixels a side", "2 or 3")
    hidden = [step.settings["outputs"] for step in linears[:2]]
    chain.require(
        linears[1], hidden[0] == hidden[1], f"{hidden[1]} units", f"as many as {linears[0].name}, {hidden[0]}"
    )
    shares = {step.settings["p"] for step in dropouts} or {0.0}
    chain.require(
        (dropouts or linears)[-1], len(shares) == 1, "another share", f"that of {(dropouts or linears)[0].name}"
    )

    columns = max(step.settings["groups"] for step in convs)
    settings = {} if not norms else {f"norm_{key}": value for key, value in norms[0].settings.items()}
    talk = [f"conv{number}" for number, conv in enumerate(convs, 1) if conv.settings["groups"] == 1][1:]
    try:
        net = Net(
            input=input,
            columns=columns,
            maps=tuple(step.settings["maps"] for step in convs),
            kernels=tuple(step.settings["kernel"] for step in convs),
            stride=convs[0].settings["stride"],
            pads=tuple(step.settings["pad"] for step in convs),
            conv_rounding=rounding,
            pool_rounding=roundings[0] if len(set(roundings)) == 1 else roundings,
            hidden=hidden[0],
            classes=linears[2].settings["outputs"],
            talk=(*talk, "fc6", "fc7", "fc8") if columns > 1 else (),
            norm="paper" if norms else "none",
            norm_window="all" if columns > 1 and norms else "column",
            norm_order="pool-norm" if orders[0] == "pool-norm" else "norm-pool",
            pool=pool.settings["window"],
            dropout=shares.pop(),
            **settings,
        )
    except UsageError as error:
        raise CheckpointError(f"not a net that can be imported: {error}") from None
    return net, dict(zip(LAYERS, [step.name for step in (*convs, *linears)], strict=True))


class _Chain:
    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps, self.at = steps, 0

    def take(self, kind: str, what: str) -> Step:
        if self.at == len(self.steps):
            last = self.steps[-1].name if self.steps else "nothing"
            raise CheckpointError(f"ends with {last}, where an AlexNet goes on with {what}; {_ONLY}")
        step = self.steps[self.at]
        if step.kind != kind:
            self.refuse(step, f"is {_NAMES.get(step.kind, step.kind)}", what)
        self.at += 1
        return step

    def take_all(self, kinds: tuple[str, ...], what: str) -> list[Step]:
        found: list[Step] = []
        while self.at < len(self.steps) and self.steps[self.at].kind in kinds:
            found.append(self.steps[self.at])
            self.at += 1
        if not found:
            self.take("pool", what)
        return found

    def skip(self, kind: str) -> list[Step]:
        return self.take_all((kind,), "") if self.at < len(self.steps) and self.steps[self.at].kind == kind else []

    def require(self, step: Step, condition: bool, got: str, wanted: str) -> None:
        if not condition:
            self.refuse(step, f"has {got}", wanted)

    def refuse(self, step: Step, got: str, wanted: str) -> None:
        raise CheckpointError(f"layer {step.name} {got}, where an AlexNet has {wanted}; {_ONLY}")

    def end(self) -> None:
        if self.at < len(self.steps):
            self.refuse(self.steps[self.at], "follows the last fully connected layer", "no more layers")


_NAMES = {"conv": "a convolution", "relu": "a ReLU", "norm": "normalization", "pool": "a pool"}
_NAMES |= {"linear": "a fully connected layer", "dropout": "dropout"}
_ONLY = "only AlexNets can be imported"
