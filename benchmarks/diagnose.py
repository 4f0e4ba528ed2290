"""Whether `diagnose` names faults that were planted: a reward that is noise, dynamics of one step late, a value that is
doubled, a planner of 8 candidates; in ten draws of the beginnings each.

    python benchmarks/diagnose.py --seeds 10

The task and its spoilt agents are those of tests/run/faulty.py. One line a fault: how often it was the largest loss,
and by how much it exceeded the next.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from foreplan.insight.attribution import attribute
from foreplan.run.diagnose import Diagnosing, diagnose


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--decisions", type=int, default=10)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "run"))
    import faulty

    plant = faulty.plant(options.episodes)
    for fault in faulty.FAULTS:
        began, named, margins, gaps = time.perf_counter(), 0, [], []
        for seed in range(options.seeds):
            settings = Diagnosing(
                options.episodes, options.decisions, whole=options.decisions, beyond=faulty.BEYOND, seed=seed
            )
            agent, learner = faulty.Faulty.of(fault)
            found = attribute(diagnose(agent, learner, plant, settings).returns)
            lost = {part: loss.mean for part, loss in found.losses.items()}
            named += found.largest == fault
            margins.append(lost.pop(fault) - max(lost.values()))
            gaps.append(abs(sum(loss.mean for loss in found.losses.values()) - found.gap.mean))
        result = {
            "fault": fault,
            "named": f"{named}/{options.seeds}",
            "least_margin": round(float(np.min(margins)), 4),
            "sum_differs_from_gap_by": float(np.max(gaps)),
            "seconds": round(time.perf_counter() - began, 1),
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
