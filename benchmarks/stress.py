"""`make stress COUNT=20`: kills, Ctrl-C, damaged and hostile folders, bounded in count and time, as a table.

    kill       kill -9 at COUNT moments of each job, the same command again: predictions, manifest and maps as of a whole run, byte for byte
    term       SIGTERM at COUNT // 4 moments of each job: exit 143, and the same bytes again
    interrupt  Ctrl-C at 2 COUNT moments of one job while all processors are busy: exit 130, no traceback
    corrupted  3 COUNT folders, a finished run with one random damage each: `report` ends with 0 or 2, in one line
    hostile    3 COUNT commands on folders and models made to harm: exit 0 or 2 in one line, no code run, no file read or changed
    logs       changed correction logs and requests to the page: the tests of `tests/feedback/page`, each of which must pass

Jobs run with networks of a few thousand weights, forked from a process that has imported everything (`benchmarks.trial`). A moment is a
share of the processor time that the whole job takes; "N before the end" counts the trials whose signal came in time. With --output each
row is kept in FOLDER/table.csv as it comes, in the place of an earlier one, so that a part can be run again alone.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import hostile, trial

ROOT = Path(__file__).resolve().parents[1]
TINY = "--limit 40 --epochs 2"
MELANOMA = f"{TINY} --image-size 64 --backbone resnet50 --indicators globules streaks --no-simclr"
# name -> (what must stand before, the job); {home} and {run} are folders.
JOBS = {
    "cervical contrastive + control": ("", f"cervical contrastive {TINY} --control --run-dir {{run}}"),
    "lmf train": ("", f"lmf train {TINY} --network {{home}}/tiny.keras --run-dir {{run}}"),
    "feedback simulate": (
        f"feedback baseline {TINY} --run-dir {{home}}/base",
        f"feedback simulate {TINY} --base {{home}}/base --run-dir {{run}}",
    ),
    "melanoma train, phases": ("", f"melanoma train {MELANOMA} --order phases --run-dir {{run}}"),
    "melanoma train, interleaved": ("", f"melanoma train {MELANOMA} --order interleaved --run-dir {{run}}"),
    # In a working folder of its own, since a grid's cells lie in `runs/` there and are not trained again where they are finished.
    "grid (lmf sweep)": (
        "",
        f"lmf sweep {TINY} --backbones mobilenetv2_035 --settings equal --grid 1 2 --cache-dir {{home}}/.cache --run-dir table",
    ),
}
PARTS = ("kill", "term", "interrupt", "corrupted", "hostile", "logs")
COMPARED = ("predictions.csv", "manifest.csv", "localisation.csv")
PAGE_TESTS = {
    "changed logs": ["test_log.py"],
    "requests to the page": ["test_requests.py", "test_gate.py", "test_guard.py", "test_files.py"],
}


@dataclass
class Row:
    """One line of the table."""

    part: str
    job: str
    trials: int
    good: int
    minutes: float
    remark: str = ""


class Stress:
    """The parts of the table, on jobs in the folder `home`, `side` trials side by side."""

    def __init__(self, home: Path, count: int, side: int) -> None:
        self.home, self.count = home, count
        self.context = trial.context()
        self.pool = ThreadPoolExecutor(max_workers=side)
        self.network = home / "tiny.keras"
        process = self.context.Process(target=trial.save_network, args=(self.network,))
        process.start()
        process.join()

    def words(self, line: str, run: Path) -> list[str]:
        return line.format(home=self.home, run=run).split()

    def place(self, line: str, run: Path) -> Path:
        """The working folder of a command: the run's own where the command names no folder below `home`."""
        if "{run}" in line or "{home}/base" in line:
            return self.home
        run.mkdir(exist_ok=True)
        return run

    def whole(self, name: str) -> tuple[Path, float]:
        """The folder of an unbroken run of a job, and the processor seconds of a second one, for which nothing must be drawn any more."""
        before, line = JOBS[name]
        if before and not (self.home / "base").is_dir():
            self.unbroken(before, self.home / "base")
        first, second = (self.home / f"{which} {name}".replace(" ", "-") for which in ("whole", "again"))
        for run in (first, second):
            shutil.rmtree(run, ignore_errors=True)
            spent = self.unbroken(line, run)
        if different(first, second):
            raise RuntimeError(f"{line}: two unbroken runs differ in {', '.join(different(first, second))}")
        return first, spent

    def unbroken(self, line: str, run: Path) -> float:
        ended = trial.forked(self.context, self.words(line, run), self.place(line, run), run.with_suffix(".said"))
        if ended.code:
            raise RuntimeError(f"{line}: exit {ended.code}: {ended.said[-500:]}")
        return ended.spent

    def tried(self, part: str, name: str, count: int, one: Callable[[int], str], remark: Callable[[], str] = str) -> Row:
        """`one(number)` says what was wrong in a trial, or ""."""
        began = time.monotonic()
        wrong = [said for said in self.pool.map(one, range(count)) if said]
        print(*wrong, sep="\n", end="", file=sys.stderr)
        words = "; ".join([*filter(None, [remark()]), *(" ".join(said.split())[:200] for said in wrong[:3])])
        return Row(part, name, count, count - len(wrong), (time.monotonic() - began) / 60, words)

    def killed(self, part: str, name: str, count: int, number: signal.Signals, code: int) -> Row:
        reference, spent = self.whole(name)
        hit: list[int] = []

        def one(index: int) -> str:
            run = self.home / f"{part}-{index}"
            words, said, place = self.words(JOBS[name][1], run), run.with_suffix(".said"), self.place(JOBS[name][1], run)
            moment = spent * (index + random.Random(index).random()) / count
            ended = trial.forked(self.context, words, place, said, moment, number)
            again = trial.forked(self.context, words, place, said)
            differ = different(reference, run)
            hit.append(ended.code == code)
            shutil.rmtree(run, ignore_errors=True)
            if ended.code in (0, code) and again.code == 0 and "Traceback" not in ended.said and not differ:
                return ""
            bytes_are = ", ".join(differ) or "equal"
            return f"at {moment / spent:.0%}: exit {ended.code}, then {again.code}, {bytes_are}: {again.said}"

        return self.tried(part, name, count, one, lambda: f"{sum(hit)} before the end")

    def interrupted(self) -> Row:
        """Real commands here, imports and all."""
        name, count, slowest = "lmf train", 2 * self.count, [0.0]
        _, spent = self.whole(name)
        spent += 5  # the imports

        def one(index: int) -> str:
            run = self.home / f"interrupted-{index}"
            moment = 0.2 + spent * (index + random.Random(index).random()) / count
            ended = trial.started(self.words(JOBS[name][1], run), self.home, moment, signal.SIGINT, str(ROOT))
            slowest[0] = max(slowest[0], ended.waited)
            shutil.rmtree(run, ignore_errors=True)
            fine = ended.code in (0, 130) and "Traceback" not in ended.said
            return "" if fine else f"at {moment / spent:.0%}: exit {ended.code}: {ended.said}"

        busy = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=lambda: os.nice(19)) for _ in range(os.cpu_count() or 1)
        ]
        try:
            return self.tried("interrupt", f"{name}, all processors busy", count, one, lambda: f"slowest end {slowest[0]:.1f} s")
        finally:
            for process in busy:
                process.kill()
                process.wait()

    def corrupted(self) -> Row:
        """`report` on damaged copies of one finished run."""
        run, _ = self.whole("lmf train")

        def one(index: int) -> str:
            chance, copy = random.Random(index), self.home / f"corrupted-{index}"
            shutil.copytree(run, copy)
            what = hostile.damage(copy, chance)
            ended = trial.forked(self.context, ["lmf", "report", str(copy)], self.home, copy.with_suffix(".said"))
            return "" if ended.in_one_line else f"{what}: exit {ended.code}: {ended.said}"

        return self.tried("corrupted", "lmf report", 3 * self.count, one)

    def hostile(self) -> Row:
        """Folders and models made to harm, each with one command after the other."""
        run, _ = self.whole("lmf train")
        image = next((self.home / ".cache").rglob("*.jpg"))
        before = hostile.lay_traps(self.home)
        commands = (("report",), ("predict", str(image)), ("export",))

        def one(index: int) -> str:
            change = hostile.CHANGES[index // len(commands) % len(hostile.CHANGES)]
            command, *more = commands[index % len(commands)]
            copy = self.home / f"hostile-{index}"
            shutil.copytree(run, copy)
            change(copy, self.home)
            ended = trial.forked(self.context, ["lmf", command, str(copy), *more], self.home, copy.with_suffix(".said"))
            wrong = [] if ended.in_one_line else [f"exit {ended.code}: {ended.said}"]
            wrong += hostile.sprung(self.home, before, ended.said)
            return f"{change.__name__}, {command}: {'; '.join(wrong)}" if wrong else ""

        return self.tried("hostile", "lmf report, predict, export", 3 * self.count, one)


def different(first: Path, second: Path) -> list[str]:
    """Names of the files that are not the same in two folders of runs."""
    names = [path.relative_to(first) for name in COMPARED for path in first.rglob(name)]
    return [str(name) for name in names if not (second / name).is_file() or (first / name).read_bytes() != (second / name).read_bytes()]


def page_tests(name: str) -> Row:
    """Tests of the page's log and of its gate, counted."""
    began = time.monotonic()
    files = [str(ROOT / "tests" / "feedback" / "page" / file) for file in PAGE_TESTS[name]]
    ended = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *files], cwd=ROOT, capture_output=True, text=True)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", ended.stdout)}
    failures = re.findall(r"^FAILED (\S+)", ended.stdout, re.MULTILINE)
    if not counts:
        raise RuntimeError(f"{name}: no test ran: {ended.stdout[-300:]}{ended.stderr[-300:]}")
    return Row("logs", name, sum(counts.values()), counts.get("passed", 0), (time.monotonic() - began) / 60, "; ".join(failures[:3]))


