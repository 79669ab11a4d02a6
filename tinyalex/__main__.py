"""``python -m tinyalex`` runs the ``tinyalex`` command."""

import sys

from tinyalex.cli import main

sys.exit(main())
