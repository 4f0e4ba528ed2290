"""What TD-MPC2's value learns from, sees and answers, one thing changed at a time: same tasks, same seeds.

python benchmarks/value_study.py commands --seeds 21 22  # a line a run
python benchmarks/value_study.py costs  # ms a decision and its update, in turns, to results/tdmpc2/value-costs.json
python benchmarks/value_study.py table  # the returns of results/tdmpc2, and docs/assets/value-{study,curves}.png
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tdmpc2_speed import SPEC, recorded

from foreplan import cli
from foreplan.commands.train import Train
from foreplan.core.machine import keep_memory
from foreplan.insight.history import History
from foreplan.insight.plots import COLOURS, canvas
from foreplan.insight.stats import summarise

ROOT = Path(__file__).parents[1]
FORMS = {
    "cautious": "",  # `nano` as it was before this study; all others but two search as it does
    "lambda": "--agent.critic.target lambda --agent.critic.n-step 5",
    "return": "--agent.critic.target return",
    "seesreward": "--agent.critic.sees reward",
    "next": "--agent.critic.sees next",
    "mean": "--agent.critic.search mean",
    "min": "--agent.critic.search min",
    "both": "--agent.critic.search min --agent.critic.sees next",
    "distil": "--agent.losses.distil 1 --agent.reanalyse 2",
    "every": "--agent.critic.depths every",
}
COSTS = ROOT / "results" / "tdmpc2" / "value-costs.json"
WAS = {"critic.search": "cautious", "critic.depths": "last", "critic.scale-returns": "None", "averaging": "0"}  # `nano`
TASKS = ("cartpole-swingup", "reacher-easy", "walker-walk")


def command(task: str, form: str, seed: int) -> str:
    words = f"dmc/{task} --steps 50000 --seed {seed} --eval-every 10000 --eval-episodes 5 --precision bfloat16"
    was = " ".join(f"--agent.{name} {value}" for name, value in WAS.items() if name not in FORMS[form])
    return f"foreplan train tdmpc2 {words} {was} {FORMS[form]}".rstrip()


def folder(task: str, form: str, seed: int) -> Path:
    return ROOT / "results" / "tdmpc2" / f"{task}-{form}-bfloat16-s{seed}"


# ---------------------------------------------------------------------- costs
def turn(form: str) -> Callable[[], float]:
    """One decision of that form, compiled: plan, learn once, relabel. Returns ms."""
    argv = command(TASKS[-1], form, 0).split()[2:]
    agent: Any = cli.parse(Train.of(argv), argv, "foreplan train").agent
    key, extras = jax.random.key(0), agent.extras(SPEC)
    learner, memory, (replay, timestep) = agent.init(SPEC, key), agent.memory(SPEC), recorded(extras)

    def decide() -> float:
        nonlocal learner, memory, replay
        start = time.perf_counter()
        acted = agent.act(learner, timestep, memory, key, False)
        learner, metrics = agent.learn(learner, replay, key, 1)
        if extras:
            replay = agent.relabel(learner, replay, key)
        jax.block_until_ready((acted, metrics, replay))
        return 1e3 * (time.perf_counter() - start)

    for _ in range(5):
        decide()
    return decide


def costs(rounds: int = 10, decisions: int = 20) -> None:
    turns = {form: turn(form) for form in FORMS}
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(rounds):
        for form, decide in turns.items():
            times[form].append(float(np.median([decide() for _ in range(decisions)])))
    shares = {form: np.median(np.divide(times[form], times["cautious"])) for form in FORMS}
    for form, share in shares.items():
        print(f"{form:12}{np.min(times[form]):7.1f} ms{share:7.2f} times that of cautious")
    COSTS.write_text(json.dumps({form: round(min(found), 2) for form, found in times.items()}, indent=2) + "\n")


# ---------------------------------------------------------------------- returns
Returns = dict[str, list[dict[int, float]]]  # form -> for each task, by seed


def table(seeds: list[int]) -> None:
    """Returns at the end and in the mean of the evaluations on the way, and how far from `cautious`, seed by seed."""
    runs = {
        form: [
            {seed: History.read(at).returns for seed in seeds if (at := folder(task, form, seed)).exists()}
            for task in TASKS
        ]
        for form in FORMS
    }
    ends = {form: [{seed: run[-1] for seed, run in task.items()} for task in tasks] for form, tasks in runs.items()}
    means = {form: [{seed: run.mean() for seed, run in task.items()} for task in tasks] for form, tasks in runs.items()}
    print(
        f"| form | {' | '.join(f'`{task}`' for task in TASKS)} | beyond `cautious` | on the way | beyond `cautious` |"
    )
    print("|---" * (len(TASKS) + 4) + "|")
    for form in FORMS:
        cells = [", ".join(f"{value:.0f}" for value in task.values()) for task in ends[form]]
        way, *_ = summarise([np.array(list(task.values())) for task in means[form]])
        print(f"| `{form}` | {' | '.join([*cells, beyond(ends, form), f'{way:.0f}', beyond(means, form)])} |")
    picture(ends, means)
    over_time(runs)


def beyond(returns: Returns, form: str) -> str:
    """By the seeds that both have."""
    both = list(zip(returns[form], returns["cautious"], strict=True))
    gains = [np.array([mine[seed] - base[seed] for seed in mine if seed in base]) for mine, base in both]
    gain, least, most = summarise(gains)
    interval = f" ({least:+.0f} to {most:+.0f})" if max(map(len, gains)) > 1 else ""
    return f"{gain:+.0f}{interval}" if form != "cautious" else ""


def picture(ends: Returns, means: Returns) -> None:
    """A column a task, a row a form, a mark a seed."""
    rows = range(len(FORMS))[::-1]
    marks = (
        ("at 50,000 environment steps", ends, COLOURS[0], "o"),
        ("mean of 10,000 to 50,000", means, COLOURS[1], "D"),
    )
    with canvas(ROOT / "docs" / "assets" / "value-study.png", 10.0, 3.6) as figure:
        for task, axes in enumerate(figure.subplots(1, len(TASKS), sharey=True)):
            for label, returns, colour, mark in marks:
                for row, tasks in zip(rows, returns.values(), strict=True):
                    at = list(tasks[task].values())
                    axes.plot(at, [row] * len(at), mark, color=colour, alpha=0.6, ms=6)
                axes.plot([], [], mark, color=colour, label=label)
                axes.axvline(float(np.mean(list(returns["cautious"][task].values()))), color=colour, ls=":", lw=1.2)
            axes.set(title=TASKS[task], xlabel="return of an episode", xlim=(0, 1000))
            axes.set_yticks(rows, list(FORMS))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)


def over_time(runs: dict[str, list[dict[int, np.ndarray]]]) -> None:
    """All tasks together, over environment steps and over the time that decisions take, of those forms that have two
    seeds of each task. Two panels a scale, for ten lines in one cannot be told apart."""
    whole = [form for form in FORMS if form != "cautious" and all(len(task) > 1 for task in runs[form])]
    half = (len(whole) + 1) // 2
    steps, decisions = np.arange(1, 6) * 10.0, np.arange(1, 6) * 5000
    costs = json.loads(COSTS.read_text())
    with canvas(ROOT / "docs" / "assets" / "value-curves.png", 10.0, 6.0) as figure:
        for row, forms in zip(
            figure.subplots(2, 2, sharey=True, sharex="col"), (whole[:half], whole[half:]), strict=True
        ):
            for form, colour in zip(("cautious", *forms), COLOURS, strict=False):
                points = zip(*(np.array(list(task.values())).T for task in runs[form]), strict=True)
                middle, low, high = np.array([summarise(list(point)) for point in points]).T
                for axes, x in zip(row, (steps, decisions * costs[form] / 60_000), strict=True):
                    axes.plot(x, middle, color=colour, lw=2, ls=":" if form == "cautious" else "-", label=form)
                    axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
            row[0].set_ylabel("return of an episode")
            row[0].legend(fontsize=8, loc="lower right")
        row[0].set_xlabel("environment steps / 1000")
        row[1].set_xlabel("minutes of decisions and updates, one thread")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["commands", "costs", "table"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22])
    options = parser.parse_args()
    if options.what == "costs":
        keep_memory()  # as the command line does
        costs()
    elif options.what == "table":
        table(options.seeds)
    else:
        print("\n".join(command(task, form, seed) for seed in options.seeds for form in FORMS for task in TASKS))


if __name__ == "__main__":
    main()
