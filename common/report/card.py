"""model_card.md: what the saved model is for, what it saw, what it reaches, and what it must not be used for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.report.markup import interval_text, markdown, number
from common.runs.reading import RunFolder

RESEARCH_ONLY = (
    "Research and teaching only: to rerun, compare and explain published experiments. It is no medical device, was never tested on "
    "patients, and must not be used for diagnosis, screening or triage, not even as a second opinion."
)
LIMITS = (
    "It knows only its own classes: every image gets one of them, also an image of something else.",
    "It was tested on images of the data set it was trained on. Another camera, stain or hospital can change its accuracy a lot.",
    "Probabilities are shares of a softmax and are as calibrated as the table in report.md says, not more.",
    "Explanation maps show where the network looked, not why a class is right.",
)


def write_model_card(run: Any, title: str | None = None, intended: str = "", data: Sequence[str] = (), limits: Sequence[str] = ()) -> Path:
    """Write model_card.md (Mitchell et al. 2019) and model_card.json with the arguments; return the card's path.

    intended: a sentence put before the general one. data: lines on where the images come from and their licence. limits: lines beside
    the general ones, such as leakage of the split. UsageError when config.json or metrics.json is missing.
    """
    folder = RunFolder.of(run)
    config, metrics = folder.read_json("config.json"), folder.read_json("metrics.json")
    title = title or f"{config.get('study')}: {config.get('experiment')}"
    folder.write_json("model_card.json", {"title": title, "intended": intended, "data": list(data), "limits": list(limits)})
    warning = (
        "> **Synthetic data.** Trained and tested on images drawn by a program: it knows nothing about real patients' images.\n\n"
        if metrics.get("synthetic")
        else ""
    )
    described = [
        f"Data set: {config.get('dataset')}; split: {config.get('split')}; seed {config.get('seed')}.",
        f"Classes: {', '.join(metrics['per_class'])}.",
        *data,
    ]
    scores = [
        ("accuracy", number(metrics["accuracy"]), interval_text(metrics["accuracy_interval"])),
        ("macro F1", number(metrics["macro_f1"]), interval_text(metrics.get("macro_f1_interval"))),
        *(
            (f"recall of {name}", number(values["recall"]), interval_text(values.get("intervals", {}).get("recall")))
            for name, values in metrics["per_class"].items()
            if values["support"]
        ),
    ]
    training = [
        f"Network: {network_text(config)}, input {config.get('image_size')} px "
        f"({config.get('resize_filter')} filter), raw RGB 0..255; preprocessing is inside the model.",
        f"Backend {config.get('backend')}, {config.get('machine')}; git commit {config.get('git_commit')}.",
        "Every setting is in config.json.",
    ]
    text = (
        f"# Model card: {title}\n\n{warning}"
        f"## Intended use\n\n{intended + ' ' if intended else ''}{RESEARCH_ONLY}\n\n"
        f"## Data\n\n{_list(described)}\n"
        f"## Training\n\n{_list(training)}\n"
        f"## Measured on {metrics['n']} test images\n\n{markdown(('', 'value', '95 % interval'), scores)}\n"
        f"## Limits\n\n{_list([*limits, *LIMITS])}"
    )
    return folder.write_text("model_card.md", text)


def network_text(config: Mapping[str, Any]) -> str:
    """ "vgg16, starting weights: imagenet", or the file of a network of one's own, which brings its weights."""
    own = (config.get("settings") or {}).get("network")
    return str(own) if own else f"{config.get('backbone')}, starting weights: {config.get('weights')}"


def _list(lines: Sequence[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)
