"""`make stress COUNT=20`: kills, Ctrl-C and corrupted run folders, bounded in count and time, as a table.

    kill -9   COUNT moments of each job: started, killed, started again; `predictions.csv` and `manifest.csv` must be those of a whole run
    SIGTERM   the same jobs, COUNT // 4 moments each: exit 143, and the same bytes again
    Ctrl-C    2 COUNT moments of one job while all processors are busy: exit 130, no traceback
    corrupted 3 COUNT folders, made from a finished run by one random damage each: `report` ends with 0 or 2, in one line, and harms nothing

Options: --count N, --only PART …, --minutes M (a part that has not begun by then is left out, and said).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TINY = "--limit 60 --epochs 2"
MELANOMA = f"{TINY} --image-size 64 --indicators globules streaks --no-simclr"
# name -> (what must stand before, the job); {runs} and {run} are folders.
JOBS = {
    "cervical contrastive + control": ("", f"cervical contrastive {TINY} --control --run-dir {{run}}"),
    "lmf train": ("", f"lmf train {TINY} --run-dir {{run}}"),
    "feedback simulate": (
        f"feedback baseline {TINY} --run-dir {{runs}}/base",
        f"feedback simulate {TINY} --base {{runs}}/base --run-dir {{run}}",
    ),
    "melanoma train, phases": ("", f"melanoma train {MELANOMA} --order phases --run-dir {{run}}"),
    "melanoma train, interleaved": ("", f"melanoma train {MELANOMA} --order interleaved --run-dir {{run}}"),
    "grid (lmf sweep)": ("", f"lmf sweep {TINY} --settings equal --grid 1 2 --run-dir {{run}}"),
}
COMPARED = ("predictions.csv", "manifest.csv", "localisation.csv")


@dataclass
class Row:
    """One line of the table."""

    part: str
    job: str
    trials: int
    good: int
    seconds: float
    remark: str = ""


def command(line: str, runs: Path, run: Path) -> list[str]:
    return [sys.executable, "-m", *line.format(runs=runs, run=run).split()]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def start(words: list[str], home: Path) -> subprocess.Popen:
    return subprocess.Popen(
        words, cwd=home, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def whole(words: list[str], home: Path) -> float:
    """Run to the end; seconds."""
    began, process = time.monotonic(), start(words, home)
    said = process.communicate()[1]
    if process.returncode:
        raise RuntimeError(f"{' '.join(words[2:])}: exit {process.returncode}: {said[-500:]}")
    return time.monotonic() - began


def stop(process: subprocess.Popen, after: float, number: signal.Signals) -> tuple[int, float, str]:
    """Exit code, seconds from the signal to the end, and what stderr said."""
    try:
        said = process.communicate(timeout=after)[1]
        return process.returncode, 0.0, said
    except subprocess.TimeoutExpired:
        began = time.monotonic()
        # A kill of a grid takes its cell along, as the machine's going down does; the others are sent to the command alone.
        os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
        said = process.communicate()[1]
        return process.returncode, time.monotonic() - began, said


def different(first: Path, second: Path) -> list[str]:
    """Names of the files that are not the same in two folders of runs."""
    names = [path.relative_to(first) for name in COMPARED for path in first.rglob(name)]
    return [str(name) for name in names if not (second / name).is_file() or (first / name).read_bytes() != (second / name).read_bytes()]


def killed(home: Path, count: int, number: signal.Signals, code: int, jobs: list[str]) -> Iterator[Row]:
    for name in jobs:
        before, line = JOBS[name]
        began, good, bad = time.monotonic(), 0, []
        if before and not (home / "base").is_dir():
            whole(command(before, home, home), home)
        reference = home / "whole"
        shutil.rmtree(reference, ignore_errors=True)
        duration = whole(command(line, home, reference), home)
        for trial in range(count):
            run = home / "killed"
            shutil.rmtree(run, ignore_errors=True)
            moment = duration * (trial + random.Random(trial).random()) / count
            ended, _, said = stop(start(command(line, home, run), home), moment, number)
            resumed = whole(command(line, home, run), home) >= 0
            differ = different(reference, run)
            if resumed and not differ and ended in (0, code) and "Traceback" not in said:
                good += 1
            else:
                bad.append(f"at {moment:.1f} s: exit {ended}, {', '.join(differ) or 'equal'}")
        yield Row(number.name, name, count, good, time.monotonic() - began, "; ".join(bad[:2]))


def interrupted(home: Path, count: int) -> Row:
    line = JOBS["lmf train"][1]
    began, good, bad, slowest = time.monotonic(), 0, [], 0.0
    duration = whole(command(line, home, home / "interrupted"), home)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        for trial in range(2 * count):
            run = home / "interrupted"
            shutil.rmtree(run, ignore_errors=True)
            moment = 0.3 + duration * (trial + random.Random(trial).random()) / (2 * count)
            ended, seconds, said = stop(start(command(line, home, run), home), moment, signal.SIGINT)
            slowest = max(slowest, seconds)
            if ended in (0, 130) and "Traceback" not in said:
                good += 1
            else:
                bad.append(f"at {moment:.1f} s: exit {ended}")
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return Row(
        "SIGINT",
        "lmf train, all processors busy",
        2 * count,
        good,
        time.monotonic() - began,
        f"slowest end {slowest:.1f} s {'; '.join(bad[:2])}",
    )


def damage(path: Path, chance: random.Random) -> str:
    """One random damage to a file; says which."""
    content = path.read_bytes()
    how = chance.choice(("empty", "torn", "garbled", "link", "gone", "value"))
    if how == "empty":
        path.write_bytes(b"")
    elif how == "torn":
        path.write_bytes(content[: chance.randrange(len(content))])
    elif how == "garbled":
        place = chance.randrange(len(content))
        path.write_bytes(content[:place] + chance.randbytes(64) + content[place + 64 :])
    elif how == "link":
        path.unlink()
        path.symlink_to("/etc/passwd")
    elif how == "gone":
        path.unlink()
    elif path.suffix == ".json":
        value = json.loads(content)
        field = chance.choice(sorted(value) or ["classes"])
        value[field] = chance.choice((None, -1, 1e308, "x" * 10**6, [], {}, [[]], "../../etc/passwd", True, ["a", "a"]))
        path.write_text(json.dumps(value))
        how = f"{field} replaced"
    else:
        path.write_bytes(content.replace(b",", b";", 3))
    return f"{path.name}: {how}"


def corrupted(home: Path, count: int) -> Row:
    """`report` on damaged copies of one finished run, in processes of four folders each."""
    run, began = home / "sound", time.monotonic()
    whole(command(JOBS["lmf train"][1], home, run), home)
    good, bad = 0, []
    for trial in range(3 * count):
        chance, copy = random.Random(trial), home / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        files = [path for path in sorted(copy.iterdir()) if path.suffix in (".json", ".csv") and path.is_file()]
        what = damage(chance.choice(files), chance)
        process = start(command("lmf report {run}", home, copy), home)
        said = process.communicate(timeout=300)[1]
        lines = said.strip().splitlines()
        if (process.returncode == 0 and not lines) or (process.returncode == 2 and len(lines) == 1):
            good += 1
        else:
            bad.append(f"{what}: exit {process.returncode}")
    return Row("corrupted", "lmf report", 3 * count, good, time.monotonic() - began, "; ".join(bad[:3]))


def show(row: Row) -> None:
    print(f"{row.part:10} {row.job:32} {row.good:4} of {row.trials:<4} {row.seconds / 60:6.1f} min  {row.remark}", flush=True)


def main(arguments: list[str]) -> int:
    """0 when every trial was good."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--only", nargs="+", default=["kill", "term", "interrupt", "corrupted"])
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--minutes", type=float, default=120)
    options = parser.parse_args(arguments)
    began, failed = time.monotonic(), 0

    def parts(home: Path) -> Iterator[Row]:
        for name in options.jobs:
            for part, number, code, count in (
                ("kill", signal.SIGKILL, -9, options.count),
                ("term", signal.SIGTERM, 143, max(1, options.count // 4)),
            ):
                if part not in options.only:
                    continue
                if time.monotonic() - began > 60 * options.minutes:
                    yield Row(number.name, name, count, 0, 0, "left out: no time left")
                else:
                    yield from killed(home, count, number, code, [name])
        if "interrupt" in options.only:
            yield interrupted(home, options.count)
        if "corrupted" in options.only:
            yield corrupted(home, options.count)

    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        for row in parts(Path(folder)):
            show(row)
            failed += row.good != row.trials
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
