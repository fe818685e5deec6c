"""HTML pages: one self-contained file each, in one style."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from PIL import Image

from bloodcell.runtime.console import named
from bloodcell.runtime.io import write_text


def write_page(file: Path, package: str, template: str, **values: Any) -> None:
    """Write a page to a file; see `render`."""
    write_text(render(package, template, **values), file)


def render(package: str, template: str, **values: Any) -> str:
    """Return a page as text.

    The template is in `package`'s folder `templates` and extends page.html of `bloodcell.runtime`; values are escaped.
    """
    loader = ChoiceLoader([PackageLoader(package), PackageLoader("bloodcell.runtime")])
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"count": count, "percent": percent, "embedded": embedded, "size": size, "named": named}
    return pages.get_template(template).render(**values)


def count(number: float) -> str:
    """Return a whole number with separators: 12,515."""
    return f"{number:,.0f}"


def percent(share: float, digits: int = 1) -> str:
    """Return a share as a percentage with a no-break space: 57.3 %."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def size(picture: bytes) -> tuple[int, int]:
    """Return width and height of a PNG or JPEG file, in pixels."""
    with Image.open(io.BytesIO(picture)) as image:
        return image.size


def embedded(picture: bytes) -> str:
    """Return a PNG or JPEG file as a data URL."""
    kind = "jpeg" if picture.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"
