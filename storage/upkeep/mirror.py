"""Copies of a store on another file system: a network share, or S3-compatible storage, through fsspec.

    push    1 shards that the copy lacks   2 index.json, as incomplete   3 tables and reports
            4 index.json, complete         5 shards that the index does not list are deleted
    pull    shards that the folder lacks, each checked against its SHA-256; then the same steps in the folder

The index of a copy, like that of every store, says whether it is complete: readers refuse a copy whose push was killed,
and the next push completes it. Shards never change, so none is sent twice. A copy has no versions of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from manifests.errors import FaceshardsError, StageMissing, StoreCorrupt, StoreError, StoreIncomplete, StoreMissing
from manifests.files import PARTIAL_PREFIX, publish, remove_partials, sha256_of, written_whole
from storage.files.layout import BESIDE_INDEX, INDEX_NAME, SHARDS_DIR, VERSIONS_DIR, lock_store, parse_shard_name
from storage.index import ShardEntry, StoreIndex, read_index, stored_index, write_index
from storage.upkeep.versions import files_of, list_versions

# fsspec's names of storage without folders, where making a folder would make a bucket.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """Result of a push or a pull."""

    num_copied: int
    """Shards that were copied."""

    num_already_there: int
    """Shards that were there already."""

    num_deleted: int
    """Shards that the store no longer lists."""

    num_bytes: int
    """Size of the shards that were copied."""


class Remote:
    """A folder that fsspec reaches.

    Args:
        url: such as `s3://bucket/store`, `/mnt/share/store` or any other that fsspec knows. The backend of fsspec reads
            credentials and the server's address from its usual places: for S3 from AWS_ACCESS_KEY_ID,
            AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and the files of AWS's own tools.

    Raises:
        StageMissing: the package for this kind of URL is not installed.
        StoreError: fsspec does not know this kind of URL.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        try:
            self._files, self._folder = fsspec.url_to_fs(url)
        except ImportError as error:
            raise StageMissing(f"{url}: got {error}, expected its package; pip install 'faceshards[s3]'") from error
        except ValueError as error:
            raise StoreError(f"{url}: got {error}, expected a URL such as s3://bucket/store") from error
        protocols = self._files.protocol
        names = {protocols} if isinstance(protocols, str) else set(protocols)
        self._has_folders = not names & OBJECT_STORES

    def index(self) -> StoreIndex | None:
        """Return the copy's index; None if there is none yet.

        Raises:
            StoreError: it cannot be read.
        """
        with self._errors(), TemporaryDirectory() as scratch:
            try:
                text = self._files.cat_file(self._path(INDEX_NAME))
            except FileNotFoundError:
                return None
            Path(scratch, INDEX_NAME).write_bytes(text)
            try:
                return read_index(Path(scratch))
            except StoreCorrupt as error:
                raise StoreCorrupt(f"{self.url}: got an {INDEX_NAME} that cannot be read; push it again") from error

    def shards(self) -> dict[str, int]:
        """Return the size of each file there that has a shard's name."""
        with self._errors():
            self._files.invalidate_cache()
            try:
                found = self._files.ls(self._path(SHARDS_DIR), detail=True)
            except FileNotFoundError:
                return {}
        sizes = {str(one["name"]).rpartition("/")[2]: int(one["size"] or 0) for one in found}
        return {name: size for name, size in sizes.items() if parse_shard_name(name)}

    def send(self, path: Path, name: str) -> None:
        """Copy a file there.

        Args:
            path: the file.
            name: POSIX path below the folder.

        Raises:
            StoreError: the file did not arrive complete.
        """
        with self._errors():
            if self._has_folders:
                self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), self._path(name))
            self._files.invalidate_cache()
            size = self._files.info(self._path(name))["size"]
        if size != path.stat().st_size:
            raise StoreError(f"{self.url}/{name}: got {size} bytes, expected {path.stat().st_size}; push again")

    def send_index(self, index: StoreIndex) -> None:
        """Write an index there, atomically."""
        partial = f"{PARTIAL_PREFIX}{INDEX_NAME}"
        with TemporaryDirectory() as scratch:
            write_index(Path(scratch), index)
            self.send(Path(scratch, INDEX_NAME), partial)
        with self._errors():
            self._files.mv(self._path(partial), self._path(INDEX_NAME))

    def fetch(self, name: str, path: Path) -> bool:
        """Copy a file from there; return whether there is one."""
        with self._errors():
            try:
                self._files.get_file(self._path(name), str(path))
            except FileNotFoundError:
                return False
        return True

    def has(self, name: str) -> bool:
        """Return whether there is such a file or folder there."""
        with self._errors():
            self._files.invalidate_cache()
            return bool(self._files.exists(self._path(name)))

    def delete(self, name: str) -> None:
        """Delete a file there."""
        with self._errors():
            self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._folder.rstrip('/')}/{name}"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn any error of an fsspec backend into a StoreError with the URL: backends share no base exception."""
        try:
            yield
        except FaceshardsError:
            raise
        except Exception as error:
            raise StoreError(
                f"{self.url}: got {type(error).__name__}: {error}, expected an answer; check address, credentials "
                "and permissions"
            ) from error


