"""The table `records.parquet`: one row per record that counts, readable without opening a shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from manifests.errors import StoreCorrupt
from manifests.files import written_whole
from storage.files.layout import RECORDS_NAME
from storage.format.encoding import image_of, read_arrays, read_header
from storage.format.images import size_of
from storage.store import RecordStore

ROWS_PER_GROUP = 16_384  # rows held in memory at a time

# Column → Arrow type, in the order of the file.
COLUMN_TYPES: dict[str, str] = {
    "key": "string",
    "video_id": "string",
    "dataset": "string",
    "manipulation": "string",  # null for real
    "compression": "string",  # null where the dataset has none
    "split": "string",
    "label": "int8",  # 0 real, 1 fake
    "target_id": "string",
    "source_id": "string",  # null for real
    "group_id": "string",
    "track_id": "int32",
    "track_choice": "string",  # mask, longest, original: the main face; bystander
    "geometry_from": "string",  # video_id of an original; null for the video's own
    "num_frames": "int32",  # T
    "frame_index": "int64",  # of the first frame, in the whole video
    "pts_seconds": "float64",  # of the first frame
    "score": "float32",  # mean over the frames, 0..1
    "num_interpolated": "int32",  # frames
    "left": "float32",  # the first frame's box, pixels of the full frame
    "top": "float32",
    "right": "float32",
    "bottom": "float32",
    "found_by": "int8",  # the largest of the frames: see storage.format.record.FoundBy; null if unknown
    "has_mask": "bool",
    "mask_source": "string",  # dataset or difference; null without masks
    "crop_px": "int32",  # S
    "num_bytes": "int64",  # of the encoded record
    "shard": "string",  # file name
    "content_digest": "string",  # hex
    "config_digest": "string",  # hex
}


def record_row(shard: str, key: str, data: bytes | memoryview) -> dict[str, object]:
    """Return a record's row, from its header and arrays; no image is decoded.

    Args:
        shard: file name of the shard that holds it.
        key: its key.
        data: the encoded record.

    Raises:
        StoreCorrupt: the bytes are not those of a record.
    """
    header = read_header(data, key)
    arrays = read_arrays(data, header)
    scalars = cast(Mapping[str, object], header)
    left, top, right, bottom = arrays["boxes_xyxy"][0].tolist()
    measured = {
        "num_frames": len(header["crops"]),
        "frame_index": int(arrays["frame_indices"][0]),
        "pts_seconds": float(arrays["pts_seconds"][0]),
        "score": float(arrays["scores"].mean(dtype=np.float64)),
        "num_interpolated": int(np.count_nonzero(arrays["interpolated"])),
        **{"left": left, "top": top, "right": right, "bottom": bottom},
        "found_by": int(arrays["found_by"].max()) if "found_by" in arrays else None,
        "has_mask": header["masks"] is not None,
        "crop_px": size_of(image_of(data, header["crops"][0]))[0],
        "num_bytes": len(data),
        "shard": shard,
    }
    return {name: measured[name] if name in measured else scalars[name] for name in COLUMN_TYPES}


def write_records_table(store_dir: Path) -> int:
    """Write `records.parquet` from the shards that the index lists, complete or not.

    Returns:
        The number of rows.

    Raises:
        StoreMissing: there is no store.
        StoreCorrupt: a record cannot be read, or the index has another number of records.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMN_TYPES.items()])
    path = store_dir / RECORDS_NAME
    num_rows = 0
    with RecordStore(store_dir, allow_incomplete=True) as store, written_whole(path) as partial:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            rows_of_all = (record_row(*view) for view in store.views())
            while rows := list(islice(rows_of_all, ROWS_PER_GROUP)):
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                num_rows += len(rows)
        if num_rows != len(store):
            raise StoreCorrupt(
                f"records of {store_dir}: got {num_rows}, expected {len(store)} as in the index; "
                "check the store with `python -m storage.inspect OUT --verify`"
            )
    return num_rows


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield some columns of a Parquet file row by row, in bounded memory.

    Raises:
        StoreCorrupt: it is not a Parquet file with these columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=list(columns)):
                yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise StoreCorrupt(
            f"{path}: got {error}, expected a Parquet file with {', '.join(columns)}; copy it again, or run again"
        ) from error
