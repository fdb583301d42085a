"""Damages and hostile changes of a finished run's folder, and the traps that show whether one of them got through."""

from __future__ import annotations

import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECRET = "SECRET-4711"


def damage(run: Path, chance: random.Random) -> str:
    """One random damage to one of the run's JSON, CSV or model files; says which."""
    path = chance.choice([path for path in sorted(run.iterdir()) if path.suffix in (".json", ".csv", ".keras")])
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


def lay_traps(home: Path) -> dict[str, bytes]:
    """Beside the runs: a package that leaves a mark when it is imported, a secret, and a file that nobody may change."""
    (home / "evil").mkdir(exist_ok=True)
    for name in ("__init__", "models", "layers"):
        (home / "evil" / f"{name}.py").write_text(f"open({str(home / 'sprung')!r}, 'w').close()\n")
    (home / "secret.txt").write_text(SECRET)
    (home / "victim").mkdir(exist_ok=True)
    (home / "victim" / "victim.txt").write_text("as it was")
    return _victims(home)


def sprung(home: Path, before: dict[str, bytes], said: str) -> list[str]:
    """What went wrong besides the exit code: code that ran, a file that was read aloud, a file that was changed."""
    found = ["code was run"] if (home / "sprung").exists() else []
    found += ["a file was read aloud"] if SECRET in said or "root:" in said else []
    return found + (["a file was changed"] if _victims(home) != before else [])


def _victims(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((home / "victim").iterdir())}


def _set(name: str, **values: Any) -> Callable[[Path, Path], None]:
    """Replace fields of a JSON file."""

    def change(run: Path, home: Path) -> None:
        path = run / name
        content = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**content, **values}))

    change.__name__ = f"{name} with another {', '.join(values)}"
    return change


def _text(name: str, content: str, said: str) -> Callable[[Path, Path], None]:
    def change(run: Path, home: Path) -> None:
        (run / name).write_text(content)

    change.__name__ = f"{name}: {said}"
    return change


def _column(name: str, column: str, value: str) -> Callable[[Path, Path], None]:
    """Replace a column of a CSV file."""

    def change(run: Path, home: Path) -> None:
        import pandas as pd

        pd.read_csv(run / name, dtype=str, keep_default_na=False).assign(**{column: value}).to_csv(run / name, index=False)

    change.__name__ = f"{name}: {column} {value[:30]}"
    return change


def _link(name: str, target: str) -> Callable[[Path, Path], None]:
    """Put a link to something beside the run in a file's place."""

    def change(run: Path, home: Path) -> None:
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(home / target)

    change.__name__ = f"{name} is a link to {target}"
    return change


def _layer(said: str, change_config: Callable[[dict[str, Any]], None]) -> Callable[[Path, Path], None]:
    """Change the configuration inside model.keras."""

    def change(run: Path, home: Path) -> None:
        def again(content: bytes) -> bytes:
            config = json.loads(content)
            change_config(config)
            return json.dumps(config).encode()

        _packed(run / "model.keras", {"config.json": again})

    change.__name__ = f"model.keras: {said}"
    return change


def _packed(path: Path, changes: dict[str, Callable[[bytes], bytes]], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in content.items():
            archive.writestr(name, changes[name](value) if name in changes else value)


def _not_numbers(content: bytes) -> bytes:
    import h5py

    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:

        def spoil(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
                item[...] = float("nan")

        file.visititems(spoil)
    return buffer.getvalue()


def nan_weights(run: Path, home: Path) -> None:
    _packed(run / "model.keras", {"model.weights.h5": _not_numbers})


def zip_bomb(run: Path, home: Path) -> None:
    _packed(run / "model.keras", {"model.weights.h5": lambda _: bytes(200 * 2**20)}, zipfile.ZIP_DEFLATED)


def torn_model(run: Path, home: Path) -> None:
    content = (run / "model.keras").read_bytes()
    (run / "model.keras").write_bytes(content[: len(content) // 2])


def pipe_for_predictions(run: Path, home: Path) -> None:
    (run / "predictions.csv").unlink()
    os.mkfifo(run / "predictions.csv")


def lock_is_a_link(run: Path, home: Path) -> None:
    (run / "finished.json").unlink()
    _link(".lock", "victim/victim.txt")(run, home)


def huge_json(run: Path, home: Path) -> None:
    (run / "metrics.json").write_text("[" + "1," * (20 * 2**20) + "1]")


def deep_json(run: Path, home: Path) -> None:
    (run / "config.json").write_text("[" * 10**6)


def _last(config: dict[str, Any]) -> dict[str, Any]:
    return config["config"]["layers"][-1]


# Twenty, each before three commands: sixty trials at COUNT 20.
CHANGES: tuple[Callable[[Path, Path], None], ...] = (
    _set("config.json", study="evil"),
    _set("config.json", study="../evil", experiment="x/../../y"),
    _set("config.json", classes=["a", "a"]),
    _set("config.json", image_size=10**9),
    _set("metrics.json", accuracy="<script>", per_class=7),
    _text("config.json", '{"study": NaN}', "NaN"),
    deep_json,
    huge_json,
    _column("manifest.csv", "image", "../secret.txt"),
    _column("manifest.csv", "image", "/etc/passwd"),
    _column("predictions.csv", "label", "=cmd|' /C calc'!A0"),
    pipe_for_predictions,
    _link("report.md", "victim/victim.txt"),
    _link("figures.tmp", "victim"),
    lock_is_a_link,
    _layer("a layer of the package evil", lambda c: _last(c).update(module="evil.layers", class_name="Evil", registered_name=None)),
    _layer("a lambda", lambda c: _last(c).update(module="keras.layers", class_name="Lambda", registered_name=None)),
    nan_weights,
    zip_bomb,
    torn_model,
)
