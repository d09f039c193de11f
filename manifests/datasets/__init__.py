"""The datasets that faceshards knows: one file and one line here for each."""

from manifests.dataset import Dataset
from manifests.datasets.ffpp import FaceForensicsPP

DATASETS: dict[str, Dataset] = {
    "ffpp": FaceForensicsPP(),
}
