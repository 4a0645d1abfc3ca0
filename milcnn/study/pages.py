"""HTML pages from the templates beside this module. They load nothing from the internet."""

from pathlib import Path
from typing import Any

import jinja2

from milcnn.files import written_whole


def write_page(path: Path, template: str, **values: Any) -> None:
    """Write ``template`` with ``values``, every one escaped, to ``path``, whole or not at all."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    with written_whole(path) as temporary:
        temporary.write_text(environment.get_template(template).render(**values), encoding="utf-8")
