"""Draw a network: its columns, the shapes of its layers, their kernels and their inputs, as in Figure 2 of the paper.

Height and depth of a block stand for the size of the layer's maps, its width for their number. All are drawn in
proportion to the square root, so that large and small layers can be seen side by side. The white window on a block is
the next layer's kernel, to scale with the maps that it reads.
"""

from tinyalex.figures.page import BLUE, GREEN, INK, MUTED, PURPLE, VERMILION, page, write
from tinyalex.figures.wiring import IMAGE, levels, on_the_image
from tinyalex.words import counted

HIGH, WIDE, BAR = 1.35, 0.62, 0.15  # inches: highest block, widest block, width of a fully connected layer
DEEP = (0.40, -0.26)  # offset of the back face of a block of height 1: to the right, and up
STEP, EDGE, ROW_GAP = 0.74, 0.6, 0.55
LINE, TOP = 0.155, 0.3  # inches
SIZE = 7.5
COLUMN_COLORS = (BLUE, VERMILION, GREEN, PURPLE)


class _Block:
    """Position and size of one column's part of a layer on the page, in inches."""

    def __init__(self, shape, left, middle, height, width, color):
        self.shape, self.color = shape, color
        deep = height if len(shape) == 3 else 0.0
        self.dx, self.dy = deep * DEEP[0], deep * DEEP[1]
        self.left, self.right = left, left + width
        self.top, self.bottom = middle - (height + self.dy) / 2, middle + (height - self.dy) / 2
        self.end = self.right + self.dx

    @property
    def target(self):
        return self.left, (self.top + self.bottom) / 2

    def face(self, share=1.0):
        """Return the corners of the middle of the right face, ``share`` of it in each direction."""
        lo, hi = (1 - share) / 2, (1 + share) / 2
        height = self.bottom - self.top
        return [
            (self.right + u * self.dx, self.top + v * height + u * self.dy)
            for u, v in ((lo, lo), (hi, lo), (hi, hi), (lo, hi))
        ]


def architecture(network, titles=("column a", "column b")):
    """Draw a network.

    Parameters
    ----------
    network : Network
        With shapes only and one column per device: `tinyalex.network.alexnet.describe` with ``devices=net.columns``.
    titles : sequence of str
        What stands before each column, or GPU of the authors' files, if there are several.

    Returns
    -------
    matplotlib.figure.Figure
    """
    chain, columns = levels(network), max(network.gpus) + 1
    shapes = [network.input_shape, *(part.shape for level in chain for part in level.parts.values())]
    scale = _Scale(shapes)
    row = max(scale(shape)[0] * (1 - DEEP[1] * (len(shape) == 3)) for shape in shapes[columns > 1 :])
    captions = [["image", *on_the_image(network)], *map(_caption, chain)]
    text = TOP + columns * row + (columns - 1) * ROW_GAP + 0.45  # top of the captions
    middles = [TOP + row / 2 + column * (row + ROW_GAP) for column in range(columns)]
    left, layer_blocks = EDGE, []
    image = _Block(network.input_shape, left, sum(middles) / columns, *scale(network.input_shape), MUTED)
    left = image.end + STEP
    for level in chain:
        blocks = {
            column: _Block(part.shape, left, middles[column], *scale(part.shape), _color(column))
            for column, part in level.parts.items()
        }
        layer_blocks.append(blocks)
        left = max(block.end for block in blocks.values()) + STEP
    figure, axes = page(left - STEP + EDGE, text + LINE * max(map(len, captions)) + 0.2)
    _draw_block(axes, image, 2)
    _write_caption(axes, image, captions[0], text)
    for depth, (level, blocks) in enumerate(zip(chain, layer_blocks, strict=True), start=1):
        for column, part in level.parts.items():
            # Several columns of the image are one block.
            sources = {(number, row if number != IMAGE else 0): None for number, row in part.reads}
            for number, row_read in sources:
                source = image if number == IMAGE else layer_blocks[number][row_read]
                _draw_connection(axes, source, blocks[column], level.kernel, part.before, 4 * depth)
        for block in blocks.values():
            _draw_block(axes, block, 4 * depth + 1)
        _write_caption(axes, next(iter(blocks.values())), captions[depth], text)
    for column in range(columns if columns > 1 else 0):
        x, y = 0.25, middles[column] + (column - 0.5) * 0.9 * row
        if columns > 2:  # the image stands beside the rows in the middle
            first = next(blocks[column] for blocks in layer_blocks if column in blocks)
            x, y = first.left, first.top + first.dy - 0.12
        write(axes, x, y, titles[column], SIZE + 2, _color(column), va="center", weight="bold")
    return figure


