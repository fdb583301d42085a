"""The audit of the drawn sample."""

import json
from dataclasses import replace

from PIL import Image

from feedback.audit import run_audit
from feedback.experiments.audit import AuditSettings


def test_audit(sample_cache, tmp_path):
    folder = run_audit(AuditSettings(cache_dir=sample_cache, run_dir=tmp_path / "audit"))
    found = json.loads((folder / "audit.json").read_text())
    assert found["synthetic"] and found["images"] == 179 and set(found["splits"]) == {"paper", "grouped"}
    assert "test | 16 | 0 | 16" in (folder / "overlap.md").read_text()
    assert {path.stem for path in (folder / "figures").iterdir()} == {
        "class_distribution_paper", "class_distribution_grouped", "class_distribution_reduced", "class_distribution_upsampled", "samples",
    }  # fmt: skip


def test_an_audit_whose_masks_cannot_be_read_ends_well(tmp_path, caplog):
    pages = [Image.new("L", (8, 8), value) for value in (0, 255)]
    for label in ("a", "b"):
        for index in range(5):
            for kind in ("images", "masks"):
                (tmp_path / kind / label).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / "images" / label / f"{label}{index}.png")
            pages[0].save(tmp_path / "masks" / label / f"{label}{index}.tif", save_all=True, append_images=pages[1:])
    options = AuditSettings(dataset="folders", data_dir=tmp_path / "images", mask_dir=tmp_path / "masks", cache_dir=tmp_path / "cache")
    folder = run_audit(replace(options, run_dir=tmp_path / "audit"))
    assert "10 cannot be read (first: cannot read mask ../masks/a/a0.tif: holds several pages" in (folder / "audit.md").read_text()
    assert "no sheet of samples: cannot read mask" in caplog.text and not (folder / "figures" / "samples.png").exists()
