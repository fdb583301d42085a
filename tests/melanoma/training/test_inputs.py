"""Dataset B decides a run's result as Dataset A does: an image of it that changed is said by name."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from common.errors import UsageError
from melanoma.experiments import pretrain
from melanoma.training.inputs import load_inputs, open_run


@pytest.mark.parametrize("named", [True, False], ids=["its folder is named", "the default folder"])
def test_a_changed_image_of_dataset_b_is_named(named: bool, isic: Path, images_b: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    others = shutil.copytree(images_b, tmp_path / "b")
    chosen = replace(
        pretrain.COMMAND.default("described", "isic2018"), data_dir=isic, unlabelled_dir=others, cache_dir=tmp_path / "cache",
        backbone="mobilenetv2_035", weights="none", image_size=64,
    )  # fmt: skip

    def begin() -> None:
        inputs = load_inputs(chosen)
        open_run(inputs, "pretrain", Path("own") if named else None, dataset_b=inputs.facts_b).release()

    begin()
    begin()
    Image.new("RGB", (40, 40), "red").save(others / "ISIC_9000003.jpg")
    with pytest.raises(UsageError, match=r"the data changed since .*1 files changed \(.*b/ISIC_9000003.jpg\).*put them back"):
        begin()
