"""What a session leaves for others: masks and labels in the ISIC layout, the tuned model, and a report with maps before and after."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UsageError
from common.report.plots import save
from common.report.tables import markdown
from common.runs.files import atomic, cell
from feedback.figures import before_after
from feedback.page.files import write_png
from feedback.page.log import CorrectionLog
from feedback.page.model import REPLAYED, Look, TunedModel
from feedback.page.replay import network_mask, restore
from feedback.page.session import CorrectionSession
from feedback.page.summary import summarise
from feedback.page.texts import summary
from feedback.paper import CASE_TITLES

IMAGES = "ISIC2018_Task1-2_Training_Input"
MASKS = "ISIC2018_Task1_Training_GroundTruth"
LABELS = "ISIC_2019_Training_GroundTruth.csv"
NOTICE = "Research software. Not a medical device; nothing here is a diagnosis."
_ROWS = 6


def export(session: CorrectionSession) -> Path:
    """A new folder `export-0001`, `export-0002`, … in the log, whole or absent; the last correction of an image counts.

    It holds images, masks and labels in the layout of ISIC 2018 and 2019, corrections.csv, model.keras, report.md and figures/. A region
    without any pixel gets no mask. `feedback simulate --dataset isic2018` reads it where the model's classes are among ISIC 2019's eight;
    it refuses the labels of other classes. An image that is gone from the folder, or is another one now, is exported as the log has it:
    picture and region at the network's size.

    Raises:
        UsageError: no correction yet.
    """
    with session.exclusively():
        session.log.verify()
        if not session.log.active():
            raise UsageError("there is no correction to export yet")
        return _export(session)


def _export(session: CorrectionSession) -> Path:
    log = session.log
    # By the whole name: what a killed process left ends in `.tmp-…`, and its digits are no number of ours.
    found = (re.fullmatch(r"export-(\d{4,})", path.name) for path in log.path.glob("export-*"))
    number = 1 + max((int(match[1]) for match in found if match), default=0)
    final = log.path / f"export-{number:04d}"
    folder = log.path / f"export-{number:04d}.tmp-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        entries = list({entry["image"]: entry for entry in log.active()}.values())
        names = export_names([entry["image"] for entry in entries])
        replaced = _write_data(folder, entries, names, session)
        with atomic(folder / "model.keras") as temporary:
            session.model.classifier.save(temporary)
        looks = _looks(log, session.model, entries)
        figures = _write_figures(folder, entries, looks, session)
        _write_report(folder, entries, looks, figures, session, names, replaced)
        os.replace(folder, final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return final


def isic_name(image: str) -> str:
    """The id under which an image is exported: its path without suffix, folders joined by `_`."""
    return Path(image).with_suffix("").as_posix().replace("/", "_") if not image.startswith("upload/") else image.replace("/", "_")


def export_names(images: Sequence[str]) -> dict[str, str]:
    """Image -> the id under which it is exported, each once: where two images would share one (`a/b.jpg`, `a_b.jpg`), all of them get
    eight digits of their own path's SHA-256 at the end. Upper and lower case count as one, as some file systems have it.
    """
    taken = Counter(isic_name(image).lower() for image in images)
    return {
        image: isic_name(image)
        + (f"_{hashlib.sha256(image.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}" if taken[isic_name(image).lower()] > 1 else "")
        for image in images
    }


def _write_data(folder: Path, entries: list[dict[str, Any]], names: dict[str, str], session: CorrectionSession) -> list[str]:
    """Images, masks, labels and corrections.csv; returns the images for which the log's own picture had to serve."""
    (folder / IMAGES).mkdir(parents=True)
    (folder / MASKS).mkdir()
    rows, replaced = [], []
    for entry in entries:
        name, mask = names[entry["image"]], session.log.mask(entry)
        source = session.original(entry)
        if source is not None:
            shutil.copyfile(source, folder / IMAGES / f"{name}{source.suffix.lower()}")
        else:
            replaced.append(entry["image"])
            write_png(folder / IMAGES / f"{name}.png", session.log.seen(entry))
            mask = network_mask(mask, session.model.size)
        if mask.any():
            write_png(folder / MASKS / f"{name}_segmentation.png", mask)
        rows.append([name, *("1.0" if one == entry["class"] else "0.0" for one in session.classes)])
    _write_csv(folder / LABELS, ["image", *session.classes], rows)
    header = ["number", "time", "status", "image", "case", "class_shown", "class", "region", "model_before", "model_after"]
    _write_csv(folder / "corrections.csv", header, [[cell(entry.get(key)) for key in header] for entry in session.log.entries()])
    return replaced


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, lineterminator="\n").writerows([header, *rows])


