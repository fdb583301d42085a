"""Which model an explanation explains: the facts that tie explained.csv, faithfulness.md and faithfulness.csv to one run."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import keras

from common import device
from common.explanation.graph import map_facts
from common.runs.reading import RunFolder

IDENTITY = ("study", "experiment", "settings", "data_fingerprint")


def run_id(config: Mapping[str, Any]) -> str:
    """8 hexadecimal digits of a run's settings and data, from its config.json: those that end the name of its default folder.

    They stay when the folder is copied or renamed, so a published run is known by them.
    """
    identity = {key: config.get(key) for key in IDENTITY}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def provenance(
    folder: RunFolder, config: Mapping[str, Any], model: keras.Model, layer: str | None, engine: str, maps: bool
) -> dict[str, str]:
    """Columns of explained.csv, alike for every row.

    run, run_id, run_commit: the run folder's name, its `run_id` and the commit it was trained at; commit: the one it is explained at;
    layer, map_size, engine: what the class-activation maps look at and who computes them, "" where there are none (`maps` False).
    """
    name, *sizes = map_facts(model, layer) if maps else ("",)
    return {
        "run": folder.path.resolve().name,
        "run_id": run_id(config),
        "run_commit": str(config.get("git_commit", "unknown")),
        "commit": str(device.describe()["git_commit"]),
        "layer": name,
        "map_size": " x ".join("any" if size is None else str(size) for size in sizes),
        "engine": engine if maps else "",
    }


def sentence(facts: Mapping[str, str]) -> str:
    """The same for people, as one line of Markdown."""
    run = f"Run `{facts['run']}` (settings and data {facts['run_id']}, trained at commit {facts['run_commit']})"
    maps = f"maps of the layer `{facts['layer']}`, {facts['map_size']}, engine `{facts['engine']}`" if facts["layer"] else "LIME only"
    return f"{run}; explained at commit {facts['commit']}; {maps}."
