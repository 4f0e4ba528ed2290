"""Parts fitted to recorded data, saved, loaded and put together: on a linear system, of which all is known."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import AGENTS
from toys import Toy

from foreplan import presets
from foreplan.agents.bc import BC
from foreplan.agents.mbmpc import MBMPC
from foreplan.cli import main
from foreplan.commands.plan import choose
from foreplan.core.errors import UsageError
from foreplan.core.fitting import Fitting
from foreplan.core.model import Model, proposals, returns
from foreplan.core.types import Spec
from foreplan.data import npz
from foreplan.data.dataset import About, Dataset, demonstration, faults
from foreplan.envs import names
from foreplan.planners.random_shooting import RandomShooting
from foreplan.run.loop import train
from foreplan.run.parts import Part, load, load_all, together
from foreplan.run.pretrain import Pretraining, fit_parts, load_data, possible, spec_of
from foreplan.run.saved import Saved
from foreplan.run.settings import Settings, Warm
from foreplan.worlds.composed import Parts, compose, compose_members
from foreplan.worlds.ensemble import Network
from foreplan.worlds.fitting import WorldFitting
from foreplan.worlds.value import ValueFitting, ValueNetwork

A = np.array([[0.8, 0.1], [-0.1, 0.7]])
B = np.array([0.1, 0.2])
C = np.array([1.0, -0.5])  # the reward is C x + 0.3 a
DISCOUNT = 0.9
QUICK = Fitting(lr=3e-3, batch_size=64, max_epochs=60, patience=10, hold_out=0.2)
TINY = Pretraining(
    data="",
    network=Network(members=2, elites=1, probabilistic=False, layers=1, width=32, head_layers=1, head_width=32),
    world=WorldFitting(QUICK, targets="next"),
    value_network=ValueNetwork(heads=1, widths=(32,)),
    value=ValueFitting(discount=DISCOUNT, fitting=QUICK),
    policy=BC(widths=(16,), fitting=replace(QUICK, max_epochs=10)),
)


def linear(episodes: int = 120, env: str = "") -> Dataset:
    """Episodes of 20 steps under actions of mean 0 that know nothing of the state; all end by truncation."""
    random, rows = np.random.default_rng(0), []
    for episode in range(episodes):
        x = random.uniform(-1, 1, 2)
        for t in range(20):
            action = random.uniform(-1, 1)
            after = A @ x + B * action
            rows.append((x, [action], C @ x + 0.3 * action, False, t == 19, after, episode))
            x = after
    columns = ("obs", "action", "reward", "terminated", "truncated", "next_obs", "episode")
    arrays = {name: np.array(column) for name, column in zip(columns, zip(*rows, strict=True), strict=True)}
    for name in ("obs", "next_obs"):  # as they are stored, so that each is followed by the one it led to
        arrays[name] = arrays[name].astype(np.float32)
    return demonstration(About(env), **arrays)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="module")
def fitted(out: Path) -> dict[str, Part]:
    said: list[str] = []
    npz.save(out / "linear.npz", linear())
    made = fit_parts(replace(TINY, data=str(out / "linear.npz")), out, said.append)
    assert [part.kind for part in made] == ["dynamics", "reward", "value", "policy"]
    assert said[0].startswith("no continuation: ")
    return {part.kind: part for part in made}


def points(number: int = 100) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.8, 0.8, (number, 2)).astype(np.float32)


def true_value(x: np.ndarray) -> np.ndarray:
    """C (1 - discount A)^-1 x: actions of mean 0 add nothing."""
    return x @ np.linalg.inv(np.eye(2) - DISCOUNT * A).T @ C


def test_dynamics_reward_and_value_are_those_of_the_system(fitted: dict[str, Part]) -> None:
    x, a = points(), np.random.default_rng(2).uniform(-1, 1, (100, 1)).astype(np.float32)
    law = (x @ A.T + B * a).astype(np.float32)
    best = {
        kind: jax.tree.map(lambda leaf: leaf[0], fitted[kind].module.members(fitted[kind].module.elites))
        for kind in ("dynamics", "reward")
    }
    np.testing.assert_allclose(jax.vmap(best["dynamics"].predict)(x, a)[0], law, atol=0.03)
    np.testing.assert_allclose(jax.vmap(best["reward"].reward)(x, a, law), x @ C + 0.3 * a[:, 0], atol=0.06)
    error = np.asarray(jax.vmap(fitted["value"].module)(x)) - true_value(x)
    assert np.sqrt(np.mean(error**2)) < 0.2 * np.std(true_value(x))
    assert abs(np.mean(error)) < 0.1 * np.std(true_value(x))


def test_hold_out_scores_and_curves_are_kept(fitted: dict[str, Part]) -> None:
    for kind in ("dynamics", "reward", "value"):
        curve, scores = fitted[kind].curve, fitted[kind].scores
        assert curve[0] > 0.5
        assert min(curve) < (0.3 if kind == "value" else 0.02)  # returns are noisy: nobody knows what will be done
        assert min(v for name, v in scores.items() if "error" in name) < 0.3
    assert fitted["dynamics"].data["held_out"] is True


def test_a_saved_part_loads_to_the_same_numbers(fitted: dict[str, Part], out: Path) -> None:
    for kind, part in fitted.items():
        again = load(out / kind, kind)  # type: ignore[arg-type]
        assert jax.tree.structure(again.module) == jax.tree.structure(part.module)
        for one, other in zip(jax.tree.leaves(again.module), jax.tree.leaves(part.module), strict=True):
            np.testing.assert_array_equal(one, other)
        assert replace(again, module=None) == replace(part, module=None)
    assert {path.name for path in (out / "value").iterdir()} == {"state.json", "weights.safetensors", "SHA256SUMS"}


class Linear(Model):
    """The true system. Its state counts decisions, too; its reward is wrong on purpose."""

    def step(self, state: Any, action: Any, key: Any) -> Any:
        after = jnp.float32(A) @ state["x"] + jnp.float32(B) * action[0]
        return {"x": after, "t": state["t"] + 1}, jnp.float32(100.0), jnp.ones(())


def expected(x: np.ndarray, actions: np.ndarray) -> float:
    total = 0.0
    for t, a in enumerate(actions[:, 0]):
        total += DISCOUNT**t * (C @ x + 0.3 * a)
        x = A @ x + B * a
    return total + DISCOUNT ** len(actions) * float(true_value(x))


@pytest.mark.parametrize("learned", ["all", "all but the dynamics"])
def test_a_plan_returns_what_the_formula_says(fitted: dict[str, Part], learned: str) -> None:
    """G = sum discount^t R + discount^H V, with a part of each kind; the value is known to a fifth only."""
    parts, x = together(fitted), points(1)[0]  # type: ignore[arg-type]
    actions = np.array([[1.0], [-0.5], [0.25], [1.0], [1.0], [1.0]], np.float32)
    if learned == "all":
        model, state = jax.tree.map(lambda leaf: leaf[0], compose_members(parts)), jnp.asarray(x)
    else:
        model = compose(Linear(), parts, lambda state: state["x"])
        state = {"x": jnp.asarray(x), "t": jnp.zeros((), jnp.int32)}
    found = returns(model, state, jnp.asarray(actions), jax.random.key(0))
    assert float(found) == pytest.approx(expected(x, actions), abs=0.25)
    offered = proposals(model, state, 7, 3, jax.random.key(0))
    assert offered is not None
    assert offered.shape == (3, 7, 1)
    assert np.abs(offered).max() <= 1.0


def test_a_part_judges_what_truly_came(fitted: dict[str, Part]) -> None:
    """A reward is asked of the part with the outcome that is given, not with the one that the body foretells; without
    a part, of the body."""
    parts, x, key = together(fitted), jnp.asarray(points(1)[0]), jax.random.key(0)  # type: ignore[arg-type]
    state, came = ({"x": at, "t": jnp.zeros((), jnp.int32)} for at in (x, x + 1.0))
    model, action = compose(Linear(), parts, lambda state: state["x"]), jnp.ones((1,))
    assert parts.reward is not None
    elites = parts.reward.members(parts.reward.elites)
    said = jax.vmap(lambda member: member.reward(x, action, x + 1.0))(elites)
    assert float(model.earned(state, action, came, key)) == pytest.approx(float(jnp.mean(said)), rel=1e-5)
    alone = compose(Linear(), Parts(), lambda state: state["x"])
    assert float(alone.earned(state, action, came, key)) == 100.0


def test_without_parts_a_body_is_what_it_was() -> None:
    model = compose(Linear(), Parts(), lambda state: state["x"])
    state = {"x": jnp.zeros(2), "t": jnp.zeros((), jnp.int32)}
    assert float(returns(model, state, jnp.zeros((3, 1)), jax.random.key(0))) == 300.0
    assert proposals(model, state, 3, 2, jax.random.key(0)) is None


def test_the_fingerprint_is_of_the_data_alone(tmp_path: Path) -> None:
    data = linear(3)
    again = npz.load(npz.save(tmp_path / "elsewhere.npz", data))
    assert again.fingerprint == data.fingerprint
    assert replace(data, reward=data.reward + 1e-3).fingerprint != data.fingerprint


def test_parts_that_do_not_fit_are_refused_with_the_shapes_of_both(fitted: dict[str, Part]) -> None:
    spec = fitted["dynamics"].spec
    fitted["dynamics"].check("anything", spec)  # the environment of the data is not known
    wrong = r"the dynamics has observations \[2\] and 1 continuous actions; dmc/x has observations \[3\] and 2 cont"
    with pytest.raises(UsageError, match=wrong):
        fitted["dynamics"].check("dmc/x", replace(spec, obs_shape=(3,), action_dim=2))
    known = {kind: replace(part, env="a/walk", spec=replace(spec, action_repeat=2)) for kind, part in fitted.items()}
    known["dynamics"].check("a/run", replace(spec, action_repeat=2))  # laws are the same for all tasks
    with pytest.raises(UsageError, match="the reward was made for a/walk, not for a/run"):
        known["reward"].check("a/run", replace(spec, action_repeat=2))
    with pytest.raises(UsageError, match="action repeat 2, not 4"):
        known["dynamics"].check("a/walk", replace(spec, action_repeat=4))


def test_what_is_damaged_or_no_part_is_refused(fitted: dict[str, Part], out: Path, tmp_path: Path) -> None:
    fitted["reward"].save(tmp_path)
    weights = tmp_path / "reward" / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UsageError, match=r"reward is damaged, or no part: weights.safetensors has changed"):
        load(tmp_path, "reward")
    with pytest.raises(UsageError, match="is a value; a reward is needed here"):
        load(out / "value", "reward")
    with pytest.raises(UsageError, match="holds no continuation: a folder that"):
        load(out, "continuation")
    with pytest.raises(UsageError, match="holds no parts"):
        load_all(str(tmp_path / "nothing"), {})
    assert load_all(str(out), {"value": str(out / "value")}).keys() == fitted.keys()


def test_a_part_names_no_code(fitted: dict[str, Part], tmp_path: Path) -> None:
    from foreplan.run import checkpoint

    path = fitted["value"].save(tmp_path)
    state = checkpoint.load(path)
    state["part"]["form"]["class"] = "os:path"
    checkpoint.write(path, state)
    with pytest.raises(UsageError, match="which is no form of a part"):
        load(path, "value")


# ---------------------------------------------------------------------- to begin a run with
def learned(dynamics: Any) -> jax.Array:
    member = jax.tree.map(lambda leaf: leaf[0], dynamics.members(dynamics.elites))
    x, a = points(), jnp.linspace(-1.0, 1.0, 100)[:, None]
    return jax.vmap(member.predict)(x, a)[0]


def test_a_run_begins_with_parts_and_leaves_them_alone_if_frozen(
    fitted: dict[str, Part], out: Path, tmp_path: Path
) -> None:
    """Through two fits of what is still to be learned, in the units of other data."""
    agent = MBMPC(
        RandomShooting(horizon=2, num_samples=8),
        fitting=WorldFitting(replace(QUICK, max_epochs=1)),
        every=40,
        value="td",
    )
    warm = Warm(parts=str(out), freeze=True)
    settings = Settings("toys:walk", steps=160, eval_every=160, eval_episodes=1, log_every=160, warm=warm)
    saved = Saved.open(train(agent, settings, tmp_path / "run"))
    assert saved.agent.network == TINY.network  # type: ignore[attr-defined]
    assert saved.agent.fitting.frozen == ("dynamics", "reward")  # type: ignore[attr-defined]
    with closing(names.make("toys:walk")) as env:
        learner: Any = saved.learner(env)
    world = learner.world
    assert int(world.fits) > int(fitted["dynamics"].module.fits)
    assert not np.allclose(world.scaling.input_std, fitted["dynamics"].module.scaling.input_std, rtol=0.05)
    np.testing.assert_allclose(learned(world), learned(fitted["dynamics"].module), atol=1e-4)
    again = load(tmp_path / "run", "dynamics")
    np.testing.assert_array_equal(learned(again.module), learned(world))
    assert (again.env, again.form, again.spec.action_repeat) == ("toys:walk", TINY.network, 2)
    found = load(tmp_path / "run", "value").module
    np.testing.assert_array_equal(jax.vmap(found)(points()), jax.vmap(learner.value)(points()))
    with pytest.raises(UsageError, match="MBMPC has learned no policy that stands by itself"):
        load(tmp_path / "run", "policy")
    with pytest.raises(UsageError, match="name it by the part that is wanted, such as --dynamics"):
        load_all(str(tmp_path / "run"), {})


def begun(agent: Any, out: Path, **warm: Any) -> tuple[Any, Any]:
    """A short run's agent and what it has learned."""
    settings = Settings("toys:walk", steps=160, eval_every=160, eval_episodes=1, log_every=160, warm=Warm(**warm))
    saved = Saved.open(train(agent, settings, out))
    with closing(names.make("toys:walk")) as env:
        return saved.agent, saved.learner(env)


