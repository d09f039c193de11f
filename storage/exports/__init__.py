"""The exporters by name: one file and one line here for each."""

from manifests.registry import Registry
from storage.exports.exporter import Exporter
from storage.exports.plain_files import PlainFiles

DEFAULT_EXPORTER = "plain_files"
EXPORTERS = Registry[type[Exporter]](
    "exporter", "faceshards.exporters", {DEFAULT_EXPORTER: PlainFiles}, needs=("export", "title")
)
