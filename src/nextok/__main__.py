"""`python -m nextok` is the command `nextok`."""

import sys

from nextok.cli import main

if __name__ == "__main__":
    sys.exit(main())
