"""Every exception that faceshards raises on purpose.

    FaceshardsError
    ├── UserError               something a person named is wrong; the command line prints it and exits with 2
    │   ├── ConfigError         a setting, an option or a YAML file (also `prefect_plugin.AmbiguousDeploymentError`)
    │   ├── DatasetError        the dataset's folder
    │   ├── SplitError          the split cannot be made, or a leakage group would cross it
    │   └── ArchiveError        an archive holds what must not be extracted (tasks/archives)
    │       └── ArchiveBroken   its bytes are not those that its maker wrote
    ├── StoreError              a store on disk; the command line prints it and exits with 2
    │   ├── StoreMissing        no store there
    │   ├── StoreIncomplete     a run was interrupted, or is still at work
    │   ├── StoreBusy           another run is writing to it
    │   ├── StoreCorrupt        its bytes are not what its index promises
    │   └── StoreChanged        it was made with another configuration
    ├── VideoRejected           one video cannot be used; becomes a `Rejected` row, never ends a run
    ├── FetchFailed             one file cannot be fetched; counted and told (tasks/connections)
    │   └── Transient           another try may help
    ├── DownloadIncomplete      a download ended without all of its files (flows/download)
    ├── ExtractionStopped       interrupted while an archive was extracted (tasks/archives)
    ├── StageMissing            a package or a weight file that a stage needs is not installed
    ├── NothingStored           a run ended, every video was rejected
    └── AccountingError         the totals of a run do not add up: a defect of ours

Messages follow one form: `{what}: got {value}, expected {allowed}; {the way out}`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from manifests.rejected import Reason, Rejected, Stage

# Exit statuses of every command. 130 is a shell's own for a program that SIGINT ended: 128 + 2.
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


class FaceshardsError(Exception):
    """Anything that faceshards raises on purpose."""


class UserError(FaceshardsError):
    """Something a person named is wrong."""


class ConfigError(UserError):
    """A setting, an option or a configuration file is wrong."""


class DatasetError(UserError):
    """The dataset's folder is not what it is said to be."""


class SplitError(UserError):
    """The split cannot be made, or a leakage group would cross it."""


class StoreError(FaceshardsError):
    """A store on disk cannot be used as asked."""


class StoreMissing(StoreError):
    """There is no store at the path."""


class StoreIncomplete(StoreError):
    """The store's last run did not finish."""


class StoreBusy(StoreError):
    """Another run is writing to the store."""


class StoreCorrupt(StoreError):
    """The store's bytes are not what its index promises."""


class StoreChanged(StoreError):
    """The store was made with another configuration."""


class StageMissing(FaceshardsError):
    """A package or a weight file that a stage needs is not installed."""


class NothingStored(FaceshardsError):
    """A run ended and accounted for everything, but no video could be stored."""


class AccountingError(FaceshardsError):
    """The totals of a run do not add up."""


class VideoRejected(FaceshardsError):
    """One video cannot be used: raised inside a stage, recorded as a `Rejected` at the boundary of the video.

    Args:
        stage: where it was found out.
        reason: why, from the closed set.
        detail: the sentence for a person, with the values that were seen.
    """

    def __init__(self, stage: Stage, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.stage = stage
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[VideoRejected], tuple[Stage, Reason, str]]:
        """Let it pass between processes whole."""
        return type(self), (self.stage, self.reason, self.detail)

    def for_video(self, video_id: str) -> Rejected:
        """Return the row that is counted and written."""
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
