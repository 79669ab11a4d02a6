"""Plane geometry for drawing: outlines, directions, and a sine that is the same on every machine.

An outline is a function of coordinates and a radius that returns the distance of a point from it in pixels, negative
inside. Arrays broadcast; float32 in, float32 out.
"""

import numpy as np


def sine(turns):
    """Sine of an angle given in turns, to 0.0011, by a polynomial: products and sums have the same bits everywhere."""
    u = turns - np.floor(turns + np.float32(0.5))
    u = 8 * u - 16 * u * abs(u)
    return u + np.float32(0.225) * (u * abs(u) - u)


def turned(x, y, turns):
    """Return a point's coordinates along a direction and to the left of it."""
    along, left = sine(turns + np.float32(0.25)), sine(turns)
    return x * along + y * left, y * along - x * left


def _disc(x, y, r):
    return np.sqrt(x * x + y * y) - r * np.float32(0.95)


def _polygon(x, y, r, corners):
    turns = np.arange(corners, dtype=np.float32) / np.float32(corners)
    return np.maximum.reduce([turned(x, y, turn)[0] for turn in turns]) - r


def _triangle(x, y, r):
    return _polygon(x, y, r * np.float32(0.66), 3)


def _square(x, y, r):
    return _polygon(x, y, r * np.float32(0.85), 4)


def _hexagon(x, y, r):
    return _polygon(x, y, r * np.float32(0.9), 6)


def _star(x, y, r):
    return np.minimum(_polygon(x, y, r * np.float32(0.6), 3), _polygon(-x, -y, r * np.float32(0.6), 3))


def _clover(x, y, r):
    far = np.sqrt(x * x + y * y) + np.float32(0.001)
    a, b = (x / far) * (x / far), (y / far) * (y / far)
    return far - r * (np.float32(0.88) + np.float32(0.2) * (a * a - 6 * a * b + b * b))  # 0.2 times cos 4 phi


OUTLINES = (_disc, _triangle, _square, _hexagon, _star, _clover)