def _looks(log: CorrectionLog, model: TunedModel, entries: list[dict[str, Any]]) -> list[tuple[Look, Look]]:
    """Each corrected image as the base model sees it and as the tuned one does."""
    after = [model.look(log.seen(entry)) for entry in entries]
    try:
        restore(log, model, [])
        before = [model.look(log.seen(entry)) for entry in entries]
    finally:
        restore(log, model)
    return list(zip(before, after, strict=True))


def _write_figures(folder: Path, entries: list[dict[str, Any]], looks: list[tuple[Look, Look]], session: CorrectionSession) -> list[str]:
    names = []
    for start in range(0, len(entries), _ROWS):
        part, seen = entries[start : start + _ROWS], looks[start : start + _ROWS]
        drawn = before_after(
            np.stack([session.log.seen(entry) for entry in part]),
            np.stack([network_mask(session.log.mask(entry), session.model.size) for entry in part]).astype(np.uint8) * 255,
            np.stack([before.map for before, _ in seen]),
            np.stack([after.map for _, after in seen]),
            [(session.classes[before.predicted], session.classes[after.predicted]) for before, after in seen],
            session.threshold,
            synthetic=bool(session.log.session.get("synthetic")),
        )  # fmt: skip
        names.append(f"before_after_{start // _ROWS + 1:02d}.png")
        save(drawn, folder / "figures" / names[-1])
    return names


def _write_report(
    folder: Path, entries: list[dict[str, Any]], looks: list[tuple[Look, Look]], figures: list[str], session: CorrectionSession,
    names: dict[str, str], replaced: list[str],
) -> None:  # fmt: skip
    every = session.log.entries()
    facts = session._facts
    rows = []
    for entry, (before, after) in zip(entries, looks, strict=True):
        region = network_mask(session.log.mask(entry), session.model.size)
        first, last = facts(before, region), facts(after, region)
        jaccard = f"{first['jaccard']:.2f} → {last['jaccard']:.2f}" if region.any() else "no region"
        said = f"{first['class']} → {last['class']}"
        rows.append([names[entry["image"]], CASE_TITLES[entry["case"]], entry["class"], said, jaccard])
    counts = Counter(entry["case"] for entry in session.log.active())
    undone = sum(entry["status"] == "undone" for entry in every)
    learning = session.log.session["learning"]
    source = session.log.session.get("run", "")
    text = [
        "# Corrections\n",
        f"{NOTICE}{' The images are synthetic.' if session.log.session.get('synthetic') else ''}\n",
        f"Model: run {source}, state {session._digest} after {len(session.log.active())} corrections ({undone} more were undone). "
        f"Each correction: {learning['steps']} SGD steps at rate {learning['learning_rate']:g}, beside {REPLAYED} of "
        f"{session.log.session['replayed']} replayed training images.\n",
        "".join(f"- {title}: {counts.get(case, 0)}\n" for case, title in CASE_TITLES.items()),
        *(f"{names[image]}: the image is gone from the folder, or another one; exported as the network saw it.\n" for image in replaced),
        summary(summarise(session)) + "\n",
        "## The corrected images before and after\n\nBase model → tuned model; the Jaccard index is that of the map of the predicted class "
        "and the corrected region. They were learned from, so this shows that the corrections arrived, not how good the model is.\n",
        markdown(("image", "case", "right class", "class said", "Jaccard index"), rows, left=4),
        "Solid line: the corrected region. Dashed line: the model's region.\n",
        "\n\n".join(f"![before and after](figures/{name})" for name in figures),
    ]
    with atomic(folder / "report.md") as temporary:
        temporary.write_text("\n".join(text) + "\n", encoding="utf-8")
