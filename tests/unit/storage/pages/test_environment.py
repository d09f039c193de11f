from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import UndefinedError

from storage.pages.environment import page_environment

PAGE = """{% extends "base.html.j2" %}
{% from "macros.html.j2" import named, scroll %}
{% block what %}test{% endblock %}
{% block subject %}{{ name }}{% endblock %}
{% block main %}
{% call scroll("All") %}{{ named(name) }}{% endcall %}
{{ 1234 | thousands }} {{ 0.5 | percent }}{% endblock %}
"""


def rendered(folder: Path, **values: object) -> str:
    (folder / "page.html.j2").write_text(PAGE)
    return page_environment(folder).get_template("page.html.j2").render(values)


def test_a_page_is_whole_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    page = rendered(tmp_path, name="a/<b>")
    assert page.startswith("<!doctype html>")
    assert "<title>faceshards test: a/&lt;b&gt;</title>" in page
    assert "<code>a/<wbr>&lt;b&gt;</code>" in page
    assert "1,234 50.0%" in page
    assert ":root {" in page
    assert "<script" not in page


def test_a_name_that_is_not_given_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="'name' is undefined"):
        rendered(tmp_path)
