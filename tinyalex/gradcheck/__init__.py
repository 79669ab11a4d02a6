"""Check gradients: of every layer and net of tinyalex, and of layers of your own.

A gradient that backward computes is compared, element by element, with a numerical derivative of forward. The complex
step computes f(x + ih); the imaginary part divided by h is the derivative. No difference of nearly equal numbers is
taken, so h can be 1e-30 and the derivative is accurate to the last digits. For this, forward has to work with complex
numbers: compare ``x.real``, and write ``x * x`` instead of ``abs(x) ** 2``. Central differences, (f(x + h) - f(x - h))
/ 2h, work with any forward and are less accurate. Where one step does not suffice, many are tried, and each element
gets a derivative with an error bar: `tinyalex/gradcheck/slopes.py` says how.

At a kink, such as that of max(0, x) at 0, there is no derivative; a gradient between the slopes of both sides is
excused there. So is a gradient within the error bar of its derivative if that bar is large. The report counts what is
excused; a tensor with more than half of its elements excused is "NOT CHECKED" and counts as failed.

>>> import numpy as np
>>> from tinyalex import gradcheck
>>> class Scale:
...     W = np.array([2.0, -3.0])
...     def forward(self, x):
...         self.x = x
...         return self.W * x
...     def backward(self, dy):
...         self.dW = (dy * self.x).sum(axis=0)
...         return dy * self.W
>>> results = gradcheck.check(Scale(), np.array([[1.0, 0.5], [-2.0, 4.0]]), parameters={"W": "dW"})
>>> [(result.parameter, result.verdict) for result in results]
[('x', 'ok'), ('W', 'ok')]

`table` writes such results as text.
"""

from tinyalex.gradcheck import cuda_convnet
from tinyalex.gradcheck.cases import suite
from tinyalex.gradcheck.compare import Result, table
from tinyalex.gradcheck.layer import check
from tinyalex.gradcheck.network import check_network

__all__ = ["Result", "check", "check_network", "cuda_convnet", "suite", "table"]
