"""The report of a store: the same bytes for the same store, and a page that is safe to open."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flows.report.page import SHARED_KINDS, build_report, read_report, write_report
from flows.report.text import summary_markdown
from manifests.datasets.ignored import Ignored, IgnoredReason, write_ignored
from manifests.errors import StoreCorrupt, StoreMissing
from manifests.leakage.audit import KINDS
from manifests.rejected import Reason, Stage
from manifests.videos_table import write_table
from storage.files.layout import REPORT_HTML_NAME, REPORT_JSON_NAME, VIDEOS_NAME
from tests.helpers.reports import CONFIG, EIGHT_ROWS, rejected, stored, write_store

VOID_TAGS = {"meta", "img", "link", "br", "hr", "input", "wbr"}


def test_the_same_store_gives_the_same_bytes_wherever_it_lies(eight: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(eight, moved, ignore=shutil.ignore_patterns("report.*"))
    write_report(moved)
    for name in (REPORT_JSON_NAME, REPORT_HTML_NAME):
        assert (moved / name).read_bytes() == (eight / name).read_bytes()


def test_json_is_the_report(eight: Path) -> None:
    written = json.loads((eight / REPORT_JSON_NAME).read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(asdict(build_report(eight))))


def test_a_written_report_is_read_without_computing_it_again(eight: Path, tmp_path: Path) -> None:
    store_dir = tmp_path / "store"
    shutil.copytree(eight, store_dir)
    (store_dir / VIDEOS_NAME).unlink()  # what it would be computed from
    assert read_report(store_dir) == build_report(eight)


@pytest.mark.parametrize("change", [{"config_digest": "of other settings"}, {"totals": {}}, {"complete": False}])
def test_a_report_of_another_state_or_version_is_computed_again(
    eight: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    store_dir = tmp_path / "store"
    shutil.copytree(eight, store_dir)
    path = store_dir / REPORT_JSON_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert read_report(store_dir) == build_report(eight)
    path.unlink()
    assert read_report(store_dir) == build_report(eight)


def test_interrupted_run_is_reported_as_far_as_it_came(tmp_path: Path) -> None:
    report = write_report(write_store(tmp_path, EIGHT_ROWS, finished=("train",)))
    assert not report.complete
    assert (report.num_stored, report.totals["num_pending"], report.totals["num_records"]) == (3, 2, 12)
    assert "2 pending; 12 records; incomplete, run again" in summary_markdown(report)
    assert "Incomplete: the last run did not finish" in (tmp_path / REPORT_HTML_NAME).read_text(encoding="utf-8")


def test_interrupted_run_counts_only_what_the_shards_hold(tmp_path: Path) -> None:
    write_store(tmp_path, EIGHT_ROWS, finished=("train", "val"))
    write_table(tmp_path / VIDEOS_NAME, EIGHT_ROWS)  # claims the test video, too
    totals = build_report(tmp_path).totals
    assert (totals["num_stored"], totals["num_pending"], totals["num_records"]) == (4, 1, 16)


def test_store_without_a_stored_video(tmp_path: Path) -> None:
    report = write_report(write_store(tmp_path, EIGHT_ROWS[5:]))
    assert (report.num_stored, report.totals["bytes_per_record"], report.datasets) == (0, 0, ())
    assert {split.share for split in report.splits} == {None}
    assert "No video is stored." in (tmp_path / REPORT_HTML_NAME).read_text(encoding="utf-8")


def test_manifest_that_contradicts_the_index_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path, EIGHT_ROWS)
    write_table(tmp_path / VIDEOS_NAME, [replace(row, num_records=5) if row.shard else row for row in EIGHT_ROWS])
    with pytest.raises(StoreCorrupt, match=r"'train': 15, .*'train': 12, "):
        build_report(tmp_path)


def test_no_store_no_report(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(eight: Path) -> Page:
    return Page((eight / REPORT_HTML_NAME).read_text(encoding="utf-8"))


def test_page_is_well_formed_and_says_the_compute_report(page: Page) -> None:
    assert not page.open
    text = " ".join("".join(page.text).split())
    assert "8 indexed = 5 stored + 3 rejected" in text
    assert "python -m storage.inspect OUT --verify" in text
    assert text.count("interpolated") >= 2


def test_page_explains_each_kind_of_shared_values() -> None:
    assert set(SHARED_KINDS) == set(KINDS)


def test_page_needs_nothing_but_itself(page: Page) -> None:
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    policy = next(meta["content"] for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.of("img"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "url(" not in "".join(page.text)
    assert "@import" not in "".join(page.text)


def test_ignored_files_are_in_the_report_and_on_the_page(tmp_path: Path) -> None:
    store_dir = write_store(tmp_path / "store", EIGHT_ROWS)
    ignored = (
        Ignored(path="fake/a", reason=IgnoredReason.PICTURE, num_files=300, names=("1.png", "2.png")),
        Ignored(path="masks/1.mp4", reason=IgnoredReason.AUXILIARY),
    )
    write_ignored(store_dir / "ignored.json", ignored)
    write_report(store_dir)
    assert read_report(store_dir).ignored == ignored
    page = (store_dir / "report.html").read_text()
    assert "<li>300 files (picture): fake/a (300: 1.png, 2.png, …); pictures are not taken" in page
    assert "masks/1.mp4" not in page


def test_links_lead_to_sections(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in page.of("a")} <= {f"#{name}" for name in ids}
    labels = {attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes}
    assert labels <= set(ids)


def test_page_is_accessible(page: Page) -> None:
    assert page.of("html") == [{"lang": "en"}]
    assert len(page.of("h1")) == len(page.of("main")) == 1
    assert len(page.of("caption")) == len(page.of("table")) == 10
    assert all(header.get("scope") for header in page.of("th"))
    assert len([image for image in page.of("img") if image["alt"]]) == len(page.of("img")) == 20 + 3


def test_whatever_comes_from_the_store_is_escaped(tmp_path: Path) -> None:
    attack = '<script>alert("1")</script><img src=x onerror=alert(1)>'
    rows = [
        stored(f"1{attack}", "train", f"Odd{attack}", detail=attack, num_tracks=2),
        rejected(f"2{attack}", Stage.INDEX, Reason.UNRECOGNISED_NAME, detail=attack),
    ]
    write_report(write_store(tmp_path, rows, config=CONFIG | {f"odd{attack}": attack}))
    page = Page((tmp_path / REPORT_HTML_NAME).read_text(encoding="utf-8"))
    assert not page.open
    assert not page.of("script")
    assert not any("onerror" in image for image in page.of("img"))
    # Where it is shown, it is shown as what it is: heading, remarks, rejections, configuration.
    assert "".join(page.text).count(attack) >= 8
