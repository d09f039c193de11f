"""Jinja environment of HTML pages; each page is one file without scripts and external resources.

A page's template extends `base.html.j2`, which has the document, its security policy and the shared style sheet, and
imports macros from `macros.html.j2`. Every value is escaped, except HTML values, which have an `__html__` method.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

SHARED_TEMPLATES_DIR = Path(__file__).parent / "templates"


def page_environment(templates_dir: Path) -> Environment:
    """Return a Jinja environment that finds a page's own templates and the shared ones.

    It adds four filters: `thousands` (1,234), `percent` (0.5 → 50.0%), `size` (bytes → 1.5 MB) and `jpeg` (an encoded
    JPEG → data URI). A name that a template uses without a value from the caller is an error.

    Args:
        templates_dir: folder of the page's own templates; they come before shared ones of the same name.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from rich import filesize

    environment = Environment(
        loader=FileSystemLoader([templates_dir, SHARED_TEMPLATES_DIR]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "thousands": "{:,}".format,
        "percent": "{:.1%}".format,
        "size": filesize.decimal,
        "jpeg": jpeg_uri,
    }
    return environment


def jpeg_uri(data: bytes) -> str:
    """Return the data URI of an encoded JPEG."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"