def push(store_dir: Path, url: str, on_shard: Callable[[int, int], None] = lambda _done, _all: None) -> Copied:
    """Update the copy of a complete store; nothing is written if the copy is up to date.

    Args:
        store_dir: the store's folder.
        url: of the copy; see `Remote`.
        on_shard: called with the number of shards done, and of all, before each one and at the end.

    Raises:
        StoreIncomplete: the store's last run did not finish.
        StoreCorrupt: a shard differs from its index entry.
        StoreError: the place holds another store, or it cannot be reached.
    """
    index = read_index(store_dir)
    _require_complete(index, str(store_dir))
    remote = Remote(url)
    if remote.has(VERSIONS_DIR):
        raise StoreError(
            f"{url}: got a store with versions of its own, expected a copy or an empty folder; choose another place"
        )
    there, sizes = remote.index(), remote.shards()
    _refuse_other(there, index, url)
    known = {shard.name: shard.sha256 for shard in there.shards} if there else {}
    arrived: list[ShardEntry] = []
    missing: list[ShardEntry] = []
    for shard in index.shards:
        is_there = known.get(shard.name) == shard.sha256 and sizes.get(shard.name) == shard.num_bytes
        (arrived if is_there else missing).append(shard)
    # Readers can use a complete copy during a push, unless a file of it has to be replaced.
    is_readable = there is not None and there.complete and not known.keys() & {shard.name for shard in missing}
    for number, shard in enumerate(missing, start=len(arrived)):
        on_shard(number, len(index.shards))
        if not is_readable:
            remote.send_index(replace(index, complete=False, shards=tuple(arrived)))
        _send_shard(remote, store_dir, shard)
        arrived.append(shard)
    on_shard(len(index.shards), len(index.shards))
    if missing or there != index:
        remote.send_index(replace(index, complete=False))
        _send_beside(remote, files_of(store_dir, index))
        remote.send_index(index)
    stale = sizes.keys() - {shard.name for shard in index.shards}
    for name in sorted(stale):
        remote.delete(f"{SHARDS_DIR}/{name}")
    return _copied(missing, index, len(stale))


def pull(url: str, store_dir: Path, on_shard: Callable[[int, int], None] = lambda _done, _all: None) -> Copied:
    """Update a folder from a copy; every shard is checked before it gets its name.

    Args:
        url: of the copy; see `Remote`.
        store_dir: the folder; created if it does not exist.
        on_shard: called with the number of shards done, and of all, before each one and at the end.

    Raises:
        StoreMissing: there is no copy at the URL.
        StoreIncomplete: the copy is being pushed, or a push was killed.
        StoreCorrupt: a shard differs from its index entry.
        StoreError: the folder holds another store, or versions of its own; or the copy cannot be reached.
    """
    remote = Remote(url)
    index = remote.index()
    if index is None:
        raise StoreMissing(f"{url}: got no {INDEX_NAME}, expected a store that was pushed there")
    _require_complete(index, url)
    with lock_store(store_dir):
        here = stored_index(store_dir)
        _refuse_other(here, index, str(store_dir))
        if list_versions(store_dir):
            raise StoreError(
                f"{store_dir}: got a store with versions of its own, expected a copy or an empty folder; pull elsewhere"
            )
        shards_dir = store_dir / SHARDS_DIR
        shards_dir.mkdir(exist_ok=True)
        remove_partials(shards_dir)
        known = {shard.name: shard.sha256 for shard in here.shards} if here else {}
        copied = []
        for number, shard in enumerate(index.shards):
            on_shard(number, len(index.shards))
            if not _is_here(shards_dir / shard.name, shard, known):
                if here is not None and here.complete and shard.name in known:
                    write_index(store_dir, replace(here, complete=False))  # since some of its files are replaced
                _fetch_shard(remote, shard, shards_dir / shard.name)
                copied.append(shard)
        on_shard(len(index.shards), len(index.shards))
        if copied or here != index:
            if here is not None:
                write_index(store_dir, replace(here, complete=False))
            for name in BESIDE_INDEX:
                _fetch_beside(remote, name, store_dir)
            write_index(store_dir, index)
        listed = {shard.name for shard in index.shards}
        stale = [path for path in shards_dir.iterdir() if parse_shard_name(path.name) and path.name not in listed]
        for path in stale:
            path.unlink()
    return _copied(copied, index, len(stale))


