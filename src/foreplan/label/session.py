"""One run that is being labelled: its policy, the states it visits, the desk, the studio and the retraining."""

import base64
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from foreplan import presets
from foreplan.core.errors import EnvError, UsageError, unknown
from foreplan.core.types import VectorEnv
from foreplan.data.journal import Journal
from foreplan.label import policies, retraining
from foreplan.label.adviser import Adviser
from foreplan.label.asking import STRATEGIES, choose
from foreplan.label.desk import Desk, Refused
from foreplan.label.space import action_space, observations
from foreplan.label.studio import Outlook, Strip, Studio
from foreplan.label.visits import Policy, Visit, collect
from foreplan.run.evaluate import evaluate
from foreplan.run.saved import Saved
from foreplan.run.settings import at_least

FOLDER = "labels"  # of a run directory
SECONDS_AHEAD, SECONDS_FILM = 1.0, 4.0
EVALUATION_SEED = 1_000


@dataclass(frozen=True)
class Options:
    """What is asked, and how."""

    strategy: str = "random"
    states: int = 200  # asked about for each policy
    episodes: int = 5  # played to find them; as many evaluate a policy
    planner: str | None = None  # by name: in every state it proposes an action too
    guard: float | None = None  # accept a retrained policy by itself where it is better with this confidence
    height: int = 480  # of the large picture, in pixels
    small: int = 240  # of films

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise unknown("strategy", self.strategy, STRATEGIES)
        if self.strategy == "planner" and self.planner is None:
            raise UsageError("strategy is planner, but there is none: name one with --planner")
        if self.planner is not None:
            presets.planner(self.planner)
        at_least("states", self.states, 1)
        at_least("episodes", self.episodes, 1)
        if self.guard is not None and not 0.5 <= self.guard < 1.0:
            raise UsageError(f"guard is {self.guard}; accepted: a confidence from 0.5 to below 1")


