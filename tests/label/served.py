"""The labelling page in a process of its own, which a test may kill: the run, and the port."""

import sys
from pathlib import Path

from labelled import fit

from foreplan.label.serve import serve
from foreplan.label.session import Options

if __name__ == "__main__":
    options = Options(states=260, episodes=2, height=96, small=48)
    serve(Path(sys.argv[1]), options, port=int(sys.argv[2]), fit=fit, say=lambda line: print(line, flush=True))
