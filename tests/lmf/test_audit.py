"""`lmf audit` finds what is known of the drawn HAM10000."""

import json

import numpy as np
from PIL import Image

from lmf.audit import audit_command
from lmf.experiments.audit import AuditSettings


def test_audit_writes_counts_and_leakage(sample_cache, tmp_path):
    folder = audit_command(AuditSettings(cache_dir=sample_cache, run_dir=tmp_path))
    result = json.loads((folder / "audit.json").read_text())
    assert result["name"] == "sample-ham10000" and result["synthetic"]
    assert set(result["splits"]) == {"paper", "grouped"}
    text = (folder / "audit.md").read_text()
    assert "Split grouped: 0 of" in text and (folder / "fig2.png").is_file()


def test_a_limit_holds_for_all_that_is_looked_at(sample_cache, tmp_path):
    result = json.loads((audit_command(AuditSettings(cache_dir=sample_cache, run_dir=tmp_path, limit=60)) / "audit.json").read_text())
    assert result["images"] == 60 == sum(result["splits"]["paper"]["totals"].values()) and result["official"] is None


def test_a_split_that_cannot_be_made_is_left_out(tmp_path, caplog):
    for label, n in (("a", 12), ("b", 3)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(tmp_path / "data" / label / f"{i}.png")
    audit_command(AuditSettings(dataset="folders", data_dir=tmp_path / "data", cache_dir=tmp_path, run_dir=tmp_path / "out"))
    assert "no paper split: the class b has 3 images" in caplog.text
    assert set(json.loads((tmp_path / "out" / "audit.json").read_text())["splits"]) == {"grouped"}
