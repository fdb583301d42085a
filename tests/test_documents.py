"""Every command that a document tells a reader to type is one that the command line takes."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from common.cli import parse
from common.errors import UsageError
from common.settings import Command

ROOT = Path(__file__).parents[1]
STUDIES = ("cervical", "lmf", "melanoma", "feedback")
DOCUMENTS = ["README.md", "docs/data.md", "docs/own_images.md", "docs/kit.md", *(f"{study}/README.md" for study in STUDIES)]
MAKE = re.compile(rf"make ({'|'.join(STUDIES)})-([a-z-]+)(?: ARGS=\"(.*)\")?$")
PYTHON = re.compile(rf"(?:\.venv/bin/)?python -m ({'|'.join(STUDIES)}) ([a-z-]+) ?(.*)$")
# Their values are files or folders that the reader has.
PATHS = {
    "--indicator-labels",
    "--data-dir",
    "--mask-dir",
    "--unlabelled-dir",
    "--labels-csv",
    "--base",
    "--run",
    "--images",
    "--network",
    "--boxes",
    "--metadata",
    "--beside",
}


def commands(text: str) -> list[tuple[str, str, list[str]]]:
    """(study, command, words) of every command in the code blocks; shell variables that the block sets are put in."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
        lines = [re.sub(r"\s+# .*$", "", line).strip() for line in block.replace("\\\n", " ").splitlines()]
        variables = {match[1]: match[2] for line in lines if (match := re.fullmatch(r"([A-Z]+)=\"(.*)\"", line))}
        for line in lines:
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            match = MAKE.search(line) or PYTHON.search(line)
            if match and match[2] != "page":  # a target of its own
                found.append((match[1], match[2], shlex.split((match[3] or "").partition(" > ")[0])))
    return found


def prepared(words: list[str], folder: Path) -> list[str]:
    """The words with their paths below `folder`, where something of that name now is."""
    done = []
    for place, word in enumerate(words):
        path = place > 0 and words[place - 1] in PATHS or "<" in word or (not word.startswith("-") and place == 0) or word.endswith("/")
        if path:
            target = folder / re.sub(r"[<> ]", "", word).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.suffix:
                target.write_text("")
            else:
                target.mkdir(exist_ok=True)
                for name in ("config.json", "metrics.json", "finished.json"):
                    (target / name).write_text("{}")
                for name in ("model.keras", "predictions.csv", "manifest.csv", "log.jsonl"):
                    (target / name).write_text("")
            word = str(target)
        done.append(word)
    return done


def cases() -> list[tuple[str, str, str, list[str]]]:
    return [(document, *command) for document in DOCUMENTS for command in commands((ROOT / document).read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("document", "study", "name", "words"), cases(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_command_in_a_document_is_taken(document: str, study: str, name: str, words: list[str], tmp_path: Path) -> None:
    known = importlib.import_module(f"{study}.__main__").COMMANDS
    assert name in known, f"{document}: {study} has no command {name}"
    command = known[name] if isinstance(known[name], Command) else importlib.import_module(known[name]).COMMAND
    if name == "serve":
        pytest.importorskip("gradio", reason="requirements-page.txt is not installed")
    try:
        parse(command, prepared(words, tmp_path), f"{study} {name}")
    except UsageError as error:
        # The files here are empty; what is in them is another matter.
        if str(tmp_path) not in str(error):
            raise


def test_the_search_finds_commands_with_what_they_are_given() -> None:
    lines = (
        'DATA="--data-dir /d"',
        'make lmf-train ARGS="$DATA --seed 1"   # one',
        ".venv/bin/python -m lmf tables \\",
        "    --seeds 0 1 > out",
    )
    text = "\n".join(["```console", *lines, "```\n"])
    assert commands(text) == [("lmf", "train", ["--data-dir", "/d", "--seed", "1"]), ("lmf", "tables", ["--seeds", "0", "1"])]
    assert len(cases()) >= 20
