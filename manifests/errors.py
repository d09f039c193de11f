"""The exceptions of faceshards.

    FaceshardsError
    ├── UserError               user input is wrong; the command line prints it and exits with 2
    │   ├── ConfigError         a setting, an option or a YAML file (also `short_names.AmbiguousDeploymentError`)
    │   │   └── NoItems         no record of a store's split is selected (training/data/items)
    │   ├── DatasetError        the dataset's folder
    │   ├── SplitError          the split cannot be made, or a leakage group would cross it
    │   └── ArchiveError        an archive has members that must not be extracted (tasks/download/archives)
    │       └── ArchiveBroken   its bytes are damaged
    ├── StoreError              a store on disk; the command line prints it and exits with 2
    │   ├── StoreMissing        no store there
    │   ├── StoreIncomplete     a run was interrupted or has not finished
    │   ├── StoreBusy           another run is writing to it
    │   ├── StoreCorrupt        its bytes differ from what its index records
    │   └── StoreChanged        it was made with another configuration
    ├── VideoRejected           one video cannot be used; becomes a `Rejected` row and never ends a run
    ├── FetchFailed             one file cannot be fetched; counted and reported (tasks/download/connections)
    │   └── Transient           a retry may succeed
    ├── DownloadIncomplete      a download ended without all of its files (flows/download)
    ├── ExtractionStopped       interrupted while an archive was extracted (tasks/download/archives)
    ├── StageMissing            a package or weight file that a stage needs is not installed
    ├── NothingStored           a run rejected every video
    └── AccountingError         the totals of a run do not add up: a bug in faceshards

Messages follow one form: `{what}: got {value}, expected {allowed}; {the way out}`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from manifests.rejected import Reason, Rejected, Stage

# Exit statuses of every command. 130 is what a shell reports for a program that SIGINT ended: 128 + 2.
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


class FaceshardsError(Exception):
    """The base of all exceptions of faceshards."""


class UserError(FaceshardsError):
    """User input is wrong."""


class ConfigError(UserError):
    """A setting, an option or a configuration file is wrong."""


class DatasetError(UserError):
    """The folder does not hold the dataset that the user named."""


class SplitError(UserError):
    """The split cannot be made, or a leakage group would cross it."""


class StoreError(FaceshardsError):
    """A store on disk cannot be used as requested."""


class StoreMissing(StoreError):
    """There is no store at the path."""


class StoreIncomplete(StoreError):
    """The store's last run did not finish."""


class StoreBusy(StoreError):
    """Another run is writing to the store."""


class StoreCorrupt(StoreError):
    """The store's bytes differ from what its index records."""


class StoreChanged(StoreError):
    """The store was made with another configuration."""


class StageMissing(FaceshardsError):
    """A package or a weight file that a stage needs is not installed."""


class NothingStored(FaceshardsError):
    """A run ended without an error, but no video could be stored."""


class AccountingError(FaceshardsError):
    """The totals of a run do not add up."""


class VideoRejected(FaceshardsError):
    """One video cannot be used: raised inside a stage, recorded as a `Rejected` at the boundary of the video.

    Args:
        stage: the stage that rejects it.
        reason: the reason, for programs.
        detail: the reason in a sentence for a person, with the values found.
    """

    def __init__(self, stage: Stage, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.stage = stage
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[VideoRejected], tuple[Stage, Reason, str]]:
        """Support pickling: the exception passes between processes."""
        return type(self), (self.stage, self.reason, self.detail)

    def for_video(self, video_id: str) -> Rejected:
        """Return the rejection of a video, to be counted and written."""
        return Rejected(video_id=video_id, stage=self.stage, reason=self.reason, detail=self.detail)


def exit_status(error: BaseException) -> int:
    """Return the exit status of a command that ended with an exception."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return EXIT_USAGE if isinstance(error, UserError | StoreError) else EXIT_FAILED


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'NAME'?` with the known name nearest to an unknown one, or an empty string."""
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
