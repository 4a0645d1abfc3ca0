"""An executed notebook as a page of the report."""

import base64
import io
import re
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from PIL import Image
from pygments.formatters import HtmlFormatter

from milcnn.study.pages import write_page


def write_notebook(notebook: Path, path: Path) -> None:
    """An executed notebook as a page. Its pictures are WebP, a quarter of PNG; each is described by the text before."""
    content = nbformat.read(notebook, as_version=4)
    text = ""
    for cell in content.cells:
        text = last_paragraph(cell.source) if cell.cell_type == "markdown" else text
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.metadata["image/png"] = {"alt": text}
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(content)
    body = re.sub('data:image/png;base64,([^"]+)', lambda found: webp(found[1]), body)
    write_page(
        path,
        "notebook.html.j2",
        title=path.stem,
        body=body,
        code=HtmlFormatter(style="xcode").get_style_defs(".highlight"),
    )


def last_paragraph(markdown: str) -> str:
    """The last paragraph of ``markdown`` on one line, without marks."""
    return " ".join(re.sub(r"[*`#]", "", markdown.strip().split("\n\n")[-1]).split())


def webp(png: str) -> str:
    """A PNG in base64 as the URI of a WebP picture."""
    written = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).save(written, "webp", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"
