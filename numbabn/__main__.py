"""``python -m numbabn`` is the command ``numbabn``."""

import sys

from .cli import main

sys.exit(main())
