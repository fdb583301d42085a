"""The printed tables, spot-checked against the paper's text and against each other."""

import pytest

from melanoma import paper


def test_headline_numbers_of_section_5_2() -> None:
    assert [paper.dice(2, "bio_u_net", name) for name in ("globules", "milia_like_cyst", "negative_network")] == pytest.approx(
        [0.1516, 0.0233, 0.2089]
    )
    assert paper.dice(2, "gradcam", "pigment_network") == pytest.approx(0.4103)
    assert paper.melanoma(3, "f_res_clr") == 0.80
    assert paper.dice(2, "bio_u_net", "lesion") is None


def test_tables_3_to_5_repeat_the_same_two_rows() -> None:
    tables = paper.tables()
    assert tables["table_3"]["f_res"] == tables["table_4"]["f_res"] == tables["table_5"]["f_res"]
    assert tables["table_3"]["bio_u_net"] == tables["table_4"]["1"] == tables["table_5"]["one"]


@pytest.mark.parametrize("indicator", list(paper.tables()["table_6"]))
def test_the_headline_is_table_6_at_threshold_zero(indicator: str) -> None:
    assert paper.threshold(indicator, 0.0) == paper.dice(2, "bio_u_net", indicator)


def test_table_1_sums_to_2594_but_for_the_misprint() -> None:
    sums = {name: row["with"] + row["without"] for name, row in paper.tables()["table_1"].items()}
    assert sums.pop("pigment_network") == 2404
    assert set(sums.values()) == {2594}
    assert paper.tables()["table_1"]["pigment_network"]["with"] + paper.PIGMENT_WITHOUT == 2594


@pytest.mark.parametrize(("indicator", "images"), paper.PRINTED_IMAGES.items())
def test_printed_scores_are_means_of_whole_percents_over_a_few_images(indicator: str, images: int) -> None:
    """DEVIATIONS row 24: every distinct value of Tables 2 to 6 is k/n for whole k, to two printed digits (one streaks value is not)."""
    tables = paper.tables()
    values = {row[indicator] for number in (3, 4, 5) for row in tables[f"table_{number}"].values()} | set(
        tables["table_6"][indicator].values()
    )
    odd = [value for value in values if min(abs(k / images - value) for k in range(100 * images)) > 0.0101]
    assert len(odd) <= 1


def test_flops_add_up() -> None:
    row = paper.tables()["table_7"]
    assert row["simclr"] + row["classifier"] + row["segmentation"] == pytest.approx(row["total"])
