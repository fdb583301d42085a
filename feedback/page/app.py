"""The page itself: Gradio components in front of a `CorrectionSession`. No logic of its own beyond what is shown where."""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from common.errors import UsageError
from feedback.page import pictures, texts
from feedback.page.regions import drawn_region, ellipse_region
from feedback.page.session import CorrectionSession, View

log = logging.getLogger(__name__)

CSS = """
.gradio-container {max-width: 1200px !important; margin: 0 auto;}
.notice {border-left: 6px solid #D55E00; padding: 0.4em 0.8em; background: #FFF4EC; color: #1f1f1f;}
.notice * {color: #1f1f1f;}
.message {font-weight: 600; min-height: 1.5em;}
:focus-visible {outline: 3px solid #0072B2 !important; outline-offset: 2px;}
"""
# Screen readers hear what changes below the button they pressed; the page's language and title are Gradio's own settings.
HEAD = """<script>
document.addEventListener("DOMContentLoaded", () => {
  const mark = () => { for (const id of ["message", "outcome"]) { const e = document.getElementById(id);
    if (e && !e.hasAttribute("aria-live")) { e.setAttribute("role", "status"); e.setAttribute("aria-live", "polite"); } } };
  new MutationObserver(mark).observe(document.body, {childList: true, subtree: true});
});
</script>"""


@dataclass
class Tab:
    """What one browser tab knows: the image it shows and those it has shown."""

    view: View | None = None
    seen: list[str] = field(default_factory=list)


def theme() -> gr.themes.Base:
    """Gradio's default with fonts of the system: nothing is fetched."""
    return gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"], text_size="lg")


