"""The README's table is made from the published tables and stands between its markers."""

from pathlib import Path

import pytest

from common.report.overview import BEGIN, END, index, main, overview

HEADER = "kind,block,method,metric,ours,deviation,seeds,printed,differs\n"


def publish(folder: Path, title: str, *lines: str) -> None:
    folder.mkdir(parents=True)
    (folder / "report.md").write_text(f"# {title}\n\ntext\n")
    (folder / "table.csv").write_text(HEADER + "".join(line + "\n" for line in lines))


def test_a_row_per_printed_table_and_block(tmp_path: Path) -> None:
    results = tmp_path / "results"
    publish(
        results / "lmf" / "two",
        "Table 2: losses",
        "row,HAM,LMF,macro_f1,0.5467,,1,0.8461,image size 112",
        "row,ODIR,LMF,macro_f1,0.43,,1,0.6294,",
    )
    publish(results / "melanoma" / "three", "Table 3: ablation", "row,,Bio,Dice,0.4611,0.027,2,,", "comparison,,Bio,Dice,9,,2,,")
    publish(results / "cervical" / "two", "Table II: costs", "row,,none,accuracy,0.9,,1,,", "row,,balanced,accuracy,0.95,,1,0.9557,")
    lines = overview(results, "results/").splitlines()[2:]
    assert lines == [
        "| cervical | [Table II: costs](results/cervical/two/report.md) | balanced: accuracy | 0.950 | 1 | 0.9557 | – |",
        "| lmf | [Table 2: losses](results/lmf/two/report.md), HAM | LMF: macro f1 | 0.547 | 1 | 0.8461 | image size 112 |",
        "| lmf | [Table 2: losses](results/lmf/two/report.md), ODIR | LMF: macro f1 | 0.430 | 1 | 0.6294 | – |",
        "| melanoma | [Table 3: ablation](results/melanoma/three/report.md) | Bio: Dice | 0.461 ± 0.027 | 2 | – | – |",
    ]


def test_of_many_blocks_the_first_stands_for_all(tmp_path: Path) -> None:
    publish(tmp_path / "melanoma" / "six", "Table 6: cuts", *(f"row,{name},Bio,Dice,0.5,,1,0.4," for name in "abcd"))
    assert overview(tmp_path).splitlines()[2:] == [
        "| melanoma | [Table 6: cuts](melanoma/six/report.md), a (first of 4) | Bio: Dice | 0.500 | 1 | 0.4 | – |"
    ]


def test_other_views_and_other_results_stand_in_the_index_only(tmp_path: Path) -> None:
    publish(tmp_path / "lmf" / "two-grouped", "Table 2: losses, grouped", "row,,LMF,macro_f1,0.5,,1,,")
    publish(tmp_path / "lmf" / "sweep", "Sweep", "row,,LMF,macro_f1,0.5,,1,,")
    (tmp_path / "lmf" / "half").mkdir()
    assert overview(tmp_path) == "No tables are published yet.\n"
    assert [line.split("(")[1].split(")")[0] for line in index(tmp_path).splitlines()[2:]] == [
        "lmf/sweep/report.md",
        "lmf/two-grouped/report.md",
    ]


def test_only_what_is_between_the_markers_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path / "results" / "lmf" / "two", "Table 2: losses", "row,,LMF,macro_f1,0.5,,1,0.8,")
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    assert main([str(tmp_path / "results"), str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("above\n") and text.endswith("\nbelow\n") and "old" not in text and "0.500" in text
    assert "](lmf/two/report.md)" in (tmp_path / "results" / "README.md").read_text()
    assert main([str(tmp_path / "results"), str(readme)]) == 0
    assert readme.read_text() == text
    readme.write_text("no markers")
    assert main([str(tmp_path / "results"), str(readme)]) == 2
    assert BEGIN in capsys.readouterr().err


def test_a_table_of_an_older_form_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path / "results" / "lmf" / "two", "Table 2: losses")
    (tmp_path / "results" / "lmf" / "two" / "table.csv").write_text("name,ours\nLMF,0.5\n")
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}\n{END}\n")
    assert main([str(tmp_path / "results"), str(readme)]) == 2
    assert "table.csv: expected the columns kind" in capsys.readouterr().err
