"""`python -m fusednorm`: the command line."""

import sys

from fusednorm.cli import main

if __name__ == "__main__":
    sys.exit(main())
