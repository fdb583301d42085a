"""Options of `explain`: bad values are refused before anything heavy is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UsageError
from common.explanation.options import ExplainOptions


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name in ("config.json", "model.keras"):
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": ("gradcam", "occlusion")}, "--methods occlusion"),
        ({"methods": ()}, "at least one"),
        ({"lime_samples": 2}, "--lime-samples 2"),
        ({"lime_superpixels": 1}, "--lime-superpixels 1"),
        ({"lime_superpixels": -3}, "--lime-superpixels -3"),
        ({"seed": -1}, "--seed -1"),
        ({"images": (Path("no/such.png"),)}, "no/such.png"),
        ({"data_dir": Path("no/such")}, "--data-dir no/such"),
        ({"output": Path(__file__)}, "is a file"),
        ({"faithfulness_images": 5, "images": (Path(__file__),)}, "--faithfulness-images"),
    ],
)
def test_bad_values_name_the_option(run, values, message):
    with pytest.raises(UsageError, match=message):
        ExplainOptions(run=run, **values)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"config\.json"):
        ExplainOptions(run=tmp_path)


def test_importing_the_options_imports_nothing_heavy():
    check = "import sys, common.explanation.options; print([m for m in ('numpy', 'keras', 'pandas', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.strip() == "[]"
