"""Old address of `dataset`, `folders`, `fingerprint`, `masks` and `readable`, until all studies name those."""

from common.data.dataset import Dataset, class_names
from common.data.fingerprint import fingerprint
from common.data.folders import folders_dataset
from common.data.masks import find_masks
from common.data.readable import check_readable, unreadable

__all__ = ["Dataset", "check_readable", "class_names", "find_masks", "fingerprint", "folders_dataset", "unreadable"]
