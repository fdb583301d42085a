import pytest

from common.report.markup import Printed, Row, comparison_table, markdown


def cells(text, row=2):
    return [cell.strip() for cell in text.splitlines()[row].strip("|").split("|")]


def test_ours_printed_difference_interval():
    row = Row("accuracy", 0.9643, [0.95, 0.9765], Printed(0.9655, "Table I"))
    assert cells(comparison_table([row])) == ["accuracy", "0.9643", "0.9655", "-0.0012", "[0.9500, 0.9765]", "yes", "1", "Table I"]


def test_a_printed_number_outside_the_interval():
    assert cells(comparison_table([Row("x", 0.5, [0.4, 0.6], Printed(0.7, "T"))]))[5] == "no"


def test_seeds_show_their_deviation():
    assert cells(comparison_table([Row("x", 0.5, deviation=0.01, seeds=3)]))[1] == "0.5000 ± 0.0100"


def test_synthetic_numbers_are_not_compared():
    row = Row("x", 0.5, [0.4, 0.6], Printed(0.7, "T"), synthetic=True)
    assert row.difference is None
    assert cells(comparison_table([row]))[3:6] == ["not comparable", "[0.4000, 0.6000]", "–"]


def test_holes_are_dashes():
    assert cells(comparison_table([Row("x", None, seeds=0)]))[1:6] == ["–"] * 5


def test_difference_is_ours_minus_printed():
    assert Row("x", 0.9, printed=Printed(0.8, "T")).difference == pytest.approx(0.1)


def test_bars_in_cells_do_not_break_the_table():
    assert markdown(("a", "b"), [("x|y", 1)]).splitlines()[2] == "| x\\|y | 1 |"


def test_a_printed_run_that_differs_is_named_and_no_difference_is_taken():
    row = Row("accuracy", 0.9, (0.8, 0.95), Printed(0.71, "Table 1", "VGG16"))
    assert row.difference is None
    line = comparison_table([row]).splitlines()[2]
    assert "| 0.7100 | not comparable |" in line and line.endswith("| Table 1 (VGG16) |") and "yes" not in line and "no |" not in line
