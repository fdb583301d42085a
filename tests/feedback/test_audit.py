"""The audit of the drawn sample."""

import json

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
