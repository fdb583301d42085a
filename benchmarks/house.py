"""`python -m benchmarks.house`: the size and order of the house, each beside its bound and beside what the first house had."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
STUDIES = ("cervical", "lmf", "melanoma", "feedback")
PACKAGES = ("common", *STUDIES)


@dataclass(frozen=True)
class Measure:
    """One measure of the house. `value` must be at most `bound`; `first` is what the first house had."""

    name: str
    value: float
    bound: float
    first: float
    detail: str = ""

    @property
    def held(self) -> bool:
        return self.value <= self.bound


def sources(root: Path = ROOT) -> list[Path]:
    """The package's own files: Python and JavaScript of common and of the studies, without tests."""
    return sorted(path for package in PACKAGES for kind in ("*.py", "*.js") for path in (root / package).rglob(kind))


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def imports(root: Path = ROOT) -> dict[str, set[str]]:
    """Module -> modules of ours that it imports, also inside functions and for type checkers only."""
    names = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources(root)
        if path.suffix == ".py"
    }
    return {name: set(_imported(ast.parse(path.read_text(encoding="utf-8")), names)) - {name} for name, path in names.items()}


def _imported(tree: ast.AST, names: Mapping[str, Path]) -> Iterable[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names if item.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for item in node.names:
                inner = f"{node.module}.{item.name}"
                if inner in names or node.module in names:
                    yield inner if inner in names else node.module
        else:
            yield from _imported(node, names)


def circles(graph: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """Groups of modules that import each other, round about or directly (the strongly connected ones with more than one member)."""
    reach = {name: _reached(graph, name) for name in graph}
    groups = {tuple(sorted(other for other in reach[name] if name in reach.get(other, ()))) for name in graph if name in reach[name]}
    return sorted(groups)


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph.get(start, ()))
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(graph.get(name, ()))
    return seen


def wrong_directions(graph: Mapping[str, set[str]]) -> list[str]:
    """Imports against the arrows: common -> study, study -> another study, metrics -> runs or report."""
    wrong = []
    for name, targets in graph.items():
        for target in sorted(targets):
            mine, theirs = name.split(".")[0], target.split(".")[0]
            against = theirs != "common" and theirs != mine
            if name.startswith("common.metrics") and target.startswith(("common.runs", "common.report")):
                against = True
            if against:
                wrong.append(f"{name} imports {target}")
    return wrong


def loaded_by_contrastive() -> int:
    """Files of ours that are loaded from `__main__` to the loss of a contrastive run; a docstring alone is no file."""
    code = (
        "import ast, importlib, sys\n"
        "from cervical.__main__ import COMMANDS\n"
        "command = COMMANDS['contrastive']\n"
        "command = importlib.import_module(command).COMMAND if isinstance(command, str) else command\n"
        "importlib.import_module(command.target.split(':')[0])\n"
        "import cervical.losses\n"
        "modules = [m for name, m in sys.modules.items() if name.split('.')[0] in ('cervical', 'common')]\n"
        "files = {m.__file__ for m in modules if getattr(m, '__file__', None)}\n"
        "print(sum(len(ast.parse(open(f, encoding='utf-8').read()).body) > 1 for f in files))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def tracked(folder: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", folder], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def measures() -> list[Measure]:
    files = sources()
    graph = imports()
    lines = {path: line_count(path) for path in files}
    largest = max(lines, key=lines.__getitem__)
    round_about, published = circles(graph), [path for path in tracked("results") if path.is_file()]
    return [
        Measure("lines of the package (later capabilities may add 5,000)", sum(lines.values()), 21_000, 23_776),
        Measure("import circles", len(round_about), 0, 5, "; ".join(" - ".join(group) for group in round_about)),
        Measure("imports against the arrows", len(wrong_directions(graph)), 0, 0, "; ".join(wrong_directions(graph))),
        Measure("lines of the largest file", lines[largest], 350, 355, str(largest.relative_to(ROOT))),
        Measure("files loaded by a contrastive run, __main__ to loss", loaded_by_contrastive(), 30, 42),
        Measure("tracked files in results/", len(published), 300, 1768),
        Measure("size of results/ in MB", round(sum(path.stat().st_size for path in published) / 1e6, 1), 10, 57),
        Measure("lines of README.md", line_count(ROOT / "README.md"), 120, 296),
    ]


def main() -> int:
    """Print the measures; a missed bound is said, and is no error."""
    print(f"{'':56}{'now':>9}{'at most':>9}{'first':>9}")
    for each in measures():
        missed = "" if each.held else "  missed"
        print(f"{each.name:56}{each.value:>9g}{each.bound:>9g}{each.first:>9g}{missed}{f'  ({each.detail})' if each.detail else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
