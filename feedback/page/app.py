"""The page itself: Gradio components in front of a `CorrectionSession`. No logic of its own beyond what is shown where."""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from common.errors import UsageError
from feedback.page import pictures, texts
from feedback.page.export import export
from feedback.page.ordering import Order
from feedback.page.regions import drawn_region, ellipse_region, read_drawing
from feedback.page.session import CorrectionSession, Stale, View, reason_of
from feedback.page.summary import summarise

log = logging.getLogger(__name__)

STRENGTH = 0.7
STALE = "⚠ Another tab has changed the model. What it says of this image now is shown; check it, then press the button again."
CSS = """
.gradio-container {max-width: 1200px !important; margin: 0 auto;}
#notice {border-left: 6px solid #D55E00; padding: 0.4em 0.8em; background: #FFF4EC;}
#notice * {color: #1f1f1f;}
#message {font-weight: 600; min-height: 1.5em;}
.drawing .tools {display: flex; flex-wrap: wrap; gap: 0.5em; align-items: center; margin-bottom: 0.5em;}
.drawing button {border: 2px solid #6b7280; border-radius: 6px; padding: 0.3em 0.8em; background: #ffffff; color: #1f1f1f;}
.drawing button[aria-pressed=true] {background: #0072B2; border-color: #0072B2; color: #ffffff;}
.drawing .sheet {position: relative; width: 100%;}
.drawing .sheet img {display: block; width: 100%; height: auto; margin: 0;}
.drawing .sheet canvas {position: absolute; inset: 0; width: 100%; height: 100%; opacity: 0.55; touch-action: none; cursor: crosshair;}
:focus-visible {outline: 3px solid #0072B2 !important; outline-offset: 2px;}
"""
HEAD = f"<script>{(Path(__file__).parent / 'drawing.js').read_text(encoding='utf-8')}</script>"


@dataclass
class Tab:
    """What one browser tab knows: the image it shows and the names of those it has shown."""

    view: View
    seen: list[str]
    order: str = ""  # in which the image came up; "" when it was chosen by hand


