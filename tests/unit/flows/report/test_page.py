"""The report: numbers that are known beforehand, the same bytes for the same store, a page that is safe to open."""

from __future__ import annotations

import base64
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from flows.report.contact_sheet import (
    FRAMES_OF_MANY,
    MAX_FRAMES,
    MAX_VIDEOS,
    THUMBNAIL_PX,
    choose_videos,
    contact_sheet,
)
from flows.report.page import build_report, rejection_rows, summary_markdown, summary_table, write_report
from flows.report.totals import account
from manifests.entry import SPLITS, VideoEntry
from manifests.errors import StoreCorrupt, StoreMissing
from manifests.rejected import Reason, Stage
from manifests.row import ManifestRow
from manifests.videos_table import row_to_plain, write_table
from storage.files.layout import REPORT_HTML_NAME, REPORT_JSON_NAME, SHARDS_DIR, VIDEOS_NAME
from storage.format.encoding import encode_record
from storage.format.images import decode_rgb, encode_gray, encode_rgb
from storage.format.record import Record
from storage.index import StoreIndex
from storage.shard import ShardWriter
from storage.upkeep.ledger import Ledger
from tasks.video.records import record_key

CONFIG = {"frames": {"count": 4}, "split": {"policy": "group", "ratios": [0.5, 0.25, 0.25]}}
CONFIG_DIGEST = "c" * 64
GREY = 128
CROP_PX = 16
VOID_TAGS = {"meta", "img", "link", "br", "hr", "input", "wbr"}
EMPTY_INDEX = StoreIndex(faceshards_version="1", complete=True, config_digest="c", config={}, shards=())


def stored(name: str, split: str, kind: str = "real", group_id: str | None = None, **changes: Any) -> ManifestRow:
    """A row of a stored video with four frames; `name` is the last part of its video_id."""
    video_id = f"ffpp/{kind}/c23/{name}"
    entry = VideoEntry(
        video_id=video_id,
        path=f"{kind}/{name}.mp4",
        dataset="ffpp",
        label="real" if kind == "real" else "fake",
        manipulation=None if kind == "real" else kind,
        compression="c23",
        target_id=name,
        source_id=None if kind == "real" else "999",
        group_id=group_id or name,
        split=split,  # type: ignore[arg-type]  # a known word
        sha256="a" * 64,
    )
    plain: dict[str, Any] = {
        "status": "stored",
        "shard": f"{split}-00000.lmdb",
        "config_digest": CONFIG_DIGEST,
        **dict.fromkeys(("num_records", "frames_wanted", "frames_got", "num_faces"), 4),
        "num_tracks": 1,
        "seconds": {"decode": 1.0, "detect": 2.0},
    }
    return ManifestRow(video_id=video_id, path=entry.path, entry=entry, **(plain | changes))


def rejected(name: str, stage: Stage, reason: Reason, detail: str = "seen") -> ManifestRow:
    """A row of a file that never became a video."""
    return ManifestRow(video_id=name, path=name, status="rejected", stage=stage, reason=reason, detail=detail)


