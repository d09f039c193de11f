"""Registry of dataset layouts by name: each has a file in this folder and a line here."""

from manifests.datasets.celeb_df import CelebDF
from manifests.datasets.dataset import Dataset
from manifests.datasets.dfdc import DFDC
from manifests.datasets.ffpp import FaceForensicsPP
from manifests.datasets.ffpp_kaggle import FaceForensicsPPOnKaggle
from manifests.datasets.folder import Folder
from manifests.entry import VideoEntry
from manifests.registry import Registry

DATASETS = Registry[Dataset](
    "dataset",
    "faceshards.datasets",
    {
        "ffpp": FaceForensicsPP(),
        "ffpp_kaggle": FaceForensicsPPOnKaggle(),
        "celeb_df": CelebDF(),
        "dfdc": DFDC(),
        "folder": Folder(),
    },
    needs=("name", "title", "expects", "recognise", "survey", "official_splits"),
)


def recordings_of(entry: VideoEntry) -> list[str]:
    """Return the recordings that a video's footage and its donor's face come from, as far as the dataset tells."""
    known = DATASETS.get(entry.dataset)
    found = [known.recording_of(footage) for footage in (entry.target_id, entry.source_id) if footage] if known else []
    return [f"{entry.dataset}/{recording}" for recording in found if recording is not None]
