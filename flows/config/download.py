"""Configurations of the two download flows, read from the command line or from Prefect's form."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator

from manifests.datasets.ffpp_server import COMPRESSIONS, MANIPULATIONS, PAPER_MANIPULATIONS, VERSION, ServerChoice
from manifests.errors import ConfigError
from manifests.files import folder_to_be
from tasks.download.connections import MAX_CONNECTIONS, ConnectionSettings
from tasks.implementation import OneOf, Settings

# Environment variable with the address of FaceForensics++'s server. It keeps the address out of the shell's history and
# out of Prefect's database; an option overrides it.
SERVER_VARIABLE = "FACESHARDS_FFPP_SERVER"
TERMS = (
    "--accept-terms: got nothing, expected your agreement to the terms of use of FaceForensics++. Its authors grant "
    "access (their form: https://github.com/ondyari/FaceForensics), and the server's address comes with the grant. "
    "Nothing is fetched without both; if access was granted to you and you keep to the terms, add --accept-terms"
)


class ServerSettings(Settings):
    """How files are requested from a server."""

    connections: int = MAX_CONNECTIONS
    """Number of simultaneous connections, 1 to 4."""

    connect_timeout_s: float = Field(10.0, gt=0, le=600)
    """Time limit for opening a connection, seconds."""

    read_timeout_s: float = Field(60.0, gt=0, le=3600)
    """Time without a received byte after which an attempt fails, seconds."""

    max_tries: int = Field(8, ge=1, le=100)
    """Number of consecutive attempts without progress after which a file fails."""

    @field_validator("connections")
    @classmethod
    def _require_few(cls, connections: int) -> int:
        if not 1 <= connections <= MAX_CONNECTIONS:
            raise ValueError(
                f"expected 1 to {MAX_CONNECTIONS}; the servers drop clients that open 8 or more connections"
            )
        return connections


class DownloadConfig(ServerSettings):
    """Settings of a download of FaceForensics++."""

    out: Annotated[Path, AfterValidator(folder_to_be)]
    """Folder for the dataset, in its official layout."""

    server: SecretStr | None = None
    """Address that came with your access; default: the environment variable FACESHARDS_FFPP_SERVER."""

    accept_terms: bool = False
    """Confirm that you have been granted access and keep to the terms of use."""

    manipulations: tuple[Annotated[str, OneOf(MANIPULATIONS)], ...] = PAPER_MANIPULATIONS
    """Manipulations to fetch; an empty list: originals only."""

    originals: bool = True
    """Whether to fetch the real videos."""

    compressions: tuple[Annotated[str, OneOf(COMPRESSIONS)], ...] = Field(("c23",), min_length=1)
    """Compressions to fetch: raw, c23, c40."""

    masks: bool = False
    """Whether to fetch the masks of the forgeries."""

    videos: tuple[str, ...] | None = Field(None, min_length=1)
    """Fetch only these videos, and the fakes made from their footage."""

    limit: int | None = Field(None, ge=1)
    """Largest number of videos of each kind, in the order of the server's list."""

    @field_validator("server")
    @classmethod
    def _require_web_address(cls, server: SecretStr | None) -> SecretStr | None:
        if server is not None:
            _require_server(server.get_secret_value())
        return server

    @property
    def choice(self) -> ServerChoice:
        """The chosen part of the dataset; a name given twice counts once."""
        return ServerChoice(
            manipulations=tuple(dict.fromkeys(self.manipulations)),
            originals=self.originals,
            compressions=tuple(dict.fromkeys(self.compressions)),
            masks=self.masks,
            videos=self.videos,
            limit=self.limit,
        )

    @property
    def base_url(self) -> str:
        """The server's address, up to and including `v3/`.

        Raises:
            ConfigError: neither the setting nor the variable gives a usable address.
        """
        server = self.server.get_secret_value() if self.server else os.environ.get(SERVER_VARIABLE, "")
        if not server:
            raise ConfigError(
                f"--server: got nothing, expected the address that came with your access; or export {SERVER_VARIABLE}"
            )
        try:
            _require_server(server)
        except ValueError as error:
            raise ConfigError(f"--server: {error}") from error
        return server.rstrip("/").removesuffix("/" + VERSION.rstrip("/")) + "/" + VERSION


class ArchiveConfig(ServerSettings):
    """Settings of a download of archives."""

    out: Annotated[Path, AfterValidator(folder_to_be)]
    """Folder to extract to."""

    sources: tuple[SecretStr, ...] = Field(min_length=1)
    """Archives: local files, or http(s) addresses."""

    sha256: tuple[str, ...] = ()
    """SHA-256 of each source, in hex, in the order of the sources; empty: not checked."""

    headers: tuple[SecretStr, ...] = ()
    """HTTP headers for the hosts of the addresses, such as 'Cookie: …'."""

    extract: bool = True
    """Whether to extract the archives."""

    @field_validator("headers")
    @classmethod
    def _require_names(cls, headers: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for header in headers:
            name, colon, value = header.get_secret_value().partition(":")
            if not re.fullmatch(r"[!#-'*+.^-z|~0-9A-Z-]+", name) or not colon or not value.strip().isprintable():
                raise ValueError("expected 'Name: value' each")
            if not value.isascii():
                raise ValueError("expected ASCII")
        return headers

    def header_values(self) -> dict[str, str]:
        """The headers by name."""
        parts = (header.get_secret_value().partition(":") for header in self.headers)
        return {name: value.strip() for name, _, value in parts}


def connection_settings(config: ServerSettings) -> ConnectionSettings:
    """Return the settings of the connections."""
    return ConnectionSettings(
        connections=config.connections,
        connect_timeout_s=config.connect_timeout_s,
        read_timeout_s=config.read_timeout_s,
        headers=config.header_values() if isinstance(config, ArchiveConfig) else {},
    )


def require_terms(config: DownloadConfig) -> None:
    """Raise unless the terms are accepted and there is an address; called before any connection is made.

    Raises:
        ConfigError: one of them is missing.
    """
    if not config.accept_terms:
        raise ConfigError(TERMS)
    _ = config.base_url


def _require_server(url: str) -> None:
    """Raise unless paths can be appended to the address.

    Raises:
        ValueError: no path can be appended to it.
    """
    require_web(url)
    if {"?", "#"} & set(url):
        raise ValueError("expected an address such as http://host/path/, without ? and #")


def require_web(url: str) -> None:
    """Raise unless the address is one of a web server.

    Raises:
        ValueError: it is not; the message does not quote it, since an address may contain a secret.
    """
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_web = False
    if not is_web:
        raise ValueError("expected an address such as http://host/path/")
