"""A store on S3-compatible storage: a real client against a server on loopback, through the command line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from flows.cli.parser import main
from storage.index import read_index
from storage.store import RecordStore
from tests.helpers.stores import write_forgeries

pytestmark = [pytest.mark.e2e, pytest.mark.long]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket; its address and credentials are in the environment, as a user would have them."""
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"deepfakes-{uuid4().hex}"  # what a server of this process held, the next one holds, too
    s3fs.S3FileSystem().mkdir(name)
    try:
        yield f"s3://{name}"
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


def test_push_and_pull(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_forgeries(tmp_path / "store")
    assert main(["push", str(store), f"{bucket}/store"]) == 0
    assert "3 shards copied" in capsys.readouterr().out
    assert main(["push", str(store), f"{bucket}/store"]) == 0
    assert "0 shards copied" in capsys.readouterr().out
    assert main(["pull", f"{bucket}/store", str(tmp_path / "back")]) == 0
    assert RecordStore(tmp_path / "back").keys() == RecordStore(store).keys()
    assert read_index(tmp_path / "back") == read_index(store)


def test_what_a_person_is_told(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", f"{bucket}/nothing", str(tmp_path / "back")]) == 2
    assert "got no index.json, expected a store that was pushed there" in " ".join(capsys.readouterr().err.split())
    store = write_forgeries(tmp_path / "store")
    assert main(["push", str(store), "s3://no-such-bucket/store"]) == 2
    assert "s3://no-such-bucket/store: got" in " ".join(capsys.readouterr().err.split())
