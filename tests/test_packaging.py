"""The wheel, in an environment that has nothing else."""

import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORT_ALL = """
import importlib, pathlib, pkgutil, foreplan
assert "site-packages" in foreplan.__file__, foreplan.__file__
names = [module.name for module in pkgutil.walk_packages(foreplan.__path__, "foreplan.")]
for name in [*names, *(f"foreplan:{public}" for public in foreplan.__all__)]:
    module, _, attribute = name.partition(":")
    found = importlib.import_module(module)
    assert not attribute or getattr(found, attribute), name
print(len(names))
"""


def run(*command: object, cwd: Path) -> str:
    """What a command prints; it sees neither the source tree nor this environment."""
    environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, text=True, capture_output=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_installs_and_every_module_imports(tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "clean", with_pip=True)
    scripts = tmp_path / "clean" / ("Scripts" if os.name == "nt" else "bin")
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    install += ["-c", ROOT / "constraints.txt"]
    run(scripts / "python", *install, wheel, cwd=tmp_path)
    modules = len(list((ROOT / "src" / "foreplan").rglob("*.py")))
    assert int(run(scripts / "python", "-c", IMPORT_ALL, cwd=tmp_path)) == modules - 1  # the root itself is not listed
    assert run(scripts / "foreplan", "--version", cwd=tmp_path).strip() == project()["version"]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_constraints_are_names_and_versions_only() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines)
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))
    assert "foreplan" not in names
    wanted = project()["dependencies"] + project()["optional-dependencies"]["dev"]
    assert {re.split(r"[^A-Za-z0-9_-]", line)[0].lower() for line in wanted} <= set(names)
