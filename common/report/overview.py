"""`python -m common.report.overview RESULTS README.md`: the published tables, ours beside printed, in README.md and RESULTS/README.md.

Nothing is typed by hand: titles come from report.md, numbers from table.csv of each folder RESULTS/<study>/<table>. README.md shows the
printed tables, one row for each (the first method with a printed number, else the first: the document's own stands first);
RESULTS/README.md names every folder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import UsageError
from common.report.markup import MISSING, markdown
from common.runs.files import atomic

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
HEADER = ("study", "printed table", "measured", "ours", "seeds", "printed", "what differs from the printed run")
# Other views of a table that README.md shows already: another split, another metric.
OTHER_VIEWS = ("-grouped", "-expected-cost", "-auc")
DIGITS = 3
MOST_BLOCKS = 3
ORDER = ("cervical", "lmf", "melanoma", "feedback")
HEADING = """# Every published table

Written by `make readme`. Each folder holds report.md, table.csv and, of its runs, settings, metrics, predictions
and histories.

"""


def folders(results: Path) -> list[Path]:
    """Every published folder: one that holds report.md and table.csv."""
    found = [path.parent for path in results.glob("*/*/report.md") if (path.parent / "table.csv").is_file()]
    return sorted(found, key=lambda path: (ORDER.index(path.parent.name) if path.parent.name in ORDER else len(ORDER), path))


def title(folder: Path) -> str:
    """The heading of report.md."""
    return (folder / "report.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()


def rows(folder: Path) -> pd.DataFrame:
    """The measured rows of table.csv, without comparisons. UsageError for a table of an older form."""
    table = pd.read_csv(folder / "table.csv")
    if not {"kind", "method", "metric", "ours", "printed"} <= set(table):
        raise UsageError(f"{folder / 'table.csv'}: expected the columns kind, method, metric, ours and printed; write the table again")
    return table[table["kind"] == "row"]


def overview(results: Path, base: str = "") -> str:
    """Markdown: one row per printed table, or per block of one (a data set, say) where these are few, with the first method of each.

    base: what the links begin with, with its slash.
    """
    lines: list[tuple[object, ...]] = []
    for folder in folders(results):
        named = title(folder)
        if named.startswith("Table") and not folder.name.endswith(OTHER_VIEWS):
            link = f"{base}{folder.relative_to(results).as_posix()}/report.md"
            blocks = list(_blocks(rows(folder)))
            few = blocks if len(blocks) <= MOST_BLOCKS else blocks[:1]
            more = "" if few == blocks else f" (first of {len(blocks)})"
            lines += [_line(folder.parent.name, named, link, block, more) for block in few]
    return markdown(HEADER, lines, left=3) if lines else "No tables are published yet.\n"


def index(results: Path) -> str:
    """Markdown: every published folder with its title."""
    lines = [(path.parent.name, f"[{title(path)}]({path.relative_to(results).as_posix()}/report.md)") for path in folders(results)]
    return markdown(("study", "what"), lines, left=2)


def write_overview(results: Path, readme: Path) -> None:
    """Write the table between the markers of `readme`, and the index to README.md of `results`.

    Raises:
        UsageError: the markers are missing, or a published table has an older form.
    """
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise UsageError(f"{readme}: expected the lines {BEGIN} and {END}")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    table = overview(results, f"{results.name}/")
    with atomic(readme) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{table}{END}{after}", encoding="utf-8")
    with atomic(results / "README.md") as temporary:
        temporary.write_text(HEADING + index(results), encoding="utf-8")


def _blocks(table: pd.DataFrame) -> Iterable[pd.DataFrame]:
    """The rows of each block, in the table's order; blocks that print nothing are one."""
    if "block" not in table or not table["printed"].notna().any():
        return [table]
    blocks = table["block"].astype(object).where(table["block"].notna(), "")
    parts = [table[blocks == name] for name in dict.fromkeys(blocks)]
    return [part for part in parts if part["printed"].notna().any()]


def _line(study: str, named: str, link: str, block: pd.DataFrame, more: str = "") -> tuple[object, ...]:
    beside = block[block["printed"].notna()]
    first = (beside if len(beside) else block).iloc[0]
    where = "" if pd.isna(first.get("block")) else f", {first['block']}{more}"
    printed = MISSING if pd.isna(first["printed"]) else f"{first['printed']:.4g}"
    differs = MISSING if pd.isna(first.get("differs")) else first["differs"]
    ours = _number(first["ours"]) + ("" if pd.isna(first.get("deviation")) else f" ± {_number(first['deviation'])}")
    metric = str(first["metric"]).replace("_", " ")
    return study, f"[{named}]({link}){where}", f"{first['method']}: {metric}", ours, int(first["seeds"]), printed, differs


def _number(value: Any) -> str:
    return MISSING if pd.isna(value) else f"{float(value):.{DIGITS}f}"


def main(arguments: list[str]) -> int:
    """Exit code 2, with one line, when the arguments, the markers or a table are wrong."""
    if len(arguments) != 2 or not Path(arguments[0]).is_dir() or not Path(arguments[1]).is_file():
        print("usage: python -m common.report.overview RESULTS README.md", file=sys.stderr)
        return 2
    try:
        write_overview(Path(arguments[0]), Path(arguments[1]))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