def _color(column):
    return COLUMN_COLORS[column % len(COLUMN_COLORS)]


class _Scale:
    """Computes height and width of a layer's block, in inches, from its shape."""

    def __init__(self, shapes):
        self.side = max(shape[0] for shape in shapes if len(shape) == 3)
        self.maps = max(shape[2] for shape in shapes if len(shape) == 3)
        self.units = max([shape[0] for shape in shapes if len(shape) == 1], default=1)

    def __call__(self, shape):
        if len(shape) == 1:
            return max(0.3, HIGH * (shape[0] / self.units) ** 0.5), BAR
        return max(0.14, HIGH * (shape[0] / self.side) ** 0.5), max(0.06, WIDE * (shape[2] / self.maps) ** 0.5)


def _draw_block(axes, block, order):
    from matplotlib.patches import Polygon

    x, top, right, bottom, dx, dy = block.left, block.top, block.right, block.bottom, block.dx, block.dy
    faces = [([(x, top), (right, top), (right, bottom), (x, bottom)], 0.30)]
    if dx:
        faces.append(([(x, top), (right, top), (right + dx, top + dy), (x + dx, top + dy)], 0.14))
        faces.append((block.face(), 0.42))
    for corners, strength in faces:
        axes.add_patch(
            Polygon(corners, facecolor=_tint(block.color, strength), edgecolor=block.color, lw=0.8, zorder=order)
        )
    text = " × ".join(map(str, block.shape)) if len(block.shape) == 3 else f"{block.shape[0]:,}"
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    write(axes, (x + right + dx * 0.3) / 2, bottom + 0.07, text, SIZE, ha="center", va="top", zorder=90, bbox=paper)


def _draw_connection(axes, source, block, kernel, before, order):
    # A convolution: its kernel's window and lines from its corners to the block that it computes. A fully connected
    # layer: two lines from edge to edge.
    from matplotlib.patches import Polygon

    style = {"color": source.color, "linewidth": 0.7, "alpha": 0.75, "zorder": order}
    if kernel is None:
        starts = [(source.end, source.top + source.dy), (source.end, source.bottom + source.dy)]
        ends = [(block.left, block.top), (block.left, block.bottom)]
        area = [starts[0], ends[0], ends[1], starts[1]]
        axes.add_patch(Polygon(area, facecolor=source.color, edgecolor="none", alpha=0.10, zorder=order))
        for (x, y), (x2, y2) in zip(starts, ends, strict=True):
            axes.plot([x, x2], [y, y2], **style)
        return
    window = source.face(min(1.0, kernel[0] / before[0]))
    tip = block.target
    axes.add_patch(Polygon(window, facecolor="white", edgecolor=source.color, lw=0.9, alpha=0.95, zorder=order))
    for corner, following in zip(window, window[1:] + window[:1], strict=True):
        axes.add_patch(
            Polygon([corner, following, tip], facecolor=source.color, edgecolor="none", alpha=0.07, zorder=order)
        )
        axes.plot([corner[0], tip[0]], [corner[1], tip[1]], **style)


def _caption(level):
    count = sum(part.shape[-1] for part in level.parts.values())
    if level.kernel is None:
        return [level.name, counted(count, "unit"), *level.after]
    stride = [f"stride {level.stride}"] if level.stride > 1 else []
    return [level.name, f"{count} of {' × '.join(map(str, level.kernel))}", *stride, *level.after]


def _write_caption(axes, block, lines, top):
    x = (block.left + block.right) / 2 + 0.3 * block.dx
    for number, line in enumerate(lines):
        style = {"weight": "bold", "color": INK} if number == 0 else {"color": INK if number == 1 else MUTED}
        write(axes, x, top + number * LINE, line, SIZE + (number == 0), ha="center", va="top", **style)


def _tint(color, strength):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return tuple(1 - strength * (1 - channel) for channel in channels)
