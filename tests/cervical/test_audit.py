"""The audit finds what a data set holds and what no split fits."""

import json
import shutil
from pathlib import Path

from cervical.audit import run_audit
from cervical.experiments.audit import AuditSettings
from common.data.sample import ensure_sample


def test_audit_of_the_sample(tmp_path, sample_cache):
    folder = run_audit(AuditSettings(cache_dir=sample_cache, run_dir=tmp_path / "audit"))
    found = json.loads((folder / "audit.json").read_text())
    assert found["left_out"] == {"cluster images": 60, ".dat files": 600}
    assert {name: (mask["present"], mask["problems"]) for name, mask in found["masks"].items()} == dict.fromkeys(
        ("mask_cytoplasm", "mask_nucleus"), (300, {})
    )
    assert set(found["splits"]) == {"paper", "grouped"} and (folder / "audit.md").is_file()


def test_audit_reads_the_outlines_and_names_one_outside_its_image(tmp_path, sample_cache):
    cells = Path(shutil.copytree(ensure_sample("sipakmed", sample_cache), tmp_path / "cells"))
    outline = next((cells / "im_Parabasal" / "im_Parabasal" / "CROPPED").glob("*_cyt.dat"))
    outline.write_text("0,0\n9000,0\n0,9000\n")
    settings = AuditSettings(dataset="sipakmed", data_dir=cells, cache_dir=tmp_path, run_dir=tmp_path / "audit")
    folder = run_audit(settings)
    masks = json.loads((folder / "audit.json").read_text())["masks"]
    assert masks["mask_nucleus"]["present"] == 300 and not masks["mask_nucleus"]["problems"]
    (problem,) = masks["mask_cytoplasm"]["problems"].values()
    assert outline.name in problem and "outside its image" in problem and problem in (folder / "audit.md").read_text()


def test_audit_tells_of_data_that_no_split_fits(tmp_path, caplog):
    from PIL import Image

    for label, number in (("a", 5), ("b", 2)):
        (tmp_path / "cells" / label).mkdir(parents=True)
        for index in range(number):
            Image.new("RGB", (8, 9), (index, 0, 0)).save(tmp_path / "cells" / label / f"{index}.png")
    settings = AuditSettings(dataset="folders", data_dir=tmp_path / "cells", cache_dir=tmp_path, run_dir=tmp_path / "audit")
    found = json.loads((run_audit(settings) / "audit.json").read_text())
    assert found["images"] == 7 and "paper" not in found["splits"]
    assert "no paper split: the class b has only 2 image(s)" in caplog.text