def build(session: CorrectionSession, order: str = "uncertain") -> gr.Blocks:
    """The page over a session."""
    with gr.Blocks(title="Correct the model: research software", analytics_enabled=False) as page:
        tab = gr.State(Tab)
        gr.Markdown("# Correct the model")
        gr.Markdown(texts.NOTICE, elem_classes="notice", elem_id="notice")
        with gr.Accordion("How it works", open=False):
            gr.Markdown(texts.HOW)
        with gr.Row():
            name = gr.Dropdown(session.folder.names(), value=None, label="Image", filterable=True, elem_id="image-name", scale=3)
            ordering = gr.Radio(texts.ORDER_CHOICES, value=order, label="Next image", elem_id="order", scale=3)
            following = gr.Button("Next image", elem_id="next", scale=1, min_width=120)
            upload = gr.UploadButton("Open a file…", file_types=["image"], elem_id="upload", scale=1, min_width=120)
        message = gr.Markdown(elem_id="message", elem_classes="message")
        with gr.Row():
            with gr.Column(min_width=320):
                overlay = gr.Image(label="Where the model looked", interactive=False, buttons=[], elem_id="overlay", format="png")
                strength = gr.Slider(0, 1, value=0.45, step=0.05, label="Strength of the map", elem_id="strength")
            with gr.Column(min_width=320):
                said = gr.Markdown(elem_id="said")
                probabilities = gr.Label(label="Probabilities", show_heading=False, elem_id="probabilities")
        gr.Markdown("## Your correction")
        case = gr.Radio(texts.CASE_CHOICES, value=None, label="What is right, what is wrong?", elem_id="case")
        with gr.Group(visible=False) as class_part:
            label = gr.Dropdown(list(session.classes), value=None, label="The right class", filterable=False, elem_id="label")
        with gr.Group(visible=False) as region_part:
            mode = gr.Radio(texts.REGION_CHOICES, value="brush", label="The right region", elem_id="mode")
            editor = gr.ImageEditor(
                label="Draw here", type="numpy", image_mode="RGBA", sources=(), transforms=(), layers=False, format="png", buttons=[],
                brush=gr.Brush(default_size=24, colors=["#0072B2"], default_color="#0072B2", color_mode="fixed"),
                eraser=gr.Eraser(default_size=24), canvas_size=(pictures.DISPLAY_SIDE, pictures.DISPLAY_SIDE), elem_id="editor",
            )  # fmt: skip
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
            export = gr.Button("Export", elem_id="export")
        outcome = gr.Markdown(elem_id="outcome")
        with gr.Row(visible=False) as compared:
            before = gr.Image(label="Before, with your region", interactive=False, buttons=[], elem_id="before", format="png")
            after = gr.Image(label="After, with your region", interactive=False, buttons=[], elem_id="after", format="png")
        status = gr.Markdown(elem_id="status")

        seen = [tab, name, overlay, said, probabilities, editor, status]

        def show(image: str, known: Tab, weight: float) -> dict[Any, Any]:
            view = session.view(image)
            known = Tab(view, [*known.seen, image])
            chances = {one: float(p) for one, p in zip(session.classes, view.look.probabilities, strict=True)}
            return {
                tab: known,
                name: gr.update(value=image, choices=session.folder.names()),
                overlay: pictures.with_map(view.picture, view.look.map, weight),
                said: texts.said(session, view),
                probabilities: chances,
                editor: {"background": pictures.shown(view.picture), "layers": [], "composite": None},
                status: texts.status(session),
            }

        def fresh(image: str, known: Tab, weight: float) -> dict[Any, Any]:
            """A new image: the choices of the last one must not stay."""
            return {**show(image, known, weight), case: None, label: None, message: ""}

        def open_image(image: str | None, known: Tab, weight: float) -> dict[Any, Any]:
            if not image or (known.view is not None and known.view.name == image and known.view.revision == session.revision):
                return {message: ""}
            return fresh(image, known, weight)

        def open_next(how: str, known: Tab, weight: float) -> dict[Any, Any]:
            current = known.view.name if known.view else None
            return fresh(session.next_image(how, known.seen, current), known, weight)

        def open_upload(file: str, known: Tab, weight: float) -> dict[Any, Any]:
            return fresh(session.folder.add(Path(file)), known, weight)

        def strengthen(known: Tab, weight: float) -> dict[Any, Any]:
            return {overlay: pictures.with_map(known.view.picture, known.view.look.map, weight)} if known.view else {message: ""}

        def choose_case(chosen: str | None) -> dict[Any, Any]:
            return {
                class_part: gr.update(visible=chosen in ("class_wrong", "both_wrong")),
                region_part: gr.update(visible=chosen in ("region_wrong", "both_wrong")),
                learn: gr.update(value="Record" if chosen == "both_right" else "Learn"),
            }

        def choose_mode(chosen: str) -> dict[Any, Any]:
            return {ellipse_part: gr.update(visible=chosen == "ellipse"), editor: gr.update(visible=chosen != "ellipse")}

        def region_of(known: Tab, chosen: str, drawing: Any, numbers: tuple[float, ...]) -> np.ndarray:
            shape = known.view.picture.shape[:2]
            if chosen == "ellipse":
                return ellipse_region(*numbers, shape)
            return drawn_region(strokes(drawing), chosen, shape)

        def show_region(known: Tab, chosen: str, drawing: Any, *numbers: float) -> dict[Any, Any]:
            region = region_of(chosen_image(known), chosen, drawing, numbers)
            share = f"{region.mean():.0%} of the image"
            return {
                overlay: pictures.outlined(pictures.shown(known.view.picture), region),
                message: f"The blue line in the picture above shows your region: {share}. Moving the strength brings the map back.",
            }

        def correct(
            known: Tab, chosen: str | None, right: str | None, how: str, drawing: Any, weight: float, *numbers: float,
            progress: gr.Progress = gr.Progress(),  # noqa: B008: Gradio finds the progress bar by this default
        ) -> dict[Any, Any]:  # fmt: skip
            view = chosen_image(known).view
            region = region_of(known, how, drawing, numbers) if chosen in ("region_wrong", "both_wrong") else None
            progress(0, desc="Learning")
            result = session.correct(view.name, chosen or "", right, region, how, lambda share: progress(share, desc="Learning"))
            marked = result.region
            return {
                **show(view.name, known, weight),
                outcome: texts.outcome(result),
                compared: gr.update(visible=result.entry["status"] == "learned"),
                before: pictures.outlined(pictures.with_map(view.picture, result.before.map, 0.45), marked),
                after: pictures.outlined(pictures.with_map(view.picture, result.after.map, 0.45), marked),
                message: "",
            }

        def take_back(known: Tab, weight: float) -> dict[Any, Any]:
            entry = session.undo(known.view.revision if known.view else None)
            said_now = f"Correction {entry['number']} ({entry['image']}) is undone; the model is what it was before it."
            shown = show(known.view.name, known, weight) if known.view else {status: texts.status(session)}
            return {**shown, outcome: said_now, compared: gr.update(visible=False), message: ""}

        def write_export() -> dict[Any, Any]:
            folder = session.export()
            return {outcome: f"Exported to `{folder}`: masks and labels in the ISIC layout, the tuned model, and report.md with figures."}

        def on(event: Callable, action: Callable, inputs: list, outputs: list, **settings: Any) -> None:
            # One at a time: a page that computes twice at once is slower in both tabs. Nothing is offered as a web service.
            event(
                guarded(action, message), inputs, [message, *outputs], api_visibility="private", concurrency_id="model",
                concurrency_limit=1, **settings,
            )  # fmt: skip

        drawing = [mode, editor]
        on(page.load, open_next, [ordering, tab, strength], [*seen, case, label])
        on(name.input, open_image, [name, tab, strength], [*seen, case, label])
        on(following.click, open_next, [ordering, tab, strength], [*seen, case, label])
        on(upload.upload, open_upload, [upload, tab, strength], [*seen, case, label])
        on(strength.change, strengthen, [tab, strength], [overlay], show_progress="hidden", trigger_mode="always_last")
        on(case.change, choose_case, [case], [class_part, region_part, learn], show_progress="hidden")
        on(mode.change, choose_mode, [mode], [ellipse_part, editor], show_progress="hidden")
        on(preview.click, show_region, [tab, *drawing, *axes], [overlay])
        changed = [outcome, compared, before, after]
        on(learn.click, correct, [tab, case, label, *drawing, strength, *axes], [*seen, *changed], show_progress_on=outcome)
        on(undo.click, take_back, [tab, strength], [*seen, outcome, compared])
        on(export.click, write_export, [], [outcome])
    return page


def chosen_image(known: Tab) -> Tab:
    """The tab when it shows an image. UsageError otherwise."""
    if known.view is None:
        raise UsageError("choose an image first")
    return known


def strokes(drawing: Any) -> np.ndarray:
    """What is drawn in the editor's value: `(h, w)` bool, true where any layer is not transparent."""
    layers = [np.asarray(layer) for layer in (drawing or {}).get("layers") or []]
    if not layers:
        return np.zeros((1, 1), bool)
    return np.any([layer[..., 3] > 0 if layer.shape[-1] == 4 else layer.any(axis=-1) for layer in layers], axis=0)


def guarded(action: Callable[..., dict[Any, Any]], message: Any) -> Callable[..., dict[Any, Any]]:
    """A wrong input becomes a line on the page; nothing else of the page changes then."""

    @functools.wraps(action)
    def wrapper(*arguments: Any, **options: Any) -> dict[Any, Any]:
        try:
            return action(*arguments, **options)
        except UsageError as error:
            return {message: f"⚠ {error}"}

    return wrapper