def records_of(row: ManifestRow) -> Iterable[tuple[str, bytes]]:
    """Grey crops; the first frames are interpolated and the last ones masked, as many as the row says."""
    entry = row.entry
    assert entry is not None
    assert entry.split is not None
    left_half = np.zeros((CROP_PX, CROP_PX), dtype=np.uint8)
    left_half[:, : CROP_PX // 2] = 255
    for number in range(row.num_records):
        interpolated = number < row.num_interpolated
        masked = number >= row.num_records - row.num_masks
        key = record_key(row.video_id, 0, 10 * number)
        yield (
            key,
            encode_record(
                Record(
                    key=key,
                    video_id=row.video_id,
                    dataset=entry.dataset,
                    manipulation=entry.manipulation,
                    compression=entry.compression,
                    split=entry.split,
                    label=entry.label_as_integer,
                    target_id=entry.target_id,
                    source_id=entry.source_id,
                    group_id=entry.group_id,
                    track_id=0,
                    crops_encoded=(encode_rgb(np.full((CROP_PX, CROP_PX, 3), GREY, dtype=np.uint8), "png", 95),),
                    masks_encoded=(encode_gray(left_half),) if masked else None,
                    boxes_xyxy=np.array([[0, 0, 16, 16]], dtype=np.float32),
                    landmarks=np.zeros((1, 5, 2), dtype=np.float32),
                    matrices=np.zeros((1, 2, 3), dtype=np.float64),
                    frame_indices=np.array([10 * number], dtype=np.int64),
                    pts_seconds=np.array([0.4 * number], dtype=np.float64),
                    scores=np.array([0.0 if interpolated else 0.5 + number / 8], dtype=np.float32),
                    interpolated=np.array([interpolated]),
                    content_digest=entry.content_digest,
                    config_digest=CONFIG_DIGEST,
                )
            ),
        )


def write_store(
    store_dir: Path, rows: Sequence[ManifestRow], finished: Sequence[str] = SPLITS, config: dict[str, Any] = CONFIG
) -> Path:
    """Write a store as a run does: one shard per split; with fewer splits `finished`, as a killed run leaves it."""
    ledger = Ledger(store_dir, config, CONFIG_DIGEST)
    ledger.begin([replace(row, status="pending", shard=None) if row.status == "stored" else row for row in rows])
    for number, split in enumerate(SPLITS):
        members = sorted((row for row in rows if row.shard and row.shard.startswith(split)), key=lambda r: r.video_id)
        if not members or split not in finished:
            continue
        with ShardWriter(store_dir / SHARDS_DIR, split, 0, CONFIG_DIGEST) as writer:
            for key, data in (record for row in members for record in records_of(row)):
                writer.put(key, data)
            plain = [row_to_plain(row) | {"content_digest": "d"} for row in members]
            shard = writer.finish(plain, {"numpy": f"2.{number}", "torch": "2.12"})
        ledger.add(shard, members)
    if set(finished) == set(SPLITS):
        ledger.finish(rows)
    return store_dir


EIGHT_ROWS = (
    stored("001", "train", group_id="pair-1", num_tracks=3),
    stored("001_002", "train", "NeuralTextures", group_id="pair-1", num_masks=3, num_interpolated=1),
    stored("001_003", "train", "Deepfakes", group_id="pair-1", detail="mask not used: <b>broken</b>"),
    stored("004", "val", group_id="pair-2"),
    stored("005", "test", group_id="pair-3"),
    rejected("late.mp4", Stage.DETECT, Reason.NO_FACE),
    rejected("zero.mp4", Stage.PROBE, Reason.EMPTY_FILE),
    rejected("also.mp4", Stage.DETECT, Reason.NO_FACE),
)


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of five stored and three rejected videos, with its report."""
    store_dir = write_store(tmp_path_factory.mktemp("eight") / "store", EIGHT_ROWS)
    write_report(store_dir)
    return store_dir


def test_totals_add_up(eight: Path) -> None:
    totals = build_report(eight).totals
    assert totals["num_indexed"] == 8 == totals["num_stored"] + totals["num_rejected"] + totals["num_pending"]
    assert (totals["num_stored"], totals["num_rejected"]) == (5, 3)
    assert (totals["num_records"], totals["frames_wanted"], totals["frames_got"]) == (20, 20, 20)
    assert (totals["num_interpolated"], totals["num_masks"], totals["num_shards"]) == (1, 3, 3)
    assert totals["num_bytes"] == sum(path.stat().st_size for path in (eight / SHARDS_DIR).iterdir())
    assert totals["bytes_per_record"] == round(totals["num_bytes"] / 20)


def test_kinds_stand_in_the_order_of_the_dataset_and_splits_in_theirs(eight: Path) -> None:
    report = build_report(eight)
    assert report.kinds == ("real", "Deepfakes", "NeuralTextures")
    counted = [(cell.kind, cell.split, cell.num_videos, cell.num_records) for cell in report.cells]
    assert counted[:4] == [
        ("real", "train", 1, 4),
        ("real", "val", 1, 4),
        ("real", "test", 1, 4),
        ("Deepfakes", "train", 1, 4),
    ]
    assert sum(cell.num_records for cell in report.cells) == report.totals["num_records"]


def test_shares_stand_beside_what_was_wanted(eight: Path) -> None:
    found = [(split.share, split.wanted_share, split.difference) for split in build_report(eight).splits]
    assert found == [(0.6, 0.5, 0.1), (0.2, 0.25, -0.05), (0.2, 0.25, -0.05)]


def test_lists_have_no_wanted_share(tmp_path: Path) -> None:
    config = {"split": {"policy": "official", "ratios": [0.7, 0.15, 0.15]}}
    report = build_report(write_store(tmp_path, [stored("1", "train")], config=config))
    assert [(split.share, split.wanted_share, split.difference) for split in report.splits] == [
        (1.0, None, None),
        (0.0, None, None),
        (0.0, None, None),
    ]


def test_crossing_groups_are_named() -> None:
    rows = [stored("1", "train", group_id="g"), stored("2", "test", group_id="g"), stored("3", "val")]
    report = account(EMPTY_INDEX, rows, {})
    assert report.groups_crossing == {"g": ("train", "test")}
    assert ([split.num_groups for split in report.splits], report.num_groups) == ([1, 1, 1], 2)


def test_rejections_stand_by_stage_reason_and_name(eight: Path) -> None:
    report = build_report(eight)
    assert report.rejection_counts == {"probe": {"empty_file": 1}, "detect": {"no_face": 2}}
    assert [rejection.video_id for rejection in report.rejections] == ["zero.mp4", "also.mp4", "late.mp4"]


def test_an_earlier_stage_comes_first_whatever_the_reason() -> None:
    rows = [rejected("a", Stage.DETECT, Reason.NO_FACE), rejected("b", Stage.DECODE, Reason.CRASHED)]
    assert [rejection.video_id for rejection in account(EMPTY_INDEX, rows, {}).rejections] == ["b", "a"]


def test_times_are_summed_and_averaged_over_the_videos_that_came_so_far(eight: Path) -> None:
    times = {time.stage: (time.seconds, time.num_videos, time.mean_seconds) for time in build_report(eight).stages}
    assert times == {
        "decode": (5.0, 5, 1.0),
        "detect": (10.0, 5, 2.0),
        "track": (0.0, 0, None),
        "align": (0.0, 0, None),
        "encode": (0.0, 0, None),
    }


def test_remarks_configuration_and_versions(eight: Path) -> None:
    report = build_report(eight)
    assert report.several_tracks == {"ffpp/real/c23/001": 3}
    assert report.notes == {"ffpp/Deepfakes/c23/001_003": "mask not used: <b>broken</b>"}
    assert report.configuration["frames.count"] == 4
    assert report.configuration["split.ratios"] == [0.5, 0.25, 0.25]
    assert report.versions == {"numpy": ("2.0", "2.1", "2.2"), "torch": ("2.12",)}


def test_the_same_store_gives_the_same_bytes_wherever_it_lies(eight: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(eight, moved, ignore=shutil.ignore_patterns("report.*"))
    write_report(moved)
    for name in (REPORT_JSON_NAME, REPORT_HTML_NAME):
        assert (moved / name).read_bytes() == (eight / name).read_bytes()


def test_json_is_the_report(eight: Path) -> None:
    written = json.loads((eight / REPORT_JSON_NAME).read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(asdict(build_report(eight))))


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


def test_terminal_summary_takes_names_literally(tmp_path: Path) -> None:
    rows = [stored("1", "train", "[red]odd[/]"), *EIGHT_ROWS[5:]]
    console = Console(width=120, record=True, file=(tmp_path / "terminal").open("w", encoding="utf-8"))
    with console.file:
        console.print(summary_table(build_report(write_store(tmp_path / "store", rows))))
    text = console.export_text()
    assert "4 indexed = 1 stored + 3 rejected; 4 records" in text
    assert re.search(r"│ \[red]odd\[/] +│ +1 / 4 │ +0 / 0 │ +0 / 0 │ +1 / 4 │", text)
    assert "rejected: 1 empty_file (probe), 2 no_face (detect)" in text


def test_markdown_summary(eight: Path) -> None:
    text = summary_markdown(build_report(eight))
    assert "**8 indexed = 5 stored + 3 rejected; 20 records**" in text
    assert "| NeuralTextures | 1 / 4 | 0 / 0 | 0 / 0 | 1 / 4 |" in text
    assert "| all | 3 / 12 | 1 / 4 | 1 / 4 | 5 / 20 |" in text
    assert "| detect | no_face | 2 |" in text


def test_rejection_rows_say_how_many_are_left_out(eight: Path) -> None:
    report = build_report(eight)
    assert [tuple(row) for row in rejection_rows(report)] == [("video_id", "stage", "reason", "detail")] * 3
    assert tuple(rejection_rows(report)[0].values()) == ("zero.mp4", "probe", "empty_file", "seen")
    assert [row["detail"] for row in rejection_rows(report, limit=1)] == ["seen", "and 2 more: see report.json"]


def test_few_videos_show_every_frame_and_where_it_comes_from(eight: Path) -> None:
    sheet = contact_sheet(eight, EIGHT_ROWS, ("real", "Deepfakes", "NeuralTextures"))
    assert [video.row.video_id.split("/", 1)[1] for video in sheet] == [
        "real/c23/001",
        "Deepfakes/c23/001_003",
        "NeuralTextures/c23/001_002",
        "real/c23/004",
        "real/c23/005",
    ]
    fake = sheet[2]
    assert [frame.frame_index for frame in fake.frames] == [0, 10, 20, 30]
    assert [frame.interpolated for frame in fake.frames] == [True, False, False, False]
    assert [frame.mask_share for frame in fake.frames] == [None, 0.5, 0.5, 0.5]
    # The interpolated frame has no score of its own: 0.625, 0.75 and 0.875 are left.
    assert (fake.score_min, fake.score_mean) == (0.625, 0.75)


def test_mask_tints_what_it_covers_and_nothing_else(eight: Path) -> None:
    frame = contact_sheet(eight, EIGHT_ROWS, ("real", "Deepfakes", "NeuralTextures"))[2].frames[3]
    assert frame.mask_uri is not None
    crop, tinted = (decode_rgb(base64.b64decode(uri.partition(",")[2])) for uri in (frame.crop_uri, frame.mask_uri))
    assert np.abs(crop[8:].astype(int) - GREY).max() <= 2  # above are the landmarks, all in the corner
    assert crop[0, 0, 1] > 200 > 60 > crop[0, 0, 0]
    inside, outside = tinted[2:-2, 2:4].astype(int), tinted[:, -4:].astype(int)
    # Red of 255 and green of 0 at 35 %: 172 and 83, less what JPEG takes.
    assert (inside[..., 0] - inside[..., 1]).mean() == pytest.approx(172 - 83, abs=12)
    assert np.abs(outside - GREY).max() <= 12


def test_many_videos_show_every_split_and_kind() -> None:
    kinds = ("real", "Deepfakes", "FaceSwap")
    rows = [stored(f"{number:03d}", "train", kind) for kind in kinds for number in range(200)]
    rows += [stored(f"rare-{split}", split, kind) for kind in kinds for split in ("val", "test")]
    chosen = choose_videos(rows, kinds)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert choose_videos(shuffled, kinds) == chosen
    assert len({row.video_id for row in chosen}) == len(chosen) == MAX_VIDEOS
    places = Counter((row.entry.split, row.entry.manipulation) for row in chosen if row.entry is not None)
    assert len(places) == 9
    assert max(places.values()) - min(places["train", kind] for kind in (None, "Deepfakes", "FaceSwap")) <= 1
    names = [row.video_id for row in chosen if row.video_id.startswith("ffpp/real") and "rare" not in row.video_id]
    assert (names[0], names[-1]) == ("ffpp/real/c23/000", "ffpp/real/c23/199")


def test_frames_shown_are_spread_and_bounded(tmp_path: Path) -> None:
    rows = [stored(f"{number}", "train", num_records=20) for number in range(9)]
    sheet = contact_sheet(write_store(tmp_path / "many", rows), rows, ("real",))
    assert {video.num_shown for video in sheet} == {FRAMES_OF_MANY}
    assert [frame.frame_index for frame in sheet[0].frames] == [0, 20, 40, 60, 80, 100, 120, 140, 160, 190]
    long = [stored("long", "train", num_records=MAX_FRAMES + 50)]
    (video,) = contact_sheet(write_store(tmp_path / "long", long), long, ("real",))
    assert (video.num_frames, video.num_shown) == (MAX_FRAMES + 50, MAX_FRAMES)


def test_pictures_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "CROP_PX", 300)
    rows = [stored("1", "train", num_masks=4)]
    (video,) = contact_sheet(write_store(tmp_path, rows), rows, ("real",))
    assert decode_rgb(base64.b64decode(video.frames[0].crop_uri.partition(",")[2])).shape[:2] == (THUMBNAIL_PX,) * 2


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


def test_page_is_well_formed_and_says_the_account(page: Page) -> None:
    assert not page.open
    text = " ".join("".join(page.text).split())
    assert "8 indexed = 5 stored + 3 rejected" in text
    assert "python -m storage.inspect OUT --verify" in text
    assert text.count("interpolated") >= 2


def test_page_needs_nothing_but_itself(page: Page) -> None:
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.tags}
    policy = next(meta["content"] for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.of("img"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "url(" not in "".join(page.text)
    assert "@import" not in "".join(page.text)


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
