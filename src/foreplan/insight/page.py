"""One HTML file with everything in it, pictures and films too, so that it can be mailed and opened anywhere."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
img, video { max-width: 100%; } p.note { color: #777; }
table { border-collapse: collapse; } td, th { padding: .15rem 1.2rem .15rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid #ccc; } td.number, th.number { text-align: right; }
code { font-size: .9em; } details table { margin: .5rem 0 1rem; }
"""


def page(title: str, *parts: str) -> str:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join((f"<h1>{escape(title)}</h1>", *parts))
    return f"<!doctype html>\n<html lang='en'>\n<head>{head}</head>\n<body>\n{body}\n</body>\n</html>\n"


def section(title: str, *parts: str) -> str:
    return "\n".join((f"<h2>{escape(title)}</h2>", *parts))


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def image(path: Path, description: str) -> str:
    return f'<img alt="{escape(description)}" src="data:image/png;base64,{_base64(path)}">'


def video(path: Path) -> str:
    return f'<video controls loop muted autoplay src="data:video/mp4;base64,{_base64(path)}"></video>'


def table(rows: Sequence[Sequence[Any]], header: Sequence[str] = ()) -> str:
    """Numbers are set to the right."""

    def row(cells: Sequence[Any], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}{_class(cell)}>{escape(_text(cell))}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{row(header, 'th') if header else ''}{''.join(row(cells, 'td') for cells in rows)}</table>"


def settings(title: str, config: Mapping[str, Any], is_open: bool = False) -> str:
    """A configuration of any depth, folded away."""
    inner = table(list(flat(config).items()))
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>{inner}</details>"


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; the names of classes are left out."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif name != "class":
            found[prefix + name] = value
    return found


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _text(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:,.4g}" if abs(cell) < 1000 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)


def _class(cell: Any) -> str:
    return ' class="number"' if isinstance(cell, int | float) and not isinstance(cell, bool) else ""
