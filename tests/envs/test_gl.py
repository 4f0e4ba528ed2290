"""Drawing without a screen, or saying in one line that it cannot be done."""

import os
import subprocess
import sys

import numpy as np
import pytest

from foreplan.cli import main
from foreplan.envs import gl
from foreplan.envs.names import make

DRAW = """
from foreplan.core.errors import RenderUnavailable
from foreplan.envs.names import make
env = make({name!r}, render=True)
env.reset(0)
try:
    print(env.render().shape)
except RenderUnavailable as error:
    print(error)
env.close()
"""


def draw(name: str, **variables: str) -> str:
    inherited = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    command = [sys.executable, "-c", DRAW.format(name=name)]
    done = subprocess.run(command, env=inherited | variables, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["dmc/cartpole-swingup", "gym/InvertedPendulum-v5"])
def test_without_opengl_one_line_says_so(name: str) -> None:
    assert draw(name, MUJOCO_GL="disabled") == f"{name} cannot be rendered: no OpenGL here; {gl.ADVICE}"


@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_what_is_there_draws(backend: str) -> None:
    if not {"egl": gl.has_egl, "osmesa": gl.has_osmesa}[backend]():
        pytest.skip(f"no {backend} on this machine")
    assert draw("dmc/cartpole-swingup", MUJOCO_GL=backend) == "(240, 320, 3)"
    assert draw("gym/InvertedPendulum-v5", MUJOCO_GL=backend) == "(480, 480, 3)"


def test_a_users_choice_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    gl.configure()
    assert os.environ["MUJOCO_GL"] == "glfw"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere MuJoCo's own choice works")
@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ("osmessa", "unknown MUJOCO_GL 'osmessa'; did you mean 'osmesa'? (accepted: egl, osmesa, glfw, disabled)"),
        ("osmesa", "MUJOCO_GL is osmesa: not on this machine; accepted: egl, glfw, disabled"),
    ],
)
def test_a_choice_that_cannot_be_had_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wanted: str, complaint: str
) -> None:
    monkeypatch.setenv("MUJOCO_GL", wanted)
    monkeypatch.setattr(gl, "has_osmesa", lambda: False)
    monkeypatch.setattr(gl, "has_egl", lambda: True)
    assert main(["eval", "nowhere"]) == 2
    assert capsys.readouterr().err == f"foreplan: {complaint}\n"


@pytest.mark.parametrize(
    ("egl", "osmesa", "chosen"), [(True, True, "egl"), (False, True, "osmesa"), (False, False, "disabled")]
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere MuJoCo's own choice works")
def test_the_best_there_is_is_chosen(monkeypatch: pytest.MonkeyPatch, egl: bool, osmesa: bool, chosen: str) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(gl, "has_egl", lambda: egl)
    monkeypatch.setattr(gl, "has_osmesa", lambda: osmesa)
    gl.configure()
    assert os.environ["MUJOCO_GL"] == chosen


def test_a_picture_follows_the_state() -> None:
    env = make("jax/cartpole-swingup")
    env.reset(0)
    first = env.render()
    for _ in range(50):
        env.send(np.ones((1, 1), np.float32))
        env.recv()
    assert (env.render() != first).any()