def theme() -> gr.themes.Base:
    """Gradio's default with fonts of the system, so that nothing is fetched, and blue: white letters on its orange are hard to read."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    blue = {"button_primary_background_fill": "#0060A0", "button_primary_background_fill_hover": "#004A7C"}
    return gr.themes.Default(primary_hue="blue", text_size="lg", **fonts).set(**blue)


def build(session: CorrectionSession, order: str, uploads: Path) -> gr.Blocks:
    """The page over a session. `uploads`: where Gradio puts what a browser uploads; no other file is opened by its path."""
    with gr.Blocks(title="Correct the model: research software", analytics_enabled=False) as page:
        tab = gr.State()  # a Tab once an image is shown
        gr.Markdown("# Correct the model")
        gr.Markdown(texts.NOTICE, elem_id="notice")
        with gr.Accordion("How it works", open=False):
            gr.Markdown(texts.HOW)
        with gr.Row():
            name = gr.Dropdown(session.folder.names(), value=None, label="Image", filterable=True, elem_id="image-name", scale=3)
            ordering = gr.Radio(texts.ORDER_CHOICES, value=order, label="Next image", elem_id="order", scale=3)
            following = gr.Button("Next image", elem_id="next", scale=1, min_width=120)
            upload = gr.UploadButton("Open a file…", file_types=["image"], elem_id="upload", scale=1, min_width=120)
        message = gr.Markdown(elem_id="message")
        with gr.Row():
            with gr.Column(min_width=320):
                overlay = gr.Image(label="Where the model looked", interactive=False, buttons=[], elem_id="overlay", format="png")
                strength = gr.Slider(0, 1, value=STRENGTH, step=0.05, label="Strength of the map", elem_id="strength")
            with gr.Column(min_width=320):
                said = gr.Markdown(elem_id="said")
                probabilities = gr.Label(label="Probabilities", show_heading=False, elem_id="probabilities")
        gr.Markdown("## Your correction")
        case = gr.Radio(texts.CASE_CHOICES, value=None, label="What is right, what is wrong?", elem_id="case")
        with gr.Group(visible=False) as class_part:
            label = gr.Dropdown(list(session.classes), value=None, label="The right class", filterable=False, elem_id="label")
        with gr.Group(visible=False) as region_part:
            mode = gr.Radio(texts.REGION_CHOICES, value="drawn", label="The right region", elem_id="mode")
            editor = gr.HTML(elem_id="editor", padding=True)
            drawing = gr.Textbox(visible=False)  # filled by drawing.js when a button needs it
            with gr.Row(visible=False) as ellipse_part:
                axes = [
                    gr.Slider(0, 100, value=50, step=1, label="Centre from the left, %", elem_id="ellipse-x"),
                    gr.Slider(0, 100, value=50, step=1, label="Centre from the top, %", elem_id="ellipse-y"),
                    gr.Slider(1, 100, value=50, step=1, label="Width, %", elem_id="ellipse-width"),
                    gr.Slider(1, 100, value=50, step=1, label="Height, %", elem_id="ellipse-height"),
                ]
            preview = gr.Button("Show the region as it is understood", elem_id="preview")
        with gr.Row():
            learn = gr.Button("Learn", variant="primary", elem_id="learn")
            undo = gr.Button("Undo the last correction", elem_id="undo")
            summing = gr.Button("Summary", elem_id="summary")
            exporting = gr.Button("Export", elem_id="export")
        outcome = gr.Markdown(elem_id="outcome")
        with gr.Row(visible=False) as compared:
            before = gr.Image(label="Before (blue: your region)", interactive=False, buttons=[], elem_id="before", format="png")
            after = gr.Image(label="After (blue: your region)", interactive=False, buttons=[], elem_id="after", format="png")
        status = gr.Markdown(elem_id="status")

        seen = [tab, name, overlay, said, probabilities, status]
        opened = [*seen, editor, case, label, outcome, compared]

        def show(image: str, known: Tab | None, weight: float) -> dict[Any, Any]:
            view = session.view(image)
            order = known.order if known and known.view.name == image else ""
            known = Tab(view, [*(known.seen if known else []), image], order)
            chances = {one: float(p) for one, p in zip(session.classes, view.look.probabilities, strict=True)}
            return {
                tab: known,
                name: gr.update(value=image, choices=session.folder.names()),
                overlay: pictures.with_map(view.picture, view.look.map, weight, session.threshold),
                said: texts.said(session, view),
                probabilities: chances,
                status: texts.status(session),
            }

        def fresh(image: str, known: Tab | None, weight: float) -> dict[Any, Any]:
            """A new image: the choices and the outcome of the last one must not stay."""
            shown = show(image, known, weight)
            area = texts.drawing_area(image, pictures.shown(shown[tab].view.picture))
            return {**shown, editor: area, case: None, label: None, outcome: "", compared: gr.update(visible=False), message: ""}

        def open_image(image: str | None, known: Tab | None, weight: float) -> dict[Any, Any]:
            if not image or (known and known.view.name == image and known.view.revision == session.revision):
                return {message: ""}
            return fresh(image, known, weight)

        def open_next(how: Order, known: Tab | None, weight: float) -> dict[Any, Any]:
            seen_before, current = (known.seen, known.view.name) if known else ([], None)
            shown = fresh(session.next_image(how, seen_before, current), known, weight)
            shown[tab].order = how
            return shown

        def open_upload(file: str, known: Tab | None, weight: float) -> dict[Any, Any]:
            path = Path(file).resolve()
            if not path.is_relative_to(uploads.resolve()):
                raise UsageError("only a file that was uploaded can be opened")
            return fresh(session.folder.add(path), known, weight)

        def strengthen(known: Tab | None, weight: float) -> dict[Any, Any]:
            if known is None:
                return {message: ""}
            return {overlay: pictures.with_map(known.view.picture, known.view.look.map, weight, session.threshold)}

        def choose_case(chosen: str | None) -> dict[Any, Any]:
            return {
                class_part: gr.update(visible=chosen in ("class_wrong", "both_wrong")),
                region_part: gr.update(visible=chosen in ("region_wrong", "both_wrong")),
                learn: gr.update(value="Record" if chosen == "both_right" else "Learn"),
            }

        def choose_mode(chosen: str) -> dict[Any, Any]:
            return {ellipse_part: gr.update(visible=chosen == "ellipse"), editor: gr.update(visible=chosen != "ellipse")}

        def region_of(known: Tab, chosen: str, sent: str, numbers: tuple[float, ...]) -> np.ndarray:
            shape = known.view.picture.shape[:2]
            if chosen == "ellipse":
                x, y, width, height = numbers
                return ellipse_region(x, y, width, height, shape)
            return drawn_region(read_drawing(sent, known.view.name), shape)

        def show_region(known: Tab | None, chosen: str, sent: str, *numbers: float) -> dict[Any, Any]:
            known = chosen_image(known)
            region = region_of(known, chosen, sent, numbers)
            share = f"{region.mean():.0%} of the image"
            return {
                overlay: pictures.outlined(pictures.shown(known.view.picture), region),
                message: f"The blue line in the picture shows your region: {share}. Moving the strength brings the map back.",
            }

        def compare(picture: np.ndarray, saliency: np.ndarray, marked: np.ndarray) -> np.ndarray:
            return pictures.outlined(pictures.with_map(picture, saliency, STRENGTH, session.threshold), marked)

        def correct(
            known: Tab | None, chosen: str | None, right: str | None, how: str, sent: str, weight: float, *numbers: float,
            progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio finds the progress bar by this default)
        ) -> dict[Any, Any]:  # fmt: skip
            known = chosen_image(known)
            view = known.view
            region = region_of(known, how, sent, numbers) if chosen in ("region_wrong", "both_wrong") else None
            progress(0, desc="Learning")
            try:
                advance = functools.partial(progress, desc="Learning")
                result = session.correct(view.name, chosen or "", right, region, how, advance, view.revision, known.order)
            except Stale:
                # The drawing stays; what the model says now is shown, so that it can be judged.
                return {**show(view.name, known, weight), message: STALE}
            marked = result.region
            return {
                **show(view.name, known, weight),
                outcome: texts.outcome(result),
                compared: gr.update(visible=result.entry["status"] in ("learned", "rolled_back")),
                before: compare(view.picture, result.before.map, marked),
                after: compare(view.picture, result.after.map, marked),
                message: "",
            }

        def take_back(known: Tab | None, weight: float) -> dict[Any, Any]:
            try:
                entry = session.undo(known.view.revision if known else None)
            except Stale:
                return {**(show(known.view.name, known, weight) if known else {}), message: STALE}
            said_now = f"Correction {entry['number']} ({entry['image']}) is undone; the model is what it was before it."
            shown = show(known.view.name, known, weight) if known else {status: texts.status(session)}
            return {**shown, outcome: said_now, compared: gr.update(visible=False), message: ""}

        def sum_up() -> dict[Any, Any]:
            return {outcome: texts.summary(summarise(session))}

        def write_export() -> dict[Any, Any]:
            folder = export(session)
            return {outcome: f"Exported to `{folder}`: masks and labels in the ISIC layout, the tuned model, and report.md with figures."}

        def on(event: Callable, action: Callable, inputs: list, outputs: list, **settings: Any) -> None:
            # One at a time: a page that computes twice at once is slower in both tabs. Nothing is offered as a web service.
            event(
                guarded(action, message), inputs, [message, *outputs], api_visibility="private", concurrency_id="model",
                concurrency_limit=1, **settings,
            )  # fmt: skip

        on(page.load, open_next, [ordering, tab, strength], opened)
        on(name.input, open_image, [name, tab, strength], opened)
        on(following.click, open_next, [ordering, tab, strength], opened)
        on(upload.upload, open_upload, [upload, tab, strength], opened)
        on(strength.change, strengthen, [tab, strength], [overlay], show_progress="hidden", trigger_mode="always_last")
        on(case.change, choose_case, [case], [class_part, region_part, learn], show_progress="hidden")
        on(mode.change, choose_mode, [mode], [ellipse_part, editor], show_progress="hidden")
        on(preview.click, show_region, [tab, mode, drawing, *axes], [overlay], js=with_drawing(2))
        changed = [outcome, compared, before, after]
        given = [tab, case, label, mode, drawing, strength, *axes]
        on(learn.click, correct, given, [*seen, *changed], js=with_drawing(4), show_progress_on=outcome)
        on(undo.click, take_back, [tab, strength], [*seen, outcome, compared])
        on(summing.click, sum_up, [], [outcome])
        on(exporting.click, write_export, [], [outcome])
    return page


def chosen_image(known: Tab | None) -> Tab:
    """The tab when it shows an image. UsageError otherwise."""
    if known is None:
        raise UsageError("choose an image first")
    return known


def with_drawing(place: int) -> str:
    """JavaScript that puts the drawing into the input number `place` before it is sent."""
    return f"(...inputs) => {{ inputs[{place}] = window.feedbackDrawing(); return inputs; }}"


def guarded(action: Callable[..., dict[Any, Any]], message: Any) -> Callable[..., dict[Any, Any]]:
    """An error becomes a line on the page; nothing else of the page changes then."""

    @functools.wraps(action)
    def wrapper(*arguments: Any, **options: Any) -> dict[Any, Any]:
        try:
            return action(*arguments, **options)
        except UsageError as error:
            return {message: f"⚠ {error}"}
        except Exception as error:
            log.exception("an action of the page failed")
            return {message: f"⚠ This did not work ({reason_of(error)}); more is in the terminal."}

    return wrapper
