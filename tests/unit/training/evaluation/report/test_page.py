from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path


class Tags(HTMLParser):
    """Collects ids, links and whatever a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.links.append(value or "")


def test_the_page_stands_alone(out_dir: Path) -> None:
    page = (out_dir / "evaluation.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in tags.links)
    assert len(tags.ids) == len(set(tags.ids))
    assert {link[1:] for link in tags.links if link.startswith("#")} <= set(tags.ids)
    assert page.count("<img ") == 4 + 1 + 1  # examples, a sheet of Grad-CAM, a strip of levels
    assert "Gaussian noise: 5 · 10</figcaption>" in page


def test_names_cannot_become_tags(out_dir: Path) -> None:
    page = (out_dir / "evaluation.html").read_text()
    assert "&lt;b&gt;Deep&amp;fakes&lt;/b&gt;" in page
    assert "<b>Deep" not in page
    assert "<i>" not in page
    assert r"\<b\>Deep&fakes" in (out_dir / "evaluation.md").read_text()
