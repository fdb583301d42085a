"""Tables 1 and 7, which count instead of comparing: images with each indicator, floating-point operations."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from common.report.plots import save
from common.report.tables import Printed, Row, comparison_table
from common.runs.finished import FoundRun
from common.runs.reading import RunFolder
from melanoma import figures, paper
from melanoma.experiments.base import LESION


def _plain_table(target: Path, number: int, title: str, rows: Sequence[Row], metric: str, note: str = "") -> Path:
    """A table of counts: report.md, and table.csv with the columns of every other published table."""
    folder = RunFolder(target / f"table_{number}")
    lines = [
        {
            "kind": "row", "block": "", "method": row.name, "metric": metric, "ours": row.measured, "seeds": 1,
            "printed": row.printed.value if row.printed else None, "difference": row.difference,
            "differs": (row.printed.differs or None) if row.printed else None, "source": row.printed.source if row.printed else None,
            "synthetic": row.synthetic,
        }
        for row in rows
    ]  # fmt: skip
    folder.write_table("table.csv", pd.DataFrame(lines))
    return folder.write_text("report.md", f"# {title}\n\n{comparison_table(rows)}\n{note}")


def table_1(target: Path, runs: Sequence[FoundRun]) -> Path | None:
    """Images with and without each indicator."""
    counted = next((run for run in runs if run.metrics().get("indicators")), None)
    if counted is None or set(counted.metrics()["indicators"]) == {LESION}:
        return None
    rows = []
    for name, counts in counted.metrics()["indicators"].items():
        for kind in ("with", "without"):
            value = paper.tables()["table_1"].get(name, {}).get(kind)
            printed = None if value is None else Printed(value, "Table 1")
            title = f"{paper.TITLES.get(name, name)}, {kind}"
            rows.append(Row(title, counts[kind], printed=printed, synthetic=bool(counted.metrics()["synthetic"])))
    note = f"The printed 881 images without a pigment network are a misprint: 2594 - 1523 = {paper.PIGMENT_WITHOUT}.\n"
    return _plain_table(target, 1, "Table 1: images with and without each indicator", rows, "images", note)


def table_7(target: Path, runs: Sequence[FoundRun]) -> Path | None:
    """FLOPs counted on freshly built models, and fig. 6 drawn from the same."""
    from melanoma.flops import PAPER, measured

    settings = next((run.recipe for run in runs if run.experiment == "train"), None)
    if settings is None:
        return None
    settings = {"projection": PAPER["projection"], **settings}
    printed, rows = paper.tables()["table_7"], []
    same = all(settings[key] == value for key, value in PAPER.items())
    for kind in [PAPER] if same else [PAPER, settings]:
        for name, (key, value) in measured(kind)[0].items():
            known = printed.get(key) if kind is PAPER else None
            beside = None if known is None else Printed(known, "Table 7")
            rows.append(Row(f"{kind['backbone']} at {kind['image_size']} px · {name}", value, printed=beside))
    note = (
        "Billion operations, two a multiply-add, for one image. The printed 43.2 is one forward pass of ResNet50 at 512 px and 129.5 "
        "three times that, forward and backward (DEVIATIONS, FLOPs). The printed 469.3 of the U-Net is 156.4 forward, of which 43.2 would "
        "be the encoder's: a decoder of 113 against our 31, whose widths the paper does not state (with twice our 256 to 16 channels the "
        "U-Net is 128.9 forward, with four times 322.7). Counted, not measured: no seed.\n"
    )
    figure = figures.diagram(measured(settings)[1], f"Bio-U-Net on {settings['backbone']} at {settings['image_size']} px")
    save(figure, target / "table_7" / "figure_6.png")
    return _plain_table(target, 7, "Table 7: floating-point operations", rows, "billion operations", note)
