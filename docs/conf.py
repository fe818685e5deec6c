"""The site: `make docs` writes it to docs/_build. It is built without a request, and without torch."""

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from settings_page import settings_page  # noqa: E402 - from this folder

from bloodcell.runtime.version import __version__  # noqa: E402 - from the checkout

project, author = "bloodcell", "The bloodcell authors"
copyright = f"2026, {author}. MIT licence. Not a medical device"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme, html_title = "furo", f"bloodcell {version}"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = html_copy_source = False

# A link to a heading that does not exist is an error, as is one to a page or a file that does not.
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# The signatures and docstrings of Python files, without the packages that these import, and without our own modules
# that do more with these than import them, as `Tensor | Rows`.
autodoc_mock_imports = [
    "PIL", "cleanlab", "cv2", "jinja2", "matplotlib", "numpy", "onnx", "onnxruntime", "pandas", "platformdirs",
    "pytorch_lightning", "scipy", "simplejpeg", "sklearn", "threadpoolctl", "tifffile", "timm", "torch",
    "torchmetrics", "torchvision",
    "bloodcell.data.image_paths", "bloodcell.data.whole_slides", "bloodcell.inference.adaptation",
    "bloodcell.inference.engine", "bloodcell.inference.ensemble", "bloodcell.inference.fields",
    "bloodcell.inference.groups", "bloodcell.inference.loader", "bloodcell.inference.predict",
]  # fmt: skip
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_ivar = True
default_role = "code"
highlight_language = "bash"
nitpick_ignore_regex = [
    (r"py:.*", r"(np|numpy|pd|pandas|os|pathlib|collections)\..*|(.*\.)?ImageLike|Any|Path|PathLike|Iterable")
]


def setup(app: Any) -> None:
    """Fill the page of all settings from the configuration's comments, and the tutorial from its notebook."""
    app.connect("source-read", _fill)


def _fill(_app: Any, page: str, source: list[str]) -> None:
    if page == "configuration":
        source[0] += settings_page()
    if page == "tutorial":
        source[0] += _notebook()


def _notebook() -> str:
    """Return the cells of the tutorial as Markdown, with headings one level down."""
    cells = json.loads((HERE / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = []
    for cell in cells:
        text = "".join(cell["source"])
        texts.append(
            re.sub("^#", "##", text, flags=re.M) if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        )
    return "\n\n" + "\n\n".join(texts) + "\n"
