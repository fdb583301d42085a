"""`python -m common.report.overview RESULTS README.md`: one line a published run, in RESULTS/README.md, and the main ones in README.md.

Nothing is typed by hand: the measured numbers come from metrics.json, the printed ones from report.json, the rest from config.json.
The README shows what lies directly in RESULTS/<study>/; runs further down (the cells of a grid, controls) are for RESULTS/README.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from common.errors import UsageError
from common.runs.files import atomic, read_json

MAIN_DEPTH = 2  # <study>/<run>
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
HEADING = (
    "| study: command | data, split | network | n | accuracy (95 % interval) | macro F1 | printed accuracy |\n"
    "| --- | --- | --- | --- | --- | --- | --- |\n"
)


def overview(results: Path, base: str = "", depth: int | None = None) -> str:
    """Markdown table of every run folder below `results` that has config.json and metrics.json, sorted by its path.

    base: what the links begin with, with its slash. depth: leave out folders more than so many below `results`.
    """
    folders = [path.parent for path in sorted(results.rglob("metrics.json")) if (path.parent / "config.json").is_file()]
    kept = [folder for folder in folders if depth is None or len(folder.relative_to(results).parts) <= depth]
    return HEADING + "".join(_line(folder, results, base) for folder in kept) if kept else "No runs are published yet.\n"


def write_overview(results: Path, readme: Path) -> None:
    """Write the whole table to README.md of `results`, and the main runs between the markers of `readme`.

    Raises:
        UsageError: the markers are missing.
    """
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise UsageError(f"{readme}: expected the lines {BEGIN} and {END}")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    table = overview(results, f"{results.name}/", depth=MAIN_DEPTH)
    with atomic(readme) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{table}{END}{after}", encoding="utf-8")
    with atomic(results / "README.md") as temporary:
        heading = "# Every published run\n\nWritten by `make readme` from the files beside it.\n\n"
        temporary.write_text(heading + overview(results), encoding="utf-8")


def _line(folder: Path, results: Path, base: str) -> str:
    config, metrics = read_json(folder / "config.json"), read_json(folder / "metrics.json")
    report = read_json(folder / "report.json") if (folder / "report.json").is_file() else {}
    settings = config.get("settings", {})
    inner = folder.relative_to(results)
    name = f"{config.get('study', '')} {config.get('experiment', 'run')}: {Path(*inner.parts[1:]) if len(inner.parts) > 1 else inner}"
    synthetic = " (synthetic)" if metrics.get("synthetic") else ""
    data = f"{config.get('dataset', '')}{synthetic}, {config.get('split') or settings.get('split', '')}"
    page = inner / "report.md" if (folder / "report.md").is_file() else inner  # a part of a table has no report of its own
    link = base + page.as_posix()
    low_high = metrics.get("accuracy_interval") or []
    accuracy = _share(metrics.get("accuracy")) + (f" ({_share(low_high[0])} to {_share(low_high[1])})" if len(low_high) == 2 else "")
    printed = report.get("printed", {}).get("accuracy")
    # What the printed run had other than ours, such as its network, belongs beside its number.
    printed = _share(printed["value"]) + (f" ({printed['differs']})" if printed.get("differs") else "") if printed else "–"
    network = config.get("backbone") or settings.get("backbone", "")
    shown = (f"[{name}]({link})", f"{data}, seed {config.get('seed')}", network, metrics.get("n", "–"))
    return "| " + " | ".join(map(str, (*shown, accuracy, _share(metrics.get("macro_f1")), printed))) + " |\n"


def _share(value: Any) -> str:
    return "–" if value is None else f"{float(value):.3f}"


def main(arguments: list[str]) -> int:
    """Exit code 2, with one line, when the arguments or the markers are wrong."""
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
