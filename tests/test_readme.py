"""The README keeps its word: its Python runs, its commands are understood, and the Chinese one says the same."""

import re
from pathlib import Path
from typing import Any

import pytest

from foreplan import cli

ROOT = Path(__file__).parents[1]
LANGUAGES = ["README.md", "README.zh-CN.md"]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("results/**/*.md")])
in_every_language = pytest.mark.parametrize("name", LANGUAGES)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text(name), re.DOTALL | re.MULTILINE)


def commands(name: str) -> list[str]:
    """The lines of the shell blocks, without their comments."""
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks(name, "sh") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("code", blocks("README.md", "python"))
def test_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """With 300 steps in place of 20,000, all of them before learning begins."""
    monkeypatch.chdir(tmp_path)
    assert "steps=20_000, eval_every=5_000" in code
    exec(compile(code.replace("steps=20_000, eval_every=5_000", "steps=300, eval_episodes=1"), "README.md", "exec"), {})
    assert "mean return after 300 environment steps: -" in capsys.readouterr().out


@pytest.mark.parametrize("line", commands("README.md"))
def test_commands_are_understood(line: str) -> None:
    program, *words = line.split()
    if program == "make":
        assert re.search(rf"^{words[0]}:", text("Makefile"), re.MULTILINE)
        return
    assert program == "foreplan"
    name, *argv = words
    kind: Any = cli.COMMANDS[name]
    parsed = cli.parse(kind.of(argv) if hasattr(kind, "of") else kind, argv, f"foreplan {name}")
    named = {key for key in ("steps", "episodes") if f"--{key} " in line} | {"dir", "env"}
    assert all(str(value) in line for key, value in vars(parsed).items() if key in named)


def anchors(page: Path) -> set[str]:
    """Of its headings, as the usual viewers of Markdown make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\[[^]]*\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        there = page.parent / target if target else page
        assert there.exists(), f"links to {target}, which is not there"
        assert not anchor or anchor in anchors(there), f"{target} has no heading for #{anchor}"


PLACES = [
    (page.name, *place)
    for page in sorted(ROOT.glob("docs/*.md"))
    for place in re.findall(r"`([\w.]+)` in `([\w/]+\.py)`", page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("page", "name", "file"), PLACES)
def test_what_the_pages_name_is_where_they_say(page: str, name: str, file: str) -> None:
    *_, last = name.split(".")
    assert re.search(rf"^ *((def|class) {last}\b|{last}:)", text(f"src/foreplan/{file}"), re.MULTILINE), (
        f"{page}: no such name"
    )


@in_every_language
def test_the_test_command_is_what_ci_runs(name: str) -> None:
    assert "make test" in commands(name)
    assert re.search(r"^exec make test\b", text(".ci/run"), re.MULTILINE)


def skeleton(name: str) -> dict[str, Any]:
    """What two languages must have in common."""
    python = [re.sub(r"\s+#.*", "", block) for block in blocks(name, "python")]
    quoted = re.sub(r"<[^>]*>", "<>", re.sub(r"```.*?```", "", text(name), flags=re.DOTALL))
    return {
        "headings": re.findall(r"^#+", text(name), re.MULTILINE),
        "items": len(re.findall(r"^- ", text(name), re.MULTILINE)),
        "python": python,
        "commands": commands(name),
        "words in code": sorted(re.findall(r"`([^`]+)`", quoted)),
        "pictures": re.findall(r"!\[[^]]*\]\(([^)]+)\)", text(name)),
    }


def test_both_languages_say_the_same() -> None:
    english, chinese = (skeleton(name) for name in LANGUAGES)
    for what in english:
        assert english[what] == chinese[what], what
