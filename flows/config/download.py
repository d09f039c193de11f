"""What a download can be told: two validated models, read from the command line or from Prefect's form."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator

from manifests.datasets.ffpp_server import COMPRESSIONS, MANIPULATIONS, PAPER_MANIPULATIONS, VERSION, ServerChoice
from manifests.errors import ConfigError
from tasks.download.connections import MAX_CONNECTIONS, ConnectionSettings
from tasks.registry import OneOf
from tasks.settings import Settings

# Where the address of FaceForensics++'s server is looked for when no option gives it: it came with the grant, and need
# not stand in a shell's history or in Prefect's database.
SERVER_VARIABLE = "FACESHARDS_FFPP_SERVER"
TERMS = (
    "--accept-terms: got nothing, expected your agreement to the terms of use of FaceForensics++. Its authors grant "
    "access (their form: https://github.com/ondyari/FaceForensics), and the server's address comes with the grant. "
    "Nothing is fetched without both; if access was granted to you and you keep to the terms, add --accept-terms"
)

Model = TypeVar("Model", bound=Settings)


class ServerSettings(Settings):
    """How a server is talked to."""

    connections: int = MAX_CONNECTIONS
    """Connections at once, 4 at most."""

    connect_timeout_s: float = Field(10.0, gt=0, le=600)
    """For a connection to be made, seconds."""

    read_timeout_s: float = Field(60.0, gt=0, le=3600)
    """Without a single byte, seconds."""

    max_tries: int = Field(8, ge=1, le=100)
    """How often a file is tried without getting on."""

    @field_validator("connections")
    @classmethod
    def _refuse_to_be_dropped(cls, connections: int) -> int:
        if not 1 <= connections <= MAX_CONNECTIONS:
            raise ValueError(
                f"expected 1 to {MAX_CONNECTIONS}; the servers drop clients that open 8 or more connections"
            )
        return connections


class DownloadConfig(ServerSettings):
    """Everything that a download of FaceForensics++ can be told."""

    out: Path
    """The dataset's folder, in the official layout."""

    server: SecretStr | None = Field(None, description=f"address that came with the grant, or ${SERVER_VARIABLE}")
    accept_terms: bool = False
    """You were granted access and keep to the terms of use."""

    manipulations: tuple[Annotated[str, OneOf(MANIPULATIONS)], ...] = PAPER_MANIPULATIONS
    """Forgeries; none for originals only."""

    originals: bool = True
    """Also the real videos."""

    compressions: tuple[Annotated[str, OneOf(COMPRESSIONS)], ...] = Field(("c23",), min_length=1)
    """Raw, c23, c40."""

    masks: bool = False
    """Also the masks of the forgeries."""

    videos: tuple[str, ...] | None = Field(None, min_length=1)
    """Only these, with the fakes of their footage."""

    limit: int | None = Field(None, ge=1)
    """Videos of each kind, the first of the server's list."""

    @field_validator("server")
    @classmethod
    def _refuse_other_than_web(cls, server: SecretStr | None) -> SecretStr | None:
        if server is not None:
            _require_server(server.get_secret_value())
        return server

    @property
    def choice(self) -> ServerChoice:
        """Which part of the dataset is wanted; a name given twice counts once."""
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
        """The server's address up to and with `v3/`.

        Raises:
            ConfigError: there is none.
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
    """Everything that a download of archives can be told."""

    out: Path
    """The folder that they are extracted to."""

    sources: tuple[SecretStr, ...] = Field(min_length=1)
    """archives: local files, or http(s) addresses."""

    sha256: tuple[str, ...] = ()
    """Their checksums, in the same order, or none."""

    headers: tuple[SecretStr, ...] = ()
    """Sent to the addresses' own hosts, such as 'Cookie: …'."""

    extract: bool = True
    """Extract them, too."""

    @field_validator("headers")
    @classmethod
    def _refuse_headers_without_a_name(cls, headers: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
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


def validated(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Return validated settings.

    Raises:
        ConfigError: one line for each fault; secrets are not shown.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_fault(fault) for fault in error.errors())) from None


def connection_settings(config: ServerSettings) -> ConnectionSettings:
    """Return what the connections want to know."""
    return ConnectionSettings(
        connections=config.connections,
        connect_timeout_s=config.connect_timeout_s,
        read_timeout_s=config.read_timeout_s,
        headers=config.header_values() if isinstance(config, ArchiveConfig) else {},
    )


def require_terms(config: DownloadConfig) -> None:
    """Raise before any connection is made unless the terms are accepted and there is an address.

    Raises:
        ConfigError: one of them is missing.
    """
    if not config.accept_terms:
        raise ConfigError(TERMS)
    _ = config.base_url


def _require_server(url: str) -> None:
    """Raise unless the address is one that paths can be put behind.

    Raises:
        ValueError: it is not.
    """
    require_web(url)
    if {"?", "#"} & set(url):
        raise ValueError("expected an address such as http://host/path/, without ? and #")


def require_web(url: str) -> None:
    """Raise unless it is the address of something on a web server.

    Raises:
        ValueError: it is not; the message does not quote it, since it may hold a secret.
    """
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_web = False
    if not is_web:
        raise ValueError("expected an address such as http://host/path/")


def _fault(fault: Any) -> str:
    """Return one line for one of pydantic's faults, without the value where it may be a secret."""
    name = "--" + ".".join(str(part) for part in fault["loc"][:1]).replace("_", "-")
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    wanted = message if message.startswith("expected") else f"expected {message}"
    is_secret = fault["loc"][:1] in (("server",), ("headers",), ("sources",))
    return f"{name}: {wanted}" if is_secret else f"{name}: got {fault['input']!r}, {wanted}"
