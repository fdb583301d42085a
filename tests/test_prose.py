"""What documents say with a link into results/ stands there: in such a sentence each number equals a value of that folder's table.csv."""

import re
from pathlib import Path

import pandas as pd
import pytest

from common.report.overview import overview

ROOT = Path(__file__).parents[1]
STUDIES = ("cervical", "lmf", "melanoma", "feedback")
DOCUMENTS = ["README.md", "docs/kit.md", *(f"{study}/{name}" for study in STUDIES for name in ("README.md", "DEVIATIONS.md"))]
# Decimal numbers and percentages; whole numbers are counts, sizes and epochs, which no table of scores holds.
NUMBER = re.compile(r"(?<![\w./])([-+−]?)(\d*\.\d+|\d+(?= %))( %)?(?![\w]|\.\d)")
# What looks like a score and is a name: a network, a figure, a section, a table, an interval's width, a setting's value.
NAMES = re.compile(
    r"mobilenetv2[ _]0\.?35|95 %|(?:sections?|tables?|figs?\.|figures?|facts|eqs?\.|row)[ §]*[\d.]+(?:(?:,| to| and) [\d.]+)*|§[\d.]+"
    r"|(?:alpha|beta|lambda|threshold|rate|temperature) [\d.e-]+(?:(?:,| to| and) [\d.]+)*|`[^`]*`|<[^>]*>|\]\([^)]*\)",
    re.IGNORECASE,
)
PLACE = re.compile(r"(?:\.\./)?results/[\w./*-]+")


def sentences(text: str, by_cell: bool = False) -> list[str]:
    """Sentences; rows of a table as they are, or (`by_cell`) the sentences in each cell. Code blocks are left out."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        lines = block.splitlines()
        found += _split(" ".join(line.strip() for line in lines if not line.startswith("|")))
        for row in (line for line in lines if line.startswith("|")):
            found += [part for cell in re.split(r"(?<!\\)\|", row) for part in _split(cell.strip())] if by_cell else [row]
    return found


def _split(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])(?<!fig\.)(?<!eq\.) +(?=[A-Z`*\[(-])", text) if text else []


def values(places: list[str]) -> set[float]:
    """Every number in table.csv of the folders, those inside texts too."""
    found: set[float] = set()
    for place in places:
        table = pd.read_csv(ROOT / place / "table.csv")
        for column in table:
            if pd.api.types.is_numeric_dtype(table[column]):
                found |= set(table[column].dropna().astype(float))
            else:
                found |= {float(word) for text in table[column].dropna().astype(str) for word in re.findall(r"[-+]?\d+\.\d+", text)}
    return found


def missing(sentence: str, known: set[float]) -> list[str]:
    """The sentence's numbers that are none of `known` at the digits that are written. Without a sign the size alone counts."""
    absent = []
    for sign, digits, percent in NUMBER.findall(NAMES.sub(" ", sentence)):
        places, scale = len(digits.partition(".")[2]), 100 if percent else 1
        wanted = float(digits) * (-1 if sign in ("-", "−") else 1)
        fits = (abs((value if sign else abs(value)) * scale - wanted) <= 0.5 * 10**-places + 1e-9 for value in known)
        if not any(fits):
            absent.append(sign + digits + percent)
    return absent


def cited(sentence: str) -> list[str]:
    """Folders of results/ that the sentence names; a pattern with * stands for all it fits."""
    found = []
    for place in PLACE.findall(sentence):
        place = place.removeprefix("../").removesuffix("/report.md").removesuffix("/table.csv").rstrip("./")
        folders = [path for path in ROOT.glob(place) if (path / "table.csv").is_file()]
        folders = folders or [path.parent for path in ROOT.glob(place) if (path.parent / "table.csv").is_file()]
        found += [path.relative_to(ROOT).as_posix() for path in folders]
        if not folders and not re.fullmatch(r"results(/\w+)?(/README\.md|/page.*)?", place):
            found.append(f"{place}: no such folder")
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_numbers_beside_a_link_into_results_stand_there(document: str) -> None:
    wrong = []
    for sentence in sentences((ROOT / document).read_text(encoding="utf-8"), by_cell=document.endswith("DEVIATIONS.md")):
        places = cited(sentence)
        wrong += [place for place in places if place.endswith("no such folder")]
        places = [place for place in places if not place.endswith("no such folder")]
        if places:
            absent = missing(sentence, values(places))
            wrong += [f"{', '.join(absent)} not in {' '.join(places)}: {sentence[:160]}"] if absent else []
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS[:1] + [f"{study}/README.md" for study in STUDIES])
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    targets = re.findall(r"\]\(([^)#\s]+)\)|src=\"([^\"]+)\"", path.read_text(encoding="utf-8"))
    names = [a or b for a, b in targets if not (a or b).startswith("http")]
    assert [name for name in names if not (path.parent / name).exists()] == []


def test_the_readme_shows_the_tables_as_they_are() -> None:
    assert overview(ROOT / "results", "results/") in (ROOT / "README.md").read_text(encoding="utf-8"), "run `make readme`"


def test_the_search_for_numbers_sees_signs_digits_and_names() -> None:
    known = {0.9624, -0.0171, 0.5}
    assert missing("MobileNetV2 0.35 has 0.962 in Table 5.1, -0.017 less; at a threshold of 50 % lambda 0.3", known) == []
    assert missing("0.9625, +0.017 and 51 %", known) == ["0.9625", "+0.017", "51 %"]
    assert missing("0.017 without a sign", known) == []
    assert cited("see [a](../results/lmf/none/report.md)") == ["results/lmf/none: no such folder"]
    assert sentences("One, fig. 3. Two\nis here.\n\n| a | 0.5 |\n") == ["One, fig. 3.", "Two is here.", "| a | 0.5 |"]
    assert sentences("| a | 0.5 |", by_cell=True) == ["a", "0.5"]