def _copied(shards: Sequence[ShardEntry], index: StoreIndex, num_deleted: int) -> Copied:
    """Return the counts of a push or pull."""
    return Copied(
        num_copied=len(shards),
        num_already_there=len(index.shards) - len(shards),
        num_deleted=num_deleted,
        num_bytes=sum(shard.num_bytes for shard in shards),
    )


def _send_shard(remote: Remote, store_dir: Path, shard: ShardEntry) -> None:
    path = store_dir / SHARDS_DIR / shard.name
    if not path.exists() or sha256_of(path) != shard.sha256:
        raise StoreCorrupt(
            f"{path}: got no file, or other bytes, expected those in the index; run the preprocessing again"
        )
    remote.send(path, f"{SHARDS_DIR}/{shard.name}")


def _send_beside(remote: Remote, folder: Path) -> None:
    """Replace the copy's small files by those of a folder."""
    for name in BESIDE_INDEX:
        if (folder / name).exists():
            remote.send(folder / name, name)
        elif remote.has(name):
            remote.delete(name)


def _is_here(path: Path, shard: ShardEntry, known: Mapping[str, str]) -> bool:
    """Return whether a file is the shard; a file that no index lists, left by a killed pull, is read to find out."""
    if not path.exists() or path.stat().st_size != shard.num_bytes:
        return False
    return (known.get(shard.name) or sha256_of(path)) == shard.sha256


def _fetch_shard(remote: Remote, shard: ShardEntry, path: Path) -> None:
    where = f"{remote.url}/{SHARDS_DIR}/{shard.name}"
    with written_whole(path) as partial:
        if not remote.fetch(f"{SHARDS_DIR}/{shard.name}", partial):
            raise StoreCorrupt(f"{where}: got no such file, expected it; push again")
        found = sha256_of(partial)
        if found != shard.sha256:
            raise StoreCorrupt(f"{where}: got SHA-256 {found}, expected {shard.sha256}; delete it there and push again")


def _fetch_beside(remote: Remote, name: str, store_dir: Path) -> None:
    partial = store_dir / f"{PARTIAL_PREFIX}{name}"
    if remote.fetch(name, partial):
        publish(partial, store_dir / name)
    else:
        (store_dir / name).unlink(missing_ok=True)


def _require_complete(index: StoreIndex, where: str) -> None:
    if not index.complete:
        raise StoreIncomplete(
            f"store {where}: got one that is being written, or whose last run or push did not finish, "
            "expected a complete one; wait for it, or run it again"
        )


def _refuse_other(there: StoreIndex | None, index: StoreIndex, where: str) -> None:
    """Refuse to overwrite a store unless one of the two is a copy of the other.

    Raises:
        StoreError: the two have different `store_id`s; or one has no `store_id`, and they have no shard in common.
    """
    if there is None or not there.shards:
        return
    if there.store_id and index.store_id:
        is_same = there.store_id == index.store_id
    else:
        ours = {(shard.name, shard.sha256) for shard in index.shards}
        is_same = bool(ours & {(shard.name, shard.sha256) for shard in there.shards})
    if not is_same:
        raise StoreError(
            f"{where}: got another store there, expected an empty folder or a copy of the same store; choose another "
            "place, or delete the store there"
        )
