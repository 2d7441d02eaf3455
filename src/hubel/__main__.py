"""`python -m hubel` is `hubel`."""

import sys

from hubel.cli import main

sys.exit(main())