@pytest.mark.parametrize(
    ("target", "freeze", "then"), [("none", False, "given"), ("td", True, "given"), ("td", False, "td")]
)
def test_a_run_begins_with_a_value(
    target: Any, freeze: bool, then: str, fitted: dict[str, Part], out: Path, tmp_path: Path
) -> None:
    """Its form and its discount are the part's; it is fitted further where the agent fits one, and it is not frozen."""
    fitting = WorldFitting(replace(QUICK, max_epochs=1))
    agent = MBMPC(RandomShooting(horizon=2, num_samples=8), fitting=fitting, every=40, value=target)
    agent, learner = begun(agent, tmp_path / "run", value=str(out), freeze=freeze)
    assert (agent.value, agent.value_network, agent.discount) == (then, TINY.value_network, DISCOUNT)
    found, part = (np.asarray(jax.vmap(value)(points())) for value in (learner.value, fitted["value"].module))
    assert np.allclose(found, part, atol=1e-6) == (then == "given")
    assert load(tmp_path / "run", "value").form == TINY.value_network


def test_a_policy_acts_in_the_seed_steps(fitted: dict[str, Part], out: Path, tmp_path: Path) -> None:
    begun(Toy(random_decisions=40), tmp_path / "run", policy=str(out))
    data = load_data(str(tmp_path / "run"), print)
    own = jax.vmap(lambda obs: fitted["policy"].module.act(obs, jax.random.key(0), False))(data.obs)
    same = np.isclose(own, data.action, atol=1e-6).all(axis=1)
    assert same[:40].all()
    assert not same[40:].all()


