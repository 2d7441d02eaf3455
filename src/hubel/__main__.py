"""`python -m hubel` is `hubel`."""

import os
import sys

from hubel.cli import main

if __name__ == "__main__":
    code = main()
    if "torch.distributed" in sys.modules and os.environ.get("WORLD_SIZE", "1") != "1":
        # torch 2.13 leaves gloo's threads running when the group of a DistributedDataParallel is destroyed, and now and
        # then
        # Python's own end beneath them aborts the process: "terminate called without an active exception"
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
