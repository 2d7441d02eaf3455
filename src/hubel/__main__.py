"""`python -m hubel` is `hubel`."""

import sys

from hubel.cli import main

if __name__ == "__main__":
    sys.exit(main())