@pytest.mark.parametrize("name", ["sac", "simba", "mbpo"])
def test_an_actor_and_its_critics_are_parts(name: str, tmp_path: Path) -> None:
    """In the units of the rewards: worth what the agent itself says, and what it would do."""
    agent: Any = AGENTS[name]
    settings = Settings("toys:walk", steps=200, num_envs=2, eval_every=200, eval_episodes=1, log_every=200)
    saved = Saved.open(train(agent, settings, tmp_path / "run"))
    assert np.isfinite(saved.evaluate(3).mean)  # whatever number of environments it was trained in
    with closing(names.make("toys:walk")) as env:
        learner: Any = saved.learner(env)
    sac, learned = (agent.sac, learner.sac) if name == "mbpo" else (agent, learner)
    parts = {kind: load(tmp_path / "run", kind) for kind in ("value", "policy")}  # type: ignore[arg-type]
    value, policy, obs = parts["value"].module, parts["policy"].module, jnp.asarray(points())
    unit = 1.0 if name != "simba" else float(learned.statistics.returns.value(sac.data.scale_returns))
    said = unit * np.asarray(sac.value(learned, obs))
    assert (unit != 1.0) == (name == "simba")
    np.testing.assert_allclose(jax.vmap(value)(obs), said, rtol=1e-4, atol=1e-5)
    each = eqx.filter_vmap(lambda one, obs: one(obs), in_axes=(eqx.if_array(0), None))(value.each(3), obs[0])
    np.testing.assert_allclose(each, np.repeat(said[0], 3), rtol=1e-4)
    apart = unit * np.std(np.asarray(sac.head_values(learned, obs)), axis=0)
    np.testing.assert_allclose(jax.vmap(replace(value, caution=2.0))(obs), said - 2.0 * apart, rtol=1e-3, atol=1e-4)
    assert float(value.discount) == pytest.approx(sac.discount)
    key = jax.random.key(1)
    done = jnp.stack([policy.act(each, key, False) for each in obs[:5]])
    own = sac.modes(jax.vmap(learned.policy)(sac.seen_as(learned, obs[:5])))
    np.testing.assert_allclose(done, own, atol=1e-5)
    assert np.std(np.asarray(jax.vmap(lambda k: policy.act(obs[0], k, True))(jax.random.split(key)))) > 0
    run = str(tmp_path / "run")
    size = ["--options.horizon", "2", "--options.num-samples", "8", "--options.num-elites", "4", "--episodes", "1"]
    plan = ["plan", "toys:walk", "--value", run, "--policy", run, "--planner", "mppi", *size]
    assert main([*plan, "--out", str(tmp_path / "plan")]) == 0


