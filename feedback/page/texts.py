"""The words of the page."""

import base64
import html
import io
from collections import Counter
from typing import Any

import numpy as np
from PIL import Image

from feedback.page.session import CorrectionSession, Result, View
from feedback.page.summary import Summary
from feedback.paper import CASE_TITLES

NOTICE = (
    "**Research software. It is not a medical device and not a diagnosis.** "
    "Do not decide about a patient with it. Everything stays on this computer."
)
HOW = (
    "1. Look at the image, the class the model chose, and the coloured map of where it looked.\n"
    "2. Say which of the four cases it is; where something is wrong, give the right class or region.\n"
    "3. Press *Learn*. The correction is on disk before the model learns it, and *Undo* takes it back."
)
CASE_CHOICES = [(title.capitalize(), case) for case, title in CASE_TITLES.items()]
REGION_CHOICES = [("Draw it", "drawn"), ("Ellipse by numbers", "ellipse")]
ORDER_CHOICES = [
    ("where the model is least sure", "uncertain"),
    ("where it looks beside similar lesions", "disagreement"),
    ("by name", "name"),
]


def said(session: CorrectionSession, view: View) -> str:
    """What the model says of the image, in a sentence."""
    name, probability = session.classes[view.look.predicted], float(view.look.probabilities.max())
    found = view.look.map.any()
    looked = "The colours in the picture show where it looked; the white line is around its region."
    region = looked if found else "No region speaks for this class: the map is empty."
    return f"### The model says: {name} ({probability:.0%})\n{region}"


def status(session: CorrectionSession) -> str:
    """How far the session is."""
    corrected = len({entry["image"] for entry in session.log.active()})
    guard = session.guard_reading()
    watched = f" Guard: {guard.text}" if guard else " Guard: off, because the run's validation images are not at hand."
    if session.model.replay is None:
        watched += " The run's training images are not at hand: nothing is replayed, and each correction is learned more carefully."
    skipped = f" {len(session.ordering.unreadable)} files could not be read and are left out." if session.ordering.unreadable else ""
    return f"{corrected} of {len(session.folder.names())} images corrected.{watched}{skipped}"


def outcome(result: Result) -> str:
    """The correction in a table, then what the guard says."""
    entry: dict[str, Any] = result.entry
    if entry["status"] == "confirmed":
        return f"Recorded as correction {entry['number']}: both right. There is nothing to learn; the model stays as it is."
    before, after = entry["before"], entry["after"]
    right = entry["class"]
    done = f"Correction {entry['number']} learned in {entry['seconds']:.1f} s."
    if entry["status"] == "rolled_back":
        done = f"Correction {entry['number']} did harm and was taken back by itself; the model is what it was before it."
    lines = [
        f"{done}\n",
        "| | before | after |",
        "|---|---|---|",
        f"| class | {before['class']} | {after['class']} |",
        f"| probability of {right} | {before['probabilities'][right]:.0%} | {after['probabilities'][right]:.0%} |",
        f"| overlap with your region (Jaccard index) | {before['jaccard']:.2f} | {after['jaccard']:.2f} |",
    ]
    return "\n".join(lines) + (f"\n\n{result.guard.text}" if result.guard and result.guard.harm else "")


def summary(found: Summary) -> str:
    """A session for a doctor to read."""
    by_status = Counter(entry["status"] for entry in found.entries)
    learned = [entry for entry in found.entries if entry["status"] == "learned"]
    cases = Counter(entry["case"] for entry in learned)
    lines = [
        "### This session",
        f"- **Corrected**: {len(found.entries)} corrections; "
        + ", ".join(f"{count} {CASE_TITLES[case]}" for case, count in cases.items())
        + (", " if cases else "")
        + f"{by_status['confirmed']} confirmed, {by_status['undone']} undone, {by_status['rolled_back']} taken back by the guard, "
        f"{by_status['refused']} that could not be learned.",
    ]
    if learned:
        classes = [e for e in learned if e["case"] in ("class_wrong", "both_wrong")]
        regions = [e for e in learned if e["case"] in ("region_wrong", "both_wrong")]
        right = sum(e["after"]["class"] == e["class"] for e in classes)
        said = f"- **Learned**: {right} of {len(classes)} corrected classes were right directly afterwards"
        if regions:
            gains = [np.mean([e[when]["jaccard"] for e in regions]) for when in ("before", "after")]
            said += f"; the overlap with a corrected region went from {gains[0]:.2f} to {gains[1]:.2f} on average"
        lines.append(said + ".")
    lines.append(f"- **Kept**: {found.guard.text if found.guard else 'not known; the validation images of the run are not at hand.'}")
    if found.unseen:
        lines.append(
            f"- **Other images**: of {found.unseen} images that nobody corrected {found.changed} are called something else than at the "
            f"beginning; the regions shown then and now overlap by {found.overlap:.2f} on average (1: unchanged)."
        )
    return "\n".join(lines)


def drawing_area(name: str, picture: np.ndarray) -> str:
    """HTML of the drawing area over a picture `(h, w, 3)` uint8; drawing.js brings it to life."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90)
    height, width = picture.shape[:2]
    source = base64.b64encode(buffer.getvalue()).decode()
    return f"""<div class="drawing" data-image="{html.escape(name, quote=True)}" data-key="{html.escape(name, quote=True)}">
<div class="tools" role="toolbar" aria-label="Drawing tools">
<button type="button" data-tool="brush">Brush</button>
<button type="button" data-tool="outline">Outline (filled)</button>
<button type="button" data-tool="eraser">Eraser</button>
<label>Width <input type="range" data-width min="1" max="20"></label>
<button type="button" data-back>Take back the last stroke</button>
<button type="button" data-clear>Clear</button></div>
<div class="sheet" style="max-width:{width}px"><img alt="The image to draw on" src="data:image/jpeg;base64,{source}">
<canvas width="{width}" height="{height}" tabindex="0" role="img" aria-label="Drawing area. Arrow keys move the pen, with Shift faster;
 Space puts it down and lifts it."></canvas></div>
<p>Draw with mouse, pen or finger. By keyboard: arrow keys move the pen (with Shift faster), Space puts it down and lifts it.</p></div>"""