def rows(stress: Stress, parts: list[str], jobs: list[str], until: float) -> Iterator[Row]:
    """The table's rows as they come; a row that has not begun by `until` is said, not left out in silence."""
    planned: list[tuple[str, str, Callable[[], Row]]] = []
    for name in jobs:
        for part, number, code, count in (
            ("kill", signal.SIGKILL, -9, stress.count), ("term", signal.SIGTERM, 143, max(1, stress.count // 4)),
        ):  # fmt: skip
            planned.append((part, name, lambda p=part, n=name, c=count, s=number, e=code: stress.killed(p, n, c, s, e)))
    planned += [("interrupt", "", stress.interrupted), ("corrupted", "", stress.corrupted), ("hostile", "", stress.hostile)]
    planned += [("logs", name, lambda n=name: page_tests(n)) for name in PAGE_TESTS]
    for part, name, act in planned:
        if part in parts:
            yield act() if time.monotonic() < until else Row(part, name, 1, 0, 0, "not run: no time left")


def keep(output: Path, row: Row, count: int) -> None:
    """Put a row into the folder's table.csv and report.md."""
    from common.device import describe

    made = describe()
    line = {**asdict(row), "minutes": round(row.minutes, 1), "count": count, "commit": made["git_commit"], "machine": made["machine"]}
    write(output, [*kept(output), line])


def kept(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder's table.csv."""
    from common.runs.reading import RunFolder

    known = RunFolder(folder)
    return known.read_table("table.csv", keep_default_na=False).to_dict("records") if known.has("table.csv") else []


def write(folder: Path, lines: list[dict[str, Any]]) -> None:
    """table.csv and report.md; of two rows of one part and job the later one stays."""
    import pandas as pd

    from common.report.markup import markdown
    from common.runs.reading import RunFolder

    order = [(part, job) for part in PARTS for job in [*JOBS, *PAGE_TESTS, *(line["job"] for line in lines)]]
    latest = {(line["part"], line["job"]): line for line in lines}
    table = pd.DataFrame([latest[key] for key in dict.fromkeys(order) if key in latest])
    RunFolder(folder).write_table("table.csv", table)
    parts = (__doc__ or "").partition("as a table.")[2].strip("\n")
    text = f"# Stress: what survives a kill, a signal, damage and malice\n\n```\n{parts}\n```\n\n"
    header = ("part", "job", "trials", "good", "minutes", "remark", "commit", "machine")
    missing = [f"{part}: {job}" for part in ("kill", "term") for job in JOBS if (part, job) not in latest]
    missing += [part for part in PARTS[2:] if not any(key[0] == part for key in latest)]
    text += markdown(header, table[list(header)].itertuples(index=False), left=2)
    RunFolder(folder).write_text("report.md", text + (f"\nNot run yet: {'; '.join(missing)}.\n" if missing else ""))


def main(arguments: list[str]) -> int:
    """0 when every trial was good."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--minutes", type=float, default=115, help="rows that have not begun by then are said to be left out")
    parser.add_argument("--side", type=int, default=2, help="trials side by side, one thread each")
    parser.add_argument("--output", type=Path, help="folder for table.csv and report.md")
    parser.add_argument("--merge", nargs="+", type=Path, default=(), help="run nothing: gather the rows of these folders in --output")
    options: Any = parser.parse_args(arguments)
    if options.merge:
        write(options.output, [line for folder in options.merge for line in kept(folder)])
        return 0
    until, failed = time.monotonic() + 60 * options.minutes, 0
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        for row in rows(Stress(Path(folder), options.count, options.side), options.only, options.jobs, until):
            print(f"{row.part:10} {row.job:32} {row.good:4} of {row.trials:<4} {row.minutes:6.1f} min  {row.remark}", flush=True)
            if options.output is not None:
                keep(options.output, row, options.count)
            failed += row.good != row.trials
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
