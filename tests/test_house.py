"""The order of the house: no circles, arrows one way, no file that outgrew its room, documents that name what exists."""

import importlib
import re
from pathlib import Path

import pytest

from benchmarks import house, smoke

ROOT = Path(__file__).parents[1]
LARGEST = 350


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert house.circles(house.imports()) == []


def test_imports_run_from_studies_to_common_only() -> None:
    assert house.wrong_directions(house.imports()) == []


@pytest.mark.parametrize("package", house.PACKAGES)
def test_no_file_outgrows_its_room(package: str) -> None:
    lines = {path.relative_to(ROOT).as_posix(): house.line_count(path) for path in house.sources() if path.is_relative_to(ROOT / package)}
    assert {name: count for name, count in lines.items() if count > LARGEST} == {}


def test_the_drawn_samples_stay_small() -> None:
    assert sum(house.line_count(path) for path in (ROOT / "common" / "data" / "sample").glob("*.py")) <= 600


def test_measures_see_circles_and_wrong_arrows(tmp_path: Path) -> None:
    """The measure itself, on a house of four files: an import inside a function closes a circle too."""
    for name, text in {
        "common/a.py": "from common import b\n",
        "common/b.py": "def use():\n    import common.a\n",
        "common/metrics/c.py": "from common.runs.d import thing\nfrom lmf import losses\n",
        "common/runs/d.py": "thing = 1\n",
        "lmf/losses.py": "import common.a\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    graph = house.imports(tmp_path)
    assert house.circles(graph) == [("common.a", "common.b")]
    assert house.wrong_directions(graph) == ["common.metrics.c imports common.runs.d", "common.metrics.c imports lmf.losses"]


def test_readme_is_short() -> None:
    assert house.line_count(ROOT / "README.md") <= 120


# "facts 1.4", "facts §3.2", "facts (1.10)", "facts, section 4.2", "facts 1.2 to 1.6"
SECTIONS = re.compile(r"[Ff]acts(?:'s)?,?\s+\(?(?:§|sections?\s+)?(\d\.\d+)(?:(?:\s+(?:to|and)|,)\s+(\d\.\d+))?")
ROWS = re.compile(r"[Ff]acts,?\s+(?:(?:§|section\s+)(\d\.\d),?\s+)?rows?\s+(\d+)(?:,\s+(\d+))?")
# Where a row is cited without its section.
OWN_SECTION = {"feedback": "4.2", "melanoma": "3.2"}


def cited() -> list[tuple[str, str, str | None]]:
    """(file, section, row or None) of every citation of the reference facts in code and documents."""
    found = []
    for path in [*house.sources(), *ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/*.py")]:
        if path == Path(__file__) or path.name == "facts.md":
            continue
        text = re.sub(r"\s*\n[\s#|>*]*", " ", path.read_text(encoding="utf-8"))
        name = path.relative_to(ROOT).as_posix()
        found += [(name, section, None) for match in SECTIONS.finditer(text) for section in match.groups() if section]
        for section, *rows in ROWS.findall(text):
            found += [(name, section or OWN_SECTION[name.split("/")[0]], row) for row in rows if row]
    return found


def test_every_fact_cited_stands_in_docs_facts() -> None:
    text = (ROOT / "docs" / "facts.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\d\.\d+) (.*?)(?=^#|\Z)", text, flags=re.MULTILINE | re.DOTALL))
    citations = cited()
    assert len(citations) >= 40, "the search itself finds what there is"
    assert [place for place in citations if place[1] not in sections] == []
    assert [place for place in citations if place[2] and not re.search(rf"^\| {place[2]} \|", sections[place[1]], re.MULTILINE)] == []


# What cannot run on the drawn sample alone: the page and what it has written, and data other than the run's own.
NEEDS_MORE = {"serve", "replay", "validate"}


@pytest.mark.parametrize("study", ["cervical", "lmf", "melanoma", "feedback"])
def test_make_smoke_runs_every_command(study: str) -> None:
    commands = importlib.import_module(f"{study}.__main__").COMMANDS
    run = {line.split()[1] for line in smoke.COMMANDS if line.startswith(study)}
    assert set(commands) - run - NEEDS_MORE == set()
