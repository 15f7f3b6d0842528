"""`python -m aiprod_studio` is `aiprod-studio`."""

import sys

from aiprod_studio.cli import main

if __name__ == "__main__":
    sys.exit(main())
