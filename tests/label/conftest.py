"""The toys of the tests of runs are imported by name here too."""

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parents[1] / "run"):
    sys.path.insert(0, str(folder))
