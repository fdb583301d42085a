"""What a session leaves for others: masks and labels in the ISIC layout, the tuned model, and a report with maps before and after."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.errors import UsageError
from common.report.plots import save
from common.report.tables import markdown
from common.runs.files import atomic, cell
from common.runs.reading import RunFolder
from feedback.figures import before_after
from feedback.page.files import write_png
from feedback.page.model import REPLAYED
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
        _write_report(folder, entries, names, replaced, session)
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
    header = ["number", "time", "status", "image", "case", "class_shown", "class", "region", "model_before", "model_after"]
    corrections = [[cell(entry.get(key)) for key in header] for entry in session.log.entries()]
    RunFolder(folder).write_table(LABELS, pd.DataFrame(rows, columns=["image", *session.classes]))
    RunFolder(folder).write_table("corrections.csv", pd.DataFrame(corrections, columns=header))
    return replaced


def _write_report(
    folder: Path, entries: list[dict[str, Any]], names: dict[str, str], replaced: list[str], session: CorrectionSession
) -> None:
    """report.md and figures/: each corrected image as the base model sees it and as the tuned one does."""
    log, model, classes = session.log, session.model, session.classes
    seen, regions = [log.seen(entry) for entry in entries], [network_mask(log.mask(entry), model.size) for entry in entries]
    after = [model.look(image) for image in seen]
    try:
        restore(log, model, [])
        before = [model.look(image) for image in seen]
    finally:
        restore(log, model)
    figures, synthetic = [], bool(log.session.get("synthetic"))
    for start in range(0, len(entries), _ROWS):
        part = slice(start, start + _ROWS)
        pairs = list(zip(before[part], after[part], strict=True))
        maps = [np.stack([look.map for look in looks]) for looks in zip(*pairs, strict=True)]
        said = [(classes[first.predicted], classes[last.predicted]) for first, last in pairs]
        masks = np.stack(regions[part]).astype(np.uint8) * 255
        figures.append(f"before_after_{start // _ROWS + 1:02d}.png")
        drawn = before_after(np.stack(seen[part]), masks, *maps, said, session.threshold, synthetic=synthetic)
        save(drawn, folder / "figures" / figures[-1])
    rows = []
    for entry, region, *looks in zip(entries, regions, before, after, strict=True):
        first, last = (session.facts(look, region) for look in looks)
        jaccard = f"{first['jaccard']:.2f} → {last['jaccard']:.2f}" if region.any() else "no region"
        rows.append([names[entry["image"]], CASE_TITLES[entry["case"]], entry["class"], f"{first['class']} → {last['class']}", jaccard])
    counts = Counter(entry["case"] for entry in log.active())
    undone = sum(entry["status"] == "undone" for entry in log.entries())
    learning = log.session["learning"]
    text = [
        f"# Corrections\n\n{NOTICE}{' The images are synthetic.' if synthetic else ''}\n",
        f"Model: run {log.session.get('run', '')}, state {model.digest()} after {len(log.active())} corrections ({undone} more were "
        f"undone). Each correction: {learning['steps']} SGD steps at rate {learning['learning_rate']:g}, beside {REPLAYED} of "
        f"{log.session['replayed']} replayed training images.\n",
        "".join(f"- {title}: {counts.get(case, 0)}\n" for case, title in CASE_TITLES.items()),
        *(f"{names[image]}: the image is gone from the folder, or another one; exported as the network saw it.\n" for image in replaced),
        summary(summarise(session)) + "\n",
        "## The corrected images before and after\n\nBase model → tuned model; the Jaccard index is that of the map of the predicted class "
        "and the corrected region. They were learned from, so this shows that the corrections arrived, not how good the model is.\n",
        markdown(("image", "case", "right class", "class said", "Jaccard index"), rows, left=4),
        "Solid line: the corrected region. Dashed line: the model's region.\n",
        "\n\n".join(f"![before and after](figures/{name})" for name in figures),
    ]
    RunFolder(folder).write_text("report.md", "\n".join(text) + "\n")
