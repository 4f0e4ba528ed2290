"""The floors of the house (DESIGN, section 3), by reading the source: imports go down only, and have no effects."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import foreplan

ROOT = Path(foreplan.__file__).parent
FLOORS = [
    {"core", "nn"},
    {"planners", "worlds", "sims", "envs", "data"},
    {"agents"},
    {"run", "insight", "controller"},
    {"__main__", "cli", "commands", "presets", "label", "guard"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
ALONE = {"core": set(), "nn": {"core"}, "planners": {"core"}}  # may import these and nothing else of foreplan
NEIGHBOURS = {("sims", "envs")}  # of one floor, yet known to each other
EFFECTS = {"gl.configure()"}  # MuJoCo reads MUJOCO_GL when it is imported, so it is set just before
SOURCES = sorted(ROOT.rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of(module: str) -> str | None:
    """The package below foreplan that a dotted name belongs to; None for the root and for other libraries."""
    names = module.split(".")
    return names[1] if names[0] == "foreplan" and len(names) > 1 else None


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, those within functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full, not relative"
            if node.module == "foreplan":
                yield from ((node.lineno, f"foreplan.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module or ""


def allowed(user: str, used: str) -> bool:
    if user == used:
        return True
    if user in ALONE:
        return used in ALONE[user]
    doors = FLOOR[user] == FLOOR[used] == len(FLOORS) - 1
    return FLOOR[used] < FLOOR[user] or (user, used) in NEIGHBOURS or doors


def forbidden(part: str, source: str) -> list[str]:
    """The imports, in a file of `part`, that go up or sideways."""
    used = [(line, module, part_of(module)) for line, module in imports(ast.parse(source))]
    return [f"line {line}: {module}" for line, module, other in used if other is not None and not allowed(part, other)]


def test_every_part_has_a_floor() -> None:
    parts = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in SOURCES} - {"__init__", "__main__"}
    assert parts <= set(FLOOR), f"no floor is known for {parts - set(FLOOR)}"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_go_down_only(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert part == "__init__" or forbidden(part, path.read_text()) == []


def test_what_the_rule_forbids() -> None:
    assert forbidden("agents", "import jax\nfrom foreplan.planners.mppi import MPPI") == []
    assert forbidden("planners", "def f():\n    from foreplan.run import loop") == ["line 2: foreplan.run"]
    assert forbidden("planners", "from foreplan import worlds") == ["line 1: foreplan.worlds"]
    assert forbidden("core", "import foreplan.nn.nets") == ["line 1: foreplan.nn.nets"]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_effects_on_import(path: Path) -> None:
    """At module level there are definitions, constants and imports only: nothing is configured, set or written."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.If):
            test = ast.unparse(node.test)
            assert test in {"TYPE_CHECKING", "__name__ == '__main__'"}, f"{path.name}:{node.lineno} decides on import"
            continue
        bare_call = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
        bare_call = bare_call and ast.unparse(node) not in EFFECTS
        assert not bare_call, f"{path.name}:{node.lineno} acts on import: {ast.unparse(node)}"
        if isinstance(node, ast.Assign):
            targets = [ast.unparse(target) for target in node.targets if not isinstance(target, ast.Name | ast.Tuple)]
            assert not targets, f"{path.name}:{node.lineno} sets {targets[0]} on import"
        assert not isinstance(node, ast.For | ast.While | ast.With | ast.Try), (
            f"{path.name}:{node.lineno} runs on import"
        )
