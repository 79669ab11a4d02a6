"""Is this gradient right? A checker for every layer and net here, and for layers of your own.

The complex step looks at f(x + ih): its imaginary part, divided by h, is the derivative without any difference being
taken, so h can be 1e-30 and the answer is good to the last digits. The forward pass has to let complex numbers through:
compare on ``.real``, write ``x * x`` and not ``abs(x) ** 2``. Central differences need nothing, and see less.

>>> print(gradcheck.table(gradcheck.check(MyLayer(), x, parameters={"W": "dW", "b": "db"})))
"""

from tinyalex.gradcheck.cases import suite
from tinyalex.gradcheck.compare import Result, table
from tinyalex.gradcheck.layer import check
from tinyalex.gradcheck.network import check_network

__all__ = ["Result", "check", "check_network", "suite", "table"]
