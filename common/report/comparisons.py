"""Comparisons and ranks of a table as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from common.metrics.compare import Comparisons
from common.report.markup import MISSING, markdown, number


def comparisons_text(result: Comparisons, together: Iterable[Comparisons] = ()) -> str:
    """Markdown: every comparison, then what seeds disagree on, what was left out and how to read it.

    together: all comparisons that Holm's correction went over, where that is more than `result`.
    """
    name = result.metric.name.replace("_", " ").replace(" f1", " F1")
    rows = [
        [
            *([row.block] if any(each.block for each in result.rows) else []), row.second, row.first, len(row.seeds),
            number(row.difference, sign=True), f"[{row.low:+.4f}, {row.high:+.4f}]",
            MISSING if row.p_holm is None else f"{row.p_holm:.3g}", " ".join(f"{value:+.4f}" for value in row.by_seed), row.verdict,
        ]
        for row in result.rows
    ]  # fmt: skip
    blocks = ("",) if any(row.block for row in result.rows) else ()
    header = (*blocks, "method", "against", "seeds", "difference", "95 % interval", "p (Holm)", "each seed", "verdict")
    parts = [f"## Comparisons of {name}\n"]
    if rows:
        parts.append(markdown(header, rows, left=len(blocks) + 2))
    disagree = [f"{row.second} against {row.first}{f' on {row.block}' if row.block else ''}" for row in result.rows if row.signs_differ]
    if disagree:
        parts.append(f"The seeds disagree in sign for {'; '.join(disagree)}.\n")
    if result.left_out:
        parts.append("Not compared: " + "; ".join(result.left_out) + ".\n")
    if result.rows:
        drawn = sorted({f"{row.units} {'groups' if row.grouped else 'images'}" for row in result.rows})
        judged = sum(row.p is not None for each in list(together) or [result] for row in each.rows)
        noise = "" if result.training_variance is None else f", whose deviation is {result.training_variance**0.5:.4f}"
        parts.append(
            f"Differences are method minus against, averaged over common seeds. Intervals and p come from a bootstrap over test groups "
            f"({', '.join(drawn)}) and, from two seeds on, the training noise of the whole table{noise}; p is corrected by Holm for the "
            f"{'one comparison' if judged == 1 else f'{judged} comparisons'} with a verdict. One seed gives none: its interval is that of "
            "the test images alone.\n"
        )
    return "\n".join(parts)


def ranks_text(result: Comparisons) -> str:
    """Average ranks over complete blocks, or why none are claimed."""
    found = result.ranks()
    if found is None:
        return "## Ranks\n\nNone: fewer than two blocks have a seed of every method.\n"
    methods, ranks = found
    if not ranks.claimable:
        return (
            f"## Ranks\n\nNone is claimed: with so few blocks the critical difference is {ranks.critical_difference:.2f}, "
            f"and ranks of {len(methods)} methods are at most {len(methods) - 1} apart.\n"
        )
    order = sorted(range(len(methods)), key=lambda place: ranks.ranks[place])
    table = markdown(("method", "average rank"), [(methods[place], f"{ranks.ranks[place]:.2f}") for place in order])
    kind = "exact" if ranks.exact else "from χ²"
    said = f"Friedman's p {ranks.p_value:.3g} ({kind}); ranks differ where they are more than {ranks.critical_difference:.2f} apart.\n"
    return f"## Ranks\n\n{table}\n{said}"
