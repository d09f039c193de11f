"""What the documents say is what the program does: settings, commands, fields, and the code that they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from flows.cli.parser import _parser
from flows.config.preprocess import PreprocessConfig
from manifests.errors import FaceshardsError
from storage.format.encoding import encode_record
from storage.format.images import encode_gray, encode_rgb
from storage.format.record import Record
from storage.index import StoreIndex, write_index
from storage.shard import ShardWriter
from tests.helpers import source_tree
from tests.helpers.toys import SOURCES, lines_of

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def code_blocks(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def described_settings() -> Iterator[str]:
    """The README's table of settings, one line each, from the configuration's own descriptions."""
    for section, field in PreprocessConfig.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        for name, setting in ({"": field} if inner is None else inner).items():
            dotted = f"{section}.{name}" if name else section
            default = "–" if setting.default is PydanticUndefined else plain(setting.default)
            yield f"| `{dotted}` | {default} | {' '.join((setting.description or '').split())} |"


def plain(value: Any) -> str:
    if isinstance(value, BaseModel):
        return str(value.model_dump())
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def test_the_readme_lists_every_setting_as_it_is() -> None:
    table = README.partition("<!-- settings -->\n")[2].partition("<!-- end of settings -->")[0]
    assert table.splitlines() == list(described_settings())


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in code_blocks(README) for line in block.splitlines()]
    return [line for line in lines if line.startswith("faceshards ")]


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 4


@pytest.mark.parametrize("command", commands())
def test_every_command_in_the_readme_is_understood(command: str) -> None:
    _parser().parse_args(shlex.split(command)[1:])


@pytest.mark.parametrize(
    "command",
    ["preprocess", "index", "sample", "report", "deploy", "versions", "rollback", "compact", "push", "pull"],
)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"faceshards {command}" in README


def test_every_field_of_a_record_is_in_the_readme() -> None:
    names = {item.name.removesuffix("_encoded") for item in fields(Record)}
    table = README.partition("| field of a record |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= names


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, list[Record]]:
    """A complete store of two records."""
    records = [record(f"ffpp/youtube/c23/{number:03d}", number) for number in range(2)]
    with ShardWriter(tmp_path / "shards", "train", 0, "ab" * 32) as writer:
        for item in records:
            writer.put(item.key, encode_record(item))
        shard = writer.finish([], {})
    index = StoreIndex(faceshards_version="0", complete=True, config_digest="ab" * 32, config={}, shards=(shard,))
    write_index(tmp_path, index)
    return tmp_path, records


def record(video_id: str, number: int) -> Record:
    crop = np.full((16, 16, 3), 10 * number, dtype=np.uint8)
    return Record(
        key=f"{video_id}/00/000000",
        video_id=video_id,
        dataset="ffpp",
        manipulation=None,
        compression="c23",
        split="train",
        label=0,
        target_id=video_id[-3:],
        source_id=None,
        group_id=video_id,
        track_id=0,
        crops_encoded=(encode_rgb(crop, "png", 95),),
        masks_encoded=(encode_gray(crop[..., 0]),),
        boxes_xyxy=np.array([[1, 2, 3, 4]], dtype=np.float32),
        landmarks=np.arange(10, dtype=np.float32).reshape(1, 5, 2),
        matrices=np.arange(6, dtype=np.float64).reshape(1, 2, 3),
        frame_indices=np.array([number], dtype=np.int64),
        pts_seconds=np.array([number / 25]),
        scores=np.array([0.5], dtype=np.float32),
        interpolated=np.array([number == 1]),
        content_digest="cd" * 32,
        config_digest="ab" * 32,
    )


def test_the_readmes_python_reads_a_store(store: tuple[Path, list[Record]]) -> None:
    folder, records = store
    (program,) = code_blocks(README, "python")
    seen: dict[str, Any] = {}
    exec(program.replace('"OUT"', repr(str(folder))), seen)
    assert np.array_equal(seen["record"].crops, records[0].crops)


def test_fifteen_lines_without_faceshards_read_the_same(store: tuple[Path, list[Record]]) -> None:
    folder, records = store
    (program,) = code_blocks(ARCHITECTURE, "python")
    seen: dict[str, Any] = {}
    exec(program, seen)
    found = list(seen["read_records"](str(folder / "shards" / "train-00000.lmdb")))
    assert [item["key"] for item in found] == [item.key for item in records]
    for item, expected in zip(found, records, strict=True):
        assert item["label"] == expected.label
        assert item["crops"] == list(expected.crops_encoded)
        for name in ("boxes_xyxy", "landmarks", "matrices", "frame_indices", "pts_seconds", "interpolated"):
            assert np.array_equal(item[name], getattr(expected, name)), name


def test_the_tree_of_exceptions_is_drawn_whole() -> None:
    import manifests.errors

    drawn = str(manifests.errors.__doc__)
    classes = [item for item in vars(manifests.errors).values() if isinstance(item, type)]
    for item in classes:
        if issubclass(item, FaceshardsError):
            assert item.__name__ in drawn


def test_links_between_the_documents_lead_somewhere() -> None:
    for path in (ROOT / name for name in source_tree.tracked() if name.suffix == ".md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path}: {target}"


def test_the_cost_of_an_extension_is_that_of_the_toys() -> None:
    from tests.contracts import test_exporters, test_models, test_perturbations
    from tests.e2e import test_datasets

    toys = {
        "dataset layout": test_datasets.LAB_CLIPS,
        **{
            name: SOURCES[setting]
            for name, setting in {
                "decoder": "decode.backend",
                "detector": "detect.kind",
                "landmarker": "landmark.kind",
                "aligner": "crop.kind",
            }.items()
        },
        "exporter": test_exporters.TOY,
        "model": test_models.TOY.partition("\nclass NoSize")[0],
        "perturbation": test_perturbations.TOY,
    }
    told = re.findall(r"^\| ([a-z ]+) \| (\d+) \| ", ARCHITECTURE, flags=re.MULTILINE)
    assert dict(told) == {name: str(lines_of(source)) for name, source in toys.items()}