class Session:
    """`fit` retrains; None: labels are collected only. Raises UsageError where the run cannot be labelled."""

    def __init__(
        self,
        saved: Saved,
        options: Options,
        fit: retraining.Fit | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.saved, self.options, self._say = saved, options, say
        self.folder = saved.out / FOLDER
        self._env = self._make(0)
        self.spec = self._env.spec
        self.journal = Journal(
            self.folder / "journal.jsonl", int(np.prod(self.spec.obs_shape)), self.spec.action_dim, say
        )
        self.desk = Desk(self.journal, self.spec)
        self.studio = Studio(self._make, options.height, options.small)
        self.retraining = None if fit is None else retraining.Retraining(fit, self._returns, self._finished)
        self.films: dict[str, Strip] = {}
        self.returns: list[float] = []
        self._starts: list[Visit] = []
        self._adviser = None if options.planner is None else Adviser(self._make(0), options.planner)
        self._pictures: dict[str, tuple[bytes, Strip]] = {}
        self._advice: dict[str, list[float]] = {}
        self._known_returns: dict[int, list[float]] = {}
        self._closed, self._turn = threading.Event(), threading.RLock()
        self._preparing: threading.Thread | None = None
        self.begin(policies.newest(self.folder, saved, self.spec, say))

    def _make(self, height: int) -> VectorEnv:
        settings = self.saved.settings
        drawn = {"render": True, "height": height} if height else {}
        return self.saved.make_env(settings.env, action_repeat=settings.action_repeat, num_envs=1, **drawn)

    # ------------------------------------------------------------------ what is asked
    def begin(self, policy: Policy) -> None:
        """Play `policy`, and ask about the states that it visits."""
        self._say(f"playing {self.options.episodes} episodes of {policy.version} ...")
        visits, returns = collect(policy, self._env, self.options.episodes, say=self._say)
        chosen = self._choose(policy, visits)
        self.policy, self.returns = policy, returns
        self._starts = [visit for visit in visits if visit.time == 0]
        self._pictures, self._advice = {}, {}
        self.desk.ask(policy, chosen)
        self._preparing = threading.Thread(target=self._prepare, args=(policy, chosen), daemon=True)
        self._preparing.start()

    def _choose(self, policy: Policy, visits: list[Visit]) -> list[Visit]:
        """What to ask about. Raises UsageError where the run's own policy does not allow the strategy."""
        number, strategy = self.options.states, self.options.strategy
        try:
            return choose(visits, strategy, number, policy, self._adviser)
        except UsageError as error:
            if policy.number == 0:
                raise
            self._say(f"{policy.version}: {error}; asking at random")
            return choose(visits, "random", number)

    def _prepare(self, policy: Policy, visits: list[Visit]) -> None:
        """Make the pictures of all states, in the order in which they are asked about."""
        for visit in visits:
            if self._closed.is_set() or self.policy is not policy:
                return
            if self.desk.is_open(visit.id):
                self._picture(visit)
                if self._adviser is not None:
                    self._advice[visit.id] = self._adviser.propose(visit)
                self.desk.make_ready(visit.id)

    def prepared(self) -> None:
        """Wait until all pictures are made."""
        if self._preparing is not None:
            self._preparing.join()

    def _picture(self, visit: Visit) -> tuple[bytes, Strip]:
        if visit.id not in self._pictures:
            frame, clip = self.studio.frame(visit), self.studio.clip(visit)
            self._pictures[visit.id] = frame.result(), clip.result()
        return self._pictures[visit.id]

    def pictures(self, state: str) -> tuple[bytes, Strip]:
        """The state itself, large, and the film of the states before it. Raises Refused where it is unknown."""
        return self._picture(self.desk.visit(state, self.policy.version))

    # ------------------------------------------------------------------ what a page asks for
    def hello(self) -> dict[str, Any]:
        """What does not change."""
        return {
            "run": self.saved.out.name,
            "env": self.saved.settings.env,
            "space": action_space(self._env),
            "drawing": self.saved.settings.env.startswith("jax/"),  # on white: a dark page turns it over
            "decision": self.studio.seconds_per_decision,
            "ahead": SECONDS_AHEAD,
            "retrains": self.retraining is not None,
        }

    def lease(self, message: Mapping[str, Any]) -> dict[str, Any]:
        page, holding, want = message.get("page"), message.get("holding", []), message.get("want", 1)
        if not isinstance(page, str) or not isinstance(holding, list) or not isinstance(want, int):
            raise Refused(422, "page, holding and want are needed: a word, a list of states and a number")
        given, lost = self.desk.lease(page, [str(state) for state in holding], min(want, 20))
        return {"states": [self._describe(visit) for visit in given], "lost": lost}

    def _describe(self, visit: Visit) -> dict[str, Any]:
        advice = {"planner": self._advice[visit.id]} if visit.id in self._advice else {}
        return {
            "id": visit.id,
            "policy": self.policy.version,
            "episode": visit.episode,
            "time": visit.time,
            "seconds": visit.time * self.studio.seconds_per_decision,
            "obs": observations(self._env, visit.obs),
            "proposals": {"policy": visit.action.clip(-1.0, 1.0).tolist()} | advice,
            "frames": len(visit.past) + 1,
        }

    def preview(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A look ahead from the action on the page, and one from the policy's own."""
        visit = self.desk.visit(message.get("state"), message.get("policy"))
        action = np.array(self.desk.action(message.get("action")), np.float32)
        hold = message.get("hold")
        if not isinstance(hold, int) or not 1 <= hold <= 10_000:
            raise Refused(422, f"hold is {hold!r}; accepted: whole numbers of decisions from 1 to 10000")
        ours = self.studio.ahead(self.policy, visit, action, hold, SECONDS_AHEAD)
        theirs = self.studio.ahead(self.policy, visit, None, 0, SECONDS_AHEAD)
        try:
            return {"label": outlook(ours.result()), "policy": outlook(theirs.result())}
        except EnvError as error:
            raise Refused(409, f"the simulator cannot follow this action: {error}") from error

    def status(self) -> dict[str, Any]:
        """All that is always shown."""
        attempt = self.retraining.attempt if self.retraining else None
        frames = {name: film.frames for name, film in self.films.items()}
        return {
            **self.desk.counts(),
            "policy": self.policy.version,
            "return": retraining.summary(self.returns),
            "retraining": attempt.record() | {"frames": frames} if attempt else None,
        }

    # ------------------------------------------------------------------ retraining
    def retrain(self) -> None:
        if self.retraining is None:
            raise Refused(409, "this session only collects labels")
        labels = self.desk.labels()
        if not labels:
            raise Refused(409, "there are no labels to learn from yet")
        with self._turn:
            if self.retraining.running:
                raise Refused(409, "it is being retrained already")
            self.films = {}
            self.retraining.begin(self.policy, labels)

    def _returns(self, policy: Policy) -> list[float]:
        if policy.number not in self._known_returns or policy is not self.policy:
            settings = self.saved.settings
            env = self.saved.make_env(
                settings.env, action_repeat=settings.action_repeat, num_envs=self.options.episodes
            )
            try:
                result = evaluate(policy.agent, policy.learner, env, EVALUATION_SEED)
            finally:
                env.close()
            assert result is not None  # nobody interrupts it
            self._known_returns[policy.number] = result.returns
        return self._known_returns[policy.number]

    def _finished(self, attempt: retraining.Attempt) -> None:
        assert attempt.candidate is not None
        for name, policy in (("before", self.policy), ("after", attempt.candidate)):
            self.films[name] = self.studio.film(policy, self._starts[0], SECONDS_FILM).result().strip
        confidence = attempt.record()["better"]
        if self.options.guard is not None and confidence is not None and confidence >= self.options.guard:
            self._replace(attempt)

    def accept(self) -> None:
        """Let the retrained policy replace the current one, and ask about the states that it visits."""
        with self._turn:
            attempt = self.retraining.attempt if self.retraining else None
            if attempt is None or attempt.phase != "ready":
                raise Refused(409, "there is no retrained policy to accept")
            self._replace(attempt)

    def _replace(self, attempt: retraining.Attempt) -> None:
        assert attempt.candidate is not None
        assert self.retraining is not None
        policies.save(self.folder, attempt.candidate)
        self.begin(attempt.candidate)
        self.retraining.forget()

    def discard(self) -> None:
        if self.retraining is not None and not self.retraining.running:
            self.retraining.forget()

    def close(self) -> None:
        self._closed.set()
        self.prepared()
        if self.retraining is not None:
            self.retraining.wait()
        if self._adviser is not None:
            self._adviser.close()
        self.studio.close()
        self._env.close()
        self.journal.close()


def outlook(found: Outlook) -> dict[str, Any]:
    return {
        "strip": "data:image/webp;base64," + base64.b64encode(found.strip.image).decode(),
        "frames": found.strip.frames,
        "return": found.value,
        "ended": found.ended,
        "seconds": found.seconds,
    }
