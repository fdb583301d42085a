"""Which runs a table is made of."""

from pathlib import Path

from melanoma.experiments.found import baseline_rows, default_rows, find_runs, groups_of
from tests.melanoma.experiments.made import write_run


def test_the_same_settings_in_two_folders_are_one_seed(tmp_path: Path) -> None:
    write_run(tmp_path / "1-seed0", 0.2)
    write_run(tmp_path / "bio_u_net-seed0", 0.4)
    write_run(tmp_path / "two-seed1", 0.6, seed=1)
    write_run(tmp_path / "other", 0.9, tasks="two")
    write_run(tmp_path / "cams-a", 0.1, "cams", simclr=False, segmentation=False)
    write_run(tmp_path / "cams-b", 0.3, "cams", simclr=False, segmentation=False)
    runs = find_runs(tmp_path)
    assert [run.path.name for run in default_rows(runs, "bio_u_net")] == ["1-seed0", "two-seed1"]
    assert [run.path.name for run in default_rows(runs, "bio_u_net", tasks="two")] == ["other"]
    assert [run.path.name for run in baseline_rows(runs, "cams")] == ["cams-a"]


def test_tasks_and_repeats_say_nothing_about_a_run_without_segmentation(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.2, segmentation=False, simclr=False, tasks="two", repeats=3)
    assert len(default_rows(find_runs(tmp_path), "f_res")) == 1


def test_a_run_at_work_is_no_result_and_a_published_one_is(tmp_path: Path) -> None:
    write_run(tmp_path / "at_work", 0.2, finished=False)
    published = write_run(tmp_path / "published", 0.2, finished=False)
    (published / "local.json").unlink()
    assert [run.path.name for run in find_runs(tmp_path)] == ["published"]


def test_other_images_are_another_group_and_so_is_another_dataset_b(tmp_path: Path) -> None:
    write_run(tmp_path / "plain", 0.1, simclr=False)
    write_run(tmp_path / "whole", 0.1, b="aaaa")
    write_run(tmp_path / "elsewhere", 0.1, fingerprint="g")
    groups = groups_of(find_runs(tmp_path))
    assert sorted([run.path.name for run in runs] for runs in groups.values()) == [["elsewhere"], ["plain", "whole"]]
    write_run(tmp_path / "whole_again", 0.1, b="bbbb")
    groups = groups_of(find_runs(tmp_path))
    assert sorted([run.path.name for run in runs] for runs in groups.values()) == [
        ["elsewhere"],
        ["plain", "whole"],
        ["plain", "whole_again"],
    ]
    assert {name.rsplit("-", 1)[-1] for name in groups} > {"aaaa", "bbbb"}