def test_a_runs_buffer_is_a_data_set(tmp_path: Path) -> None:
    settings = Settings("toys:walk", steps=400, num_envs=2, eval_every=400, eval_episodes=1, log_every=400)
    train(Toy(), settings, tmp_path / "run")
    data = load_data(str(tmp_path / "run"), print)
    assert faults(data) == []
    assert (len(data), data.about.env, data.about.action_repeat) == (200, "toys:walk", 2)
    assert len({number for number, _ in data.episodes()}) == len(list(data.episodes())) > 4
    np.testing.assert_array_equal(data.label, data.action)
    assert spec_of(data).obs_shape == (2,)


@pytest.mark.parametrize(
    ("agent", "warm", "said"),
    [
        ("sac", {}, "SAC has no parts to begin with; mbmpc, pets and mbpo have"),
        ("mbmpc", {"env": "jax/pendulum"}, r"observations \[2\] and 1 continuous actions; jax/pendulum has"),
        ("known", {}, "the reward is cases:shapes and not learned"),
        ("mbmpc", {"parts": "nowhere"}, "nowhere holds no parts"),
        ("mbpo", {"value": "OUT"}, "MBPO plans with no value to begin with; mbmpc and pets do"),
        ("planned", {"value": "OUT"}, "a value that is planned begins anew at every fit"),
        ("given", {}, "the agent's value is 'given', and none is: name it with --value"),
        ("sac", {"parts": None, "policy": "OUT", "env": "jax/pendulum"}, r"the policy has observations \[2\].*has"),
    ],
)
def test_a_run_that_cannot_begin_with_parts_is_refused(
    agent: str, warm: dict[str, str | None], said: str, fitted: dict[str, Part], out: Path, tmp_path: Path
) -> None:
    warm = {name: str(out) if value == "OUT" else value for name, value in warm.items()}
    env = warm.pop("env", "toys:walk")
    own: dict[str, Any] = {
        "known": {"reward": "cases:shapes"},
        "planned": {"value": "plan"},
        "given": {"value": "given"},
    }
    made = replace(presets.preset("mbmpc"), **own[agent]) if agent in own else presets.preset(agent)
    settings = Settings(str(env), steps=10, warm=Warm(**{"parts": str(out)} | warm))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=said):
        train(made, settings, tmp_path / "run")


