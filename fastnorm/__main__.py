"""`python -m fastnorm`: the command line."""

import sys

from fastnorm._cli import main

if __name__ == "__main__":
    sys.exit(main())
