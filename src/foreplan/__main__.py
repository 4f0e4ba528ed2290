"""`python -m foreplan`, the same as `foreplan`."""

import sys

from foreplan.cli import main

if __name__ == "__main__":
    sys.exit(main())
