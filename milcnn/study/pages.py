"""HTML pages from the templates beside this module. They load nothing from the internet."""

import re
from html import escape
from itertools import count
from pathlib import Path
from typing import Any

import jinja2
import mistune

from milcnn.files import written_whole


def write_page(path: Path, template: str, **values: Any) -> None:
    """Write ``template`` with ``values``, every one escaped, to ``path``, whole or not at all."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    with written_whole(path) as temporary:
        temporary.write_text(environment.get_template(template).render(**values), encoding="utf-8")


def markdown_html(text: str, title: str) -> str:
    """Markdown ``text`` without its YAML head, as HTML below a heading of level 2; every tag in it is escaped.

    Wide tables and code scroll, also by keyboard. A table is called ``title`` and its number.
    """
    body = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    html = str(mistune.create_markdown(plugins=["table"])(body)).replace("<pre>", '<pre tabindex="0">')
    html = re.sub(r"(?<=<h|/h)[1-4](?=>)", lambda level: str(int(level[0]) + 2), html)
    number = count(1)

    def region(table: re.Match[str]) -> str:
        name = escape(f"{title}, table {next(number)}")
        return f'<div class="wide" role="region" tabindex="0" aria-label="{name}">{table[0]}</div>'

    return re.sub("<table>.*?</table>", region, html, flags=re.DOTALL)
