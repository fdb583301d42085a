"""Sentences and tables of an audit's result, from a result made by hand."""

from common.data.audit_report import findings, markdown

LEAK = {"images": 4, "shared": 3, "fraction": 0.75, "per_class": {"a": {"shared": 3}}}
PART = {"train": 6, "validation": 0, "test": 4}


def result(**changes: object) -> dict:
    size = {"min": 10, "median": 12.0, "mean": 12.34, "max": 20}
    split = {
        "totals": PART,
        "classes": {"a": PART},
        "leakage": {"test": LEAK, "validation": {"images": 0, "shared": 0, "fraction": 0.0, "per_class": {}}},
        "test_images_identical_to_train": 1,
        "test_images_near_train": 2,
    }
    return {
        "name": "cells",
        "synthetic": False,
        "images": 10,
        "classes": {"a": {"images": 9, "official": 10, "groups": 4}},
        "official": False,
        "unlabelled": 1,
        "left_out": {".dat files": 7},
        "unreadable": {"x.png": "truncated"},
        "wrong_suffix": {},
        "odd_modes": {f"{number}.png": "CMYK" for number in range(25)},
        "turned": [],
        "flat": ["f.png"],
        "identical": [["p.png", "q.png"]],
        "near_copies": [["p.png", "r.png"]],
        "near_bits": 45,
        "contradictions": [["p.png", "r.png"]],
        "groups": {"images_sharing": 8, "number": 4, "largest": 5, "with_several_labels": ["s1", "s2"]},
        "masks": {"mask_lesion": {"present": 9, "unreadable": 1, "other_size": 0, "empty": 2, "problems": {"m.png": "not a mask"}}},
        "splits": {"paper": split},
        "sizes": {"different": 3, "width": size, "height": size, "bytes": size},
        "formats": {"PNG": 10},
        "modes": {"RGB": 10},
        **changes,
    }


def test_every_fact_has_its_sentence() -> None:
    lines = findings(result())
    for sentence in (
        "10 images in 1 classes.",
        "Not the official numbers: a 9 of 10.",
        "Labels: 1 images have none.",
        "Passed over: 7 .dat files.",
        "1 images cannot be read: 1 truncated (x.png).",
        "1 images are nearly of one colour, so perhaps show nothing: f.png.",
        "25 images are neither 8-bit RGB nor 8-bit grey: 0.png, 1.png, 2.png, ….",
        "2 images are byte-identical copies, in 1 sets.",
        "1 pairs of images are nearly the same picture (first: p.png and r.png; at most 45 of 256 bits differ); see audit.json.",
        "1 pairs of the same or nearly the same picture have two labels (first: p.png and r.png).",
        "9 of 10 images have a lesion mask; 1 cannot be read; 2 are empty (first: not a mask).",
        "Split paper: 3 of 4 test images (75%) share their group with a training image.",
        "Split paper: test images that are byte-identical to a training image: 1.",
        "Split paper: test images that are nearly the same picture as a training image: 2.",
    ):
        assert sentence in lines, sentence
    assert any("2 groups hold images of several classes (s1, s2)" in line for line in lines)


def test_nothing_wrong_is_said_too() -> None:
    lines = findings(
        result(
            official=True,
            unreadable={},
            flat=[],
            identical=[],
            near_copies=[],
            contradictions=[],
            groups={"images_sharing": 0},
            splits={},
            synthetic=True,
        )
    )
    assert "Every class has the official number of images." in lines and "Every image can be decoded whole." in lines
    assert not any("one colour" in line for line in lines)
    assert "No two images are byte-identical." in lines and "synthetic" in lines[0]
    assert any(line.startswith("No two images share a group") for line in lines)


def test_the_page_has_the_tables_behind_the_sentences() -> None:
    page = markdown({**result(), "findings": ["A fact."]})
    assert page.startswith("# Audit of cells\n") and "- A fact." in page and "Synthetic" not in page
    for line in (
        "| a | 9 | 10 | -1 | 4 |",
        "| a | 6 | 0 | 4 | 3 |",
        "| all | 6 | 0 | 4 | 3 |",
        "| width | 10 | 12.0 | 12.3 | 20 |",
        "| PNG | 10 |",
    ):
        assert line in page, line
    assert "- 19.png: CMYK" in page and "- 20.png" not in page and "- … 5 more in audit.json" in page and "- p.png = q.png" in page
    assert "**Synthetic images" in markdown({**result(synthetic=True), "findings": []})
