"""`python -m ladapress` is the `ladapress` command."""

import sys

from ladapress.cli import main

sys.exit(main())
