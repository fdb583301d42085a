"""What stands under every table: network, image size, epochs, masks, seeds, precision, backend, machine and commit of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.report.markup import MISSING, markdown
from common.runs.finished import FoundRun, flat

COLUMNS = ("network", "pixels", "epochs", "masks", "seeds", "precision", "backend", "machine", "commit")


def facts(runs: Sequence[FoundRun]) -> dict[str, str]:
    """The columns' texts of one row's runs; what differs between them is joined."""

    def each(values: Sequence[Any]) -> str:
        known = dict.fromkeys(str(value) for value in values if value not in (None, "", ()))
        return ", ".join(known)

    # Settings first; what only the whole configuration names (machine, commit) from there.
    def of(*keys: str) -> str:
        return each([run.value(key) or run.config.get(key) for run in runs for key in keys])

    return {
        "network": of("backbone"),
        "pixels": of("image_size"),
        "epochs": each([epochs(run.recipe) for run in runs]),
        "masks": of("mask_kind", "masks"),
        "seeds": each(sorted(run.seed for run in runs)),
        "precision": of("precision") or "float32",
        "backend": of("backend"),
        "machine": of("machine"),
        "commit": of("git_commit"),
    }


def epochs(recipe: Mapping[str, Any]) -> str:
    """ "30", or "encoder 30, classifier 10" where stages have their own."""
    found = {key: value for key, value in flat(recipe).items() if key.rpartition(".")[2].rpartition("_")[2] == "epochs" and value}
    if len(found) == 1:
        return str(next(iter(found.values())))
    return ", ".join(f"{key.removesuffix('epochs').strip('._') or 'all'} {value}" for key, value in found.items())


def provenance_text(rows: Sequence[tuple[str, Sequence[FoundRun]]]) -> str:
    """A table with a row per method, columns that say nothing left out, and a sentence where commits are mixed."""
    lines = [(name, facts(runs)) for name, runs in rows if runs]
    usual = {"precision"} if all(line["precision"] == "float32" for _, line in lines) else set()
    columns = [column for column in COLUMNS if column not in usual and any(line[column] for _, line in lines)]
    text = markdown(("", *columns), [(name, *(line[column] or MISSING for column in columns)) for name, line in lines], left=2)
    commits = sorted({str(run.config.get("git_commit")) for _, runs in rows for run in runs if run.config.get("git_commit")})
    if len(commits) > 1:
        text += f"\nThe cells come from {len(commits)} commits: {', '.join(commits)}.\n"
    if any(commit.endswith("+") for commit in commits):
        text += "\nA commit with + had files that differed from it.\n"
    return text


def differs(run: FoundRun, document: Mapping[str, Any], synthetic: bool = False) -> str:
    """In what a run is another than the document's, as "image size 64, not 224"; "" where it is the same in all of `document`."""
    said = ["synthetic data"] if synthetic else []
    for key, expected in document.items():
        found = run.value(key)
        if key == "classes" and isinstance(expected, int) and isinstance(found, list | tuple):
            found = len(found)
        if isinstance(expected, tuple | list) and isinstance(found, list | tuple):
            expected, found = list(expected), list(found)
        if found != expected:
            words = key.replace("_", " ").replace(".", " ")
            said.append(f"{words} {'all' if found is None else found}, not {'all' if expected is None else expected}")
    return "; ".join(said)
