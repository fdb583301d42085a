import json
import lzma

import pandas as pd
import pytest

from common.errors import UsageError
from common.runs.finished import FoundRun, finished_runs
from common.runs.publish import write_runs


@pytest.fixture
def run(tmp_path, make_run):
    path = make_run(tmp_path / "run", settings={"seed": 3, "weights": "none"}, data_fingerprint="abc")
    (path / "local.json").write_text('{"data_dir": "/somewhere"}')
    return FoundRun.of(path)


def test_a_run_is_read_again_from_what_was_published(run, tmp_path):
    metrics = run.metrics()
    further = {"kept": {"a": 1}, "n": metrics["n"], "none": None}
    metrics |= {"kept": {"a": 1}, "given": {"bootstrap_seed": 3, "cost_matrix": None, "extra": {**further, "elsewhere": 2}}}
    (run.path / "metrics.json").write_text(json.dumps(metrics))
    write_runs(tmp_path / "out", "Table", [("a row", run), ("again", run)])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"runs.json.xz", "predictions.csv.xz", "history.csv.xz"}
    (again,) = finished_runs(tmp_path / "out", "cervical")
    assert (again.digest, again.seed, again.name) == (run.digest, run.seed, run.name)
    (mine, classes), (table, others) = run.predictions(), again.predictions()
    assert classes == others and table["predicted"].equals(mine["predicted"])
    pd.testing.assert_frame_equal(table, mine, atol=1e-5, rtol=0)
    pd.testing.assert_frame_equal(again.history(), run.history())
    assert again.metrics()["per_class"] == run.metrics()["per_class"]
    assert again.metrics()["given"] == run.metrics()["given"]
    assert "somewhere" not in lzma.decompress((tmp_path / "out" / "runs.json.xz").read_bytes()).decode()


def test_metrics_that_the_table_does_not_show_are_left_out(run, tmp_path):
    maps = {"gradcam": {"t00": {"dice": 0.5}, "t01": {"dice": 0.4}}, "blob": {"t01": {"dice": 0.3}}}
    metrics = run.metrics() | {"maps": maps, "given": {"bootstrap_seed": 3, "cost_matrix": None, "extra": {"maps": maps}}}
    (run.path / "metrics.json").write_text(json.dumps(metrics))
    write_runs(tmp_path / "out", "Table", [("a row", run)], left_out=r"maps\..*\.t(?!00)\d\d")
    (again,) = finished_runs(tmp_path / "out", "cervical")
    assert again.metrics()["maps"] == {"gradcam": {"t00": {"dice": 0.5}}, "blob": {}}
    write_runs(tmp_path / "out", "Table", [("a row", run)], left_out="maps")
    (again,) = finished_runs(tmp_path / "out", "cervical")
    assert "maps" not in again.metrics() and "maps" not in again.metrics()["given"]["extra"]
    assert again.metrics()["per_class"] == run.metrics()["per_class"]


def test_runs_with_other_classes_share_a_file(run, tmp_path):
    table, _ = run.predictions()
    (run.path / "predictions.csv").write_text(
        table.rename(columns={"prob_Parabasal": "prob_NA"}).replace("Parabasal", "NA").to_csv(index=False)
    )
    other = FoundRun(run.path, {**run.config, "settings": {"seed": 4}})
    write_runs(tmp_path / "out", "Table", [("a", other)])
    (again,) = finished_runs(tmp_path / "out", "cervical")
    assert again.predictions()[1][-1] == "NA" and (again.predictions()[0]["label"] == "NA").sum() == 40


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("runs.json.xz", lambda text: text.replace('"runs": [', '"runs": [3, ')),
        ("runs.json.xz", lambda text: text.replace('"metrics"', '"metric"')),
        ("predictions.csv.xz", lambda text: text.replace("predicted", "called", 1)),
        ("predictions.csv.xz", lambda text: text.replace("prob_Parabasal", "prob_Other", 1)),
        ("predictions.csv.xz", lambda text: text + "0,1,2\n" + "," * 40),
        ("predictions.csv.xz", lambda text: text.replace(",0.", ",x.", 1)),
        ("history.csv.xz", lambda text: text.replace("run", "ran", 1)),
        ("history.csv.xz", None),
    ],
)
def test_a_damaged_published_table_is_named(run, tmp_path, name, damage):
    write_runs(tmp_path / "out", "Table", [("a row", run)])
    path = tmp_path / "out" / name
    if damage is None:
        path.write_bytes(path.read_bytes()[:-20])
    else:
        unpacked = (lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()).decode()
        assert damage(unpacked) != unpacked
        path.write_bytes(lzma.compress(damage(unpacked).encode()) if path.suffix == ".xz" else damage(unpacked).encode())
    with pytest.raises(UsageError, match=name):
        for again in finished_runs(tmp_path / "out", "cervical"):
            again.metrics(), again.predictions(), again.history()


@pytest.mark.parametrize("name", ["runs.json.xz", "predictions.csv.xz"])
def test_a_small_file_that_holds_very_much_is_named(run, tmp_path, name, monkeypatch):
    write_runs(tmp_path / "out", "Table", [("a row", run)])
    monkeypatch.setattr("common.runs.files.MAX_JSON_BYTES", 2**20)
    monkeypatch.setattr("common.runs.finished.MAX_CSV_BYTES", 2**20)
    (tmp_path / "out" / name).write_bytes(lzma.compress(bytes(2**20 + 1)))
    with pytest.raises(UsageError, match=f"{name}.*holds more than 1 MiB"):
        for again in finished_runs(tmp_path / "out", "cervical"):
            again.predictions()


def test_a_table_of_before_is_said_to_be_one(run, tmp_path):
    write_runs(tmp_path, "Table", [("a row", run)])
    packed = tmp_path / "runs.json.xz"
    (tmp_path / "runs.json").write_bytes(lzma.decompress(packed.read_bytes()))
    packed.unlink()
    with pytest.raises(UsageError, match="published in an older form"):
        finished_runs(tmp_path, "cervical")
