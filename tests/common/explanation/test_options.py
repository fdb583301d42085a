"""Options of `explain`: bad values are refused before anything heavy is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from cervical.experiments.explain import COMMAND
from common.cli import parse
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
        ({"lime_samples": 2}, "--lime-samples 2"),
        ({"lime_superpixels": 1}, "--lime-superpixels 1"),
        ({"lime_superpixels": -3}, "--lime-superpixels -3"),
        ({"seed": -1}, "--seed -1"),
        ({"images": (Path("no/such.png"),)}, "no/such.png"),
        ({"data_dir": Path("no/such")}, "--data-dir no/such"),
        ({"output": Path(__file__)}, "is a file"),
    ],
)
def test_bad_values_name_the_option(run, values, message):
    with pytest.raises(UsageError, match=message):
        ExplainOptions(run=run, **values).check_paths()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--methods gradcam --lime-samples 50", "--lime-samples: has no effect here: LIME is none of the --methods"),
        ("--methods gradcam --lime-superpixels 9", "--lime-superpixels: has no effect here"),
        ("--methods lime --layer conv", "--layer: has no effect here: none of the --methods looks at a feature map"),
        ("--methods lime --engine tf-keras-vis", "--engine: has no effect here"),
        ("--sanity-images 5", "--sanity-images: has no effect here: expected --sanity"),
        ("--no-faithfulness --faithfulness-images 5", "--faithfulness-images: has no effect here: with --no-faithfulness"),
        (f"--faithfulness-images 5 --images {__file__}", "--faithfulness-images: has no effect here: test images are not looked at"),
        (f"--sanity --sanity-images 5 --images {__file__}", "--sanity-images: has no effect here"),
        (f"--data-dir /tmp --images {__file__}", "--data-dir: has no effect here"),
    ],
)
def test_an_option_acts_or_is_refused(run, words, reason):
    with pytest.raises(UsageError, match=reason):
        parse(COMMAND, [str(run), *words.split()])


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"config\.json"):
        parse(COMMAND, [str(tmp_path)])


def test_importing_the_options_imports_nothing_heavy():
    check = "import sys, common.explanation.options; print([m for m in ('numpy', 'keras', 'pandas', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout.strip() == "[]"
