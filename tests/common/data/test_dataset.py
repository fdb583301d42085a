"""The table of images."""

from pathlib import Path

import pandas as pd
import pytest

from common.data.dataset import Dataset
from common.errors import UsageError


def test_an_image_may_be_listed_once_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="x.png is listed more than once"):
        Dataset("d", tmp_path, pd.DataFrame({"image": ["x.png"] * 2, "label": "a", "group": "g"}))
