"""``python -m tinyalex`` is the ``tinyalex`` command."""

import sys

from tinyalex.cli import main

sys.exit(main())
