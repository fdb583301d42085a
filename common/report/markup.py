"""Markdown tables, and the row that every result table is made of: ours, printed, difference, interval."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MISSING = "–"
# Columns of history.csv that hold no score.
BOOKKEEPING = frozenset({"stage", "epoch", "seconds", "learning_rate", "lr"})


@dataclass(frozen=True)
class Printed:
    """A number as a paper prints it, in the unit of ours (shares 0..1 where ours are), and where: "paper, Table III".

    differs: in what the printed run was another than ours, such as "VGG16": it is shown beside the number, and no difference is taken.
    """

    value: float
    source: str
    differs: str = ""


@dataclass(frozen=True)
class Row:
    """One measured number beside the printed one. `seeds` > 1: `measured` is a mean and `deviation` its standard deviation."""

    name: str
    measured: float | None
    interval: Sequence[float] | None = None
    printed: Printed | None = None
    deviation: float | None = None
    seeds: int = 1
    synthetic: bool = False

    @property
    def difference(self) -> float | None:
        """Ours minus printed. None without one of the two, and on synthetic data or where the printed run differs, which do not compare."""
        if self.measured is None or self.printed is None or self.synthetic or self.printed.differs:
            return None
        return self.measured - self.printed.value


def number(value: float | None, digits: int = 4, sign: bool = False) -> str:
    """A fixed number of digits, or a dash for nothing measured, None or NaN."""
    if value is None or value != value:
        return MISSING
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def interval_text(interval: Sequence[float] | None, digits: int = 4) -> str:
    """ "[0.8710, 0.9450]", or a dash without one."""
    return MISSING if interval is None else f"[{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def value_text(value: float | None, low: float = 0, high: float = 0, digits: int = 3, sign: str = "") -> str:
    """ "0.912 [0.871, 0.945]"; a dash for nothing measured, None or NaN."""
    if value is None or value != value:
        return MISSING
    return f"{value:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """A GitHub table; the first `left` columns flush left, the others right. Bars in cells are escaped."""
    lines = [[str(cell).replace("|", "\\|") for cell in row] for row in [header, *rows]]
    rule = ["---" if index < left else "---:" for index in range(len(header))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]]) + "\n"


def comparison_table(rows: Iterable[Row], digits: int = 4) -> str:
    """Markdown: name, ours (mean ± deviation), printed, difference, 95 % interval, and whether it holds the printed number."""
    lines = []
    for row in rows:
        ours = number(row.measured, digits)
        if row.measured is not None and row.deviation is not None:
            ours += f" ± {number(row.deviation, digits)}"
        lines.append(
            (
                row.name,
                ours,
                number(row.printed.value, digits) if row.printed else MISSING,
                "not comparable" if row.printed and (row.synthetic or row.printed.differs) else number(row.difference, digits, sign=True),
                interval_text(row.interval, digits),
                _holds(row),
                row.seeds,
                _where(row.printed) if row.printed else MISSING,
            )
        )
    return markdown(("", "ours", "printed", "difference", "95 % interval of ours", "printed inside?", "seeds", "printed where"), lines)


def _where(printed: Printed) -> str:
    return printed.source + (f" ({printed.differs})" if printed.differs else "")


def _holds(row: Row) -> str:
    if row.difference is None or row.printed is None or row.interval is None:
        return MISSING
    return "yes" if row.interval[0] <= row.printed.value <= row.interval[1] else "no"