def test_freezing_needs_parts() -> None:
    with pytest.raises(UsageError, match="freeze is given without parts"):
        Warm(freeze=True)
    with pytest.raises(UsageError, match="init and policy are both given"):
        Warm(init="run", policy="part")


# ---------------------------------------------------------------------- from the command line
PLAIN = ["--network.members", "1", "--network.elites", "1", "--network.no-probabilistic", "--world.targets", "delta"]


def written(path: Path, drop: str = "", steps: int | None = None, **changes: Any) -> str:
    arrays = {name: array[:steps] for name, array in linear(4).arrays.items()}
    plain = {name: arrays[name] for name in (*npz.REQUIRED, "labelled") if name != drop} | changes
    np.savez(path, **plain)
    return str(path)


def test_of_data_without_rewards_the_rest_is_fitted(tmp_path: Path) -> None:
    said: list[str] = []
    name = written(tmp_path / "d.npz", drop="reward")
    data = load_data(name, said.append)
    assert data.about.rewards is False
    assert possible(replace(TINY, data=name), data, said.append) == ["dynamics", "policy"]
    assert [line.split(":")[0] for line in said] == ["no reward", "no value", "no continuation"]


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        (["--parts", "reward"], {"drop": "reward"}, "holds no rewards, so that no reward can be fitted"),
        (["--parts", "dynamics", "value"], {"drop": "reward"}, "holds no rewards, so that no value can be fitted"),
        (["--parts", "continuation"], {}, "holds no termination: nothing says where episodes end"),
        (["--parts", "policy"], {"labelled": np.zeros(80, np.bool_)}, "holds no labels"),
        (["--parts", "critic"], {}, "critic"),
        (["--value.target", "mc"], {}, "mc"),
        (["--episodes", "0"], {}, "episodes is 0"),
        (["--every", "0"], {}, "every is 0"),
        ([], {"steps": 0}, "is empty"),
        ([], {"drop": "next_obs"}, "has no 'next_obs'"),
    ],
)
def test_data_that_teach_nothing_are_refused_in_one_line(
    arguments: list[str], changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = written(tmp_path / "d.npz", **changes)
    assert main(["fit", data, *arguments, "--out", str(tmp_path / "out")]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kinds", "more", "planner"),
    [
        (("dynamics", "reward", "policy"), [], "mbop"),
        (("dynamics", "reward"), [], "icem"),
        (("dynamics", "reward"), ["--policy", "runs/x"], "mbop"),
        (("dynamics", "reward", "policy"), ["--planner", "cem"], "cem"),
    ],
)
def test_behaviour_is_planned_close_to(kinds: tuple[str, ...], more: list[str], planner: str, tmp_path: Path) -> None:
    for kind in kinds:
        (tmp_path / kind).mkdir()
    assert choose(["jax/pendulum", "--parts", str(tmp_path), *more]).name == planner


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--parts", "{out}"], "has observations [2] and 1 continuous actions; jax/pendulum has observations [3]"),
        (["--dynamics", "{out}"], "learned dynamics do not say the reward"),
        (["--value", "nowhere"], "nowhere holds no value"),
        (["--parts", "nowhere"], "nowhere holds no parts"),
        (["--dynamics", "{out}", "--reward", "cases:nothing"], "unknown function 'nothing'"),
        (["--model", "runs/x", "--value", "{out}"], "runs/x"),
    ],
)
def test_plans_with_parts_that_cannot_be_are_refused_in_one_line(
    arguments: list[str],
    said: str,
    fitted: dict[str, Part],
    out: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    filled = [word.format(out=out) for word in arguments]
    env = "toys:walk" if "cases:nothing" in arguments else "jax/pendulum"  # which has two observations, too
    assert main(["plan", env, *filled, "--out", str(tmp_path)]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1


def pendulum() -> Dataset:
    """20 episodes of sticky random actions."""
    random, env = np.random.default_rng(0), names.make("jax/pendulum", num_envs=20)
    timestep, action, rows = env.reset(0), np.zeros((20, 1), np.float32), []
    for _ in range(200):
        action = np.where(random.random((20, 1)) < 0.2, random.uniform(-1, 1, (20, 1)), action).astype(np.float32)
        env.send(action)
        after = env.recv()
        rows.append((timestep.obs, action, after.reward, after.terminated, after.truncated, after.obs, np.arange(20)))
        timestep = after
    stacked = [np.swapaxes(np.stack(column), 0, 1) for column in zip(*rows, strict=True)]
    arrays = {name: x.reshape(-1, *x.shape[2:]) for name, x in zip(npz.REQUIRED, stacked, strict=True)}
    return demonstration(About("jax/pendulum", action_repeat=1), **arrays)


def test_a_planner_solves_a_task_with_parts_that_learned_from_chance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sticky random actions return -1200 on average, and the best of the episodes -700; a swing-up costs 100 to 400."""
    data = pendulum()
    assert data.returns.max() < -600
    npz.save(tmp_path / "chance.npz", data)
    parts, options = str(tmp_path / "parts"), ["--network.layers", "2", "--network.width", "32", *PLAIN]
    options += ["--world.fitting.max-epochs", "40", "--world.fitting.batch-size", "64", "--world.fitting.lr", "3e-3"]
    assert main(["fit", str(tmp_path / "chance.npz"), "--parts", "dynamics", "reward", "--out", parts, *options]) == 0
    assert "data:image/png" in (tmp_path / "parts" / "report.html").read_text()
    options = ["--planner", "icem", "--options.horizon", "20", "--options.iterations", "2", "--json"]
    assert main(["plan", "jax/pendulum", "--parts", parts, "--out", str(tmp_path / "plan"), *options]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert answer["mean"] > -350
    assert "Planned in learned dynamics, reward." in Path(answer["report"]).read_text()
    assert json.loads((tmp_path / "plan" / "config.json").read_text())["parts"].keys() == {"dynamics", "reward"}


def test_specs_of_data() -> None:
    assert spec_of(linear(1)) == Spec(obs_shape=(2,), action_dim=1, action_repeat=0, terminates=False)


def test_of_mixed_data_the_best_episodes_alone_may_teach_the_policy(tmp_path: Path) -> None:
    """Every third episode does 0.5 and is paid, the others do -0.5 for nothing."""
    data = linear(30)
    good = (data.episode % 3 == 0)[:, None]
    action = np.where(good, 0.5, -0.5).astype(np.float32)
    mixed = replace(data, action=action, label=action, reward=good[:, 0].astype(np.float32))
    npz.save(tmp_path / "mixed.npz", mixed)
    config = replace(TINY, data=str(tmp_path / "mixed.npz"), parts=("policy",), policy_share=1 / 3)
    for share, labels, done in ((1 / 3, 200, 0.5), (1.0, 600, -0.5)):
        (part,) = fit_parts(replace(config, policy_share=share), tmp_path / str(labels), lambda said: None)
        assert part.scores["labels"] == labels
        actions = jax.vmap(lambda obs, policy=part.module: policy.decided(jnp.mean(policy.modes(obs), axis=0)))(
            jnp.asarray(data.obs[:50])
        )
        assert np.mean(np.sign(actions) == np.sign(done)) > 0.9

    npz.save(tmp_path / "unpaid.npz", replace(mixed, about=replace(mixed.about, rewards=False)))
    with pytest.raises(UsageError, match="cannot tell which episodes are the best"):
        fit_parts(replace(config, data=str(tmp_path / "unpaid.npz")), tmp_path, lambda said: None)
