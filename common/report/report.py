"""report.md: what was run, on what, what came out, and how that compares with the printed numbers and with the controls.

Everything is read from the run folder (config.json, metrics.json, history.csv, predictions.csv, and report.json, in which the first
writing leaves title, printed numbers and notes), so a report can be made again years later without the model or the images.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from common.commands.report import ReportOptions
from common.durations import duration
from common.errors import UsageError
from common.metrics.compare import compare
from common.report.card import write_model_card
from common.report.decision import decision_text, write_decision
from common.report.markup import BOOKKEEPING, MISSING, Printed, Row, comparison_table, interval_text, markdown, number
from common.runs.finished import PUBLISHED
from common.runs.outcome import read_predictions, remake_metrics
from common.runs.publish import unpack
from common.runs.reading import RunFolder, find_metric
from common.settings import require

__all__ = ["Printed", "Row", "comparison_table", "find_metric", "report_command", "write_model_card", "write_report"]

SYNTHETIC = (
    "> **Synthetic data.** These images were drawn by a program. The run shows that the procedure works from end to end; "
    "its numbers say nothing about real cells, skin, eyes or lungs and do not belong beside the printed ones.\n"
)


# What a data set's groups are, by a part of its name; of any other it is not known which of them they are.
GROUP_NOUNS = {"sipakmed": "cluster images", "cric": "images of a slide", "ham10000": "lesions", "isic": "lesions", "odir": "patients"}
# With this many groups or fewer, intervals that resample them are still too narrow (Cameron, Gelbach & Miller 2008).
FEW_GROUPS = 30


def write_report(
    run: Any,
    title: str,
    printed: Mapping[str, Printed] | None = None,
    notes: Sequence[str] = (),
    controls: Mapping[str, Path] | None = None,
    figures: bool = True,
    section: str = "",
) -> Path:
    """Write report.md into the run folder, report.json with the arguments, and the standard figures; return report.md's path.

    printed: metric -> printed number; a metric is a key of metrics.json, with dots into it: "accuracy", "per_class.Dyskeratotic.f1".
    controls: name -> run folder to compare with on the same test images; a `control/` folder inside the run is added by itself.
    section: Markdown of the study's own, put before the classes.
    A printed number whose metric was not measured is shown with a dash for ours. UsageError when metrics.json is missing.
    """
    folder = RunFolder.of(run)
    config, metrics = folder.read_json("config.json"), folder.read_json("metrics.json")
    printed, controls = dict(printed or {}), _with_own_control(folder, controls or {})
    folder.write_json(
        "report.json",
        {
            "title": title,
            "printed": {name: {key: value for key, value in asdict(item).items() if value != ""} for name, item in printed.items()},
            "notes": list(notes),
            "section": section,
            "controls": {name: Path(os.path.relpath(path, folder.path)).as_posix() for name, path in controls.items()},
        },
    )
    parts = [f"# {title}\n"]
    if metrics.get("synthetic"):
        parts.append(SYNTHETIC)
    parts.append(_headline(metrics, config))
    parts.append("## Measured beside printed\n\n" + comparison_table(measured_rows(metrics, printed)) + _explanation(metrics))
    if metrics.get("baselines"):
        parts.append("## Beside trivial classifiers\n\n" + _baselines(metrics))
    if section:
        parts.append(section)
    parts.append("## Per class\n\n" + _per_class(metrics))
    parts.append("## Confusion\n\n" + _confusion(metrics))
    if metrics.get("decision"):
        parts.append("## Decisions\n\n" + decision_text(metrics["decision"]))
    if "ece" in metrics:
        parts.append("## Calibration\n\n" + _calibration(metrics))
    for name, path in controls.items():
        parts.append(f"## Beside {name}\n\n" + _control(folder, name, path, config.get("experiment") or "this run", metrics))
    parts.append("## Training\n\n" + _training(folder))
    if notes:
        parts.append("## Notes\n\n" + "".join(f"- {note}\n" for note in notes))
    parts.append("## What was run\n\n" + _facts(folder, config, metrics))
    if figures:
        from common.report.plots import standard_figures

        standard_figures(folder.path)
    parts.append(_figures(folder))
    return folder.write_text("report.md", "\n".join(part for part in parts if part))


def measured_rows(metrics: Mapping[str, Any], printed: Mapping[str, Printed]) -> list[Row]:
    """The rows of the first table: the averages, expected cost, and whatever else has a printed number."""
    names = [name for name in ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "expected_cost") if name in metrics]
    rows = []
    for name in [*names, *(name for name in printed if name not in names)]:
        # A printed number of a class that this data set lacks stays visible, with a dash for ours.
        _, value, interval = find_metric(metrics, name)
        rows.append(Row(_readable(name), value, interval, printed.get(name), synthetic=bool(metrics.get("synthetic"))))
    return rows


def _readable(name: str) -> str:
    """ "macro_f1" -> "macro F1", "per_class.Dyskeratotic.f1" -> "F1 of Dyskeratotic"."""
    if name.startswith("per_class."):
        owner, score = name.removeprefix("per_class.").rsplit(".", 1)
        return f"{_readable(score)} of {owner}"
    words = name.replace("_", " ")
    return "F1" if words == "f1" else words.replace(" f1", " F1").replace("auc", "AUC").replace("ece", "ECE")


def report_command(options: ReportOptions) -> None:
    """`report RUN`: metrics.json, figures, report.md and model_card.md again, from the run folder alone.

    Of a published table: those of each of its runs, in run folders written below its own.
    """
    folders = [options.run]
    if (Path(options.run) / PUBLISHED).is_file():
        folders = [path for path in unpack(options.run) if (path / "predictions.csv").is_file()]
        require(bool(folders), f"{options.run}: the published table holds no run with predictions")
    for path in folders:
        _again(RunFolder.existing(path), options)


def _again(folder: RunFolder, options: ReportOptions) -> None:
    beside = []  # first, since it is they that may refuse what was given
    if options.by or options.metadata:
        from common.report.subgroups import write_subgroups

        beside.append(write_subgroups(folder, options.metadata, options.by, options.data_dir))
    if options.with_runs or options.views > 1:
        from common.report.gains import write_gains

        beside.append(write_gains(folder, options.with_runs, options.views, options.data_dir))
    remake_metrics(folder.path)
    control = folder.path / "control"
    if (control / "predictions.csv").is_file():
        remake_metrics(control)
    write_decision(folder, options.decision_costs, options.kinds)
    config = folder.read_json("config.json")
    kept = folder.read_json("report.json") if folder.has("report.json") else {}
    write_report(
        folder,
        kept.get("title") or f"{config.get('study')}: {config.get('experiment')}",
        {name: Printed(**item) for name, item in kept.get("printed", {}).items()},
        kept.get("notes", ()),
        {name: folder.path / path for name, path in kept.get("controls", {}).items()},
        section=kept.get("section", ""),
    )
    card = folder.read_json("model_card.json") if folder.has("model_card.json") else {}
    write_model_card(folder, **card)
    for path in (folder.path / "report.md", *beside):
        print(path)


def _with_own_control(folder: RunFolder, controls: Mapping[str, Path]) -> dict[str, Path]:
    paths = {name: Path(path) for name, path in controls.items()}
    own = folder.path / "control"
    if (own / "predictions.csv").is_file() and own.resolve() not in {path.resolve() for path in paths.values()}:
        paths["the control"] = own
    return paths


def _headline(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    where = f"{metrics['n']} test images of {metrics.get('dataset')} ({metrics.get('split')} split, seed {metrics.get('seed')})"
    return (
        f"Accuracy **{number(metrics['accuracy'])}** {interval_text(metrics['accuracy_interval'])}, macro F1 "
        f"**{number(metrics['macro_f1'])}** {interval_text(metrics.get('macro_f1_interval'))} on {where}; "
        f"{config.get('backend', 'unknown')} backend, {config.get('machine', 'unknown machine')}.\n"
    )


def group_noun(dataset: Any) -> str:
    """ "slides", "lesions" or "patients", where the data set's name tells; else "groups"."""
    return next((noun for part, noun in GROUP_NOUNS.items() if part in str(dataset).lower()), "groups")


def _explanation(metrics: Mapping[str, Any]) -> str:
    groups = metrics.get("resampled_groups")
    noun = group_noun(metrics.get("dataset"))
    if groups:
        text = (
            f"\nIntervals: 95 % percentile bootstrap of one trained model, resampling the {groups} {noun} of the {metrics['n']} test "
            "images, since images of one may be alike. They do not contain the spread between seeds or between splits. A class's precision "
            "and recall have Wilson's intervals, which take images as independent and so may be too narrow here.\n"
        )
        if groups <= FEW_GROUPS:
            text += f"\nSo few {noun} show little of how they differ: the true intervals are probably wider.\n"
    else:
        text = (
            f"\nIntervals: 95 % percentile bootstrap of one trained model, resampling the {metrics['n']} test images as independent of "
            "each other (Wilson's for a class's precision and recall). They do not contain the spread between seeds or between splits. "
            "There are no groups (slides, lesions, patients) to resample, or the data do not name them; where images share one the true "
            "intervals are wider.\n"
        )
    if metrics["accuracy"] in (0.0, 1.0):
        # Resampling images that are all right can only give images that are all right.
        side = "error rate" if metrics["accuracy"] == 1.0 else "accuracy"
        bound = min(1.0, 3 / metrics["n"])
        text += f"\nA bootstrap has no width here; by the rule of three the {side} may still be up to {bound:.3f}.\n"
    return text


def _per_class(metrics: Mapping[str, Any]) -> str:
    rows = []
    for name, scores in metrics["per_class"].items():
        recall = scores.get("intervals", {}).get("recall") if scores["support"] else None
        area = metrics.get("auc", {}).get("per_class", {}).get(name)
        rest = metrics.get("one_vs_rest", {}).get(name, {})
        values = [number(scores["precision"]), number(scores["recall"]), interval_text(recall), number(scores["f1"])]
        rows.append([name, *values, number(rest.get("specificity")), number(area), scores["support"]])
    for kind in ("macro", "weighted"):
        area = metrics.get("auc", {}).get("macro") if kind == "macro" else None
        values = [number(metrics[f"{kind}_{key}"]) for key in ("precision", "recall")]
        rows.append([f"*{kind}*", *values, MISSING, number(metrics[f"{kind}_f1"]), MISSING, number(area), metrics["n"]])
    header = ("class", "precision", "recall", "95 % interval of recall", "F1", "specificity", "AUC", "images")
    called = [sum(column) for column in zip(*metrics["confusion"], strict=True)]
    absent = [
        f"{name} (predicted all the same, so it counts 0)" if count else f"{name} (left out of the macro averages)"
        for (name, scores), count in zip(metrics["per_class"].items(), called, strict=True)
        if not scores["support"]
    ]
    note = f"\nWithout a test image: {', '.join(absent)}.\n" if absent else ""
    return markdown(header, rows) + note


def _baselines(metrics: Mapping[str, Any]) -> str:
    """The trained network beside the largest class and a linear classifier on the untrained network."""
    columns = ("accuracy", "balanced_accuracy", "macro_f1", "auc.macro")
    rows = [
        (name, *(number(find_metric(scores, column)[1]) for column in columns), interval_text(scores.get("accuracy_interval")))
        for name, scores in {"this run": metrics, **metrics["baselines"]}.items()
    ]
    header = ("", "accuracy", "balanced accuracy", "macro F1", "AUC", "95 % interval of accuracy")
    note = "\nThe probe is a logistic regression on features of the network with its initial weights, fitted on the training images.\n"
    return markdown(header, rows) + note


def _confusion(metrics: Mapping[str, Any]) -> str:
    classes = list(metrics["per_class"])
    rows = [[name, *line] for name, line in zip(classes, metrics["confusion"], strict=True)]
    return markdown(("truth ↓, predicted →", *classes), rows)


def _calibration(metrics: Mapping[str, Any]) -> str:
    rows = [
        [f"{row['low']:.2f}–{row['high']:.2f}", row["count"], number(row["confidence"]), number(row["accuracy"])]
        for row in metrics["calibration"]
        if row["count"]
    ]
    text = f"Expected calibration error {number(metrics['ece'])} ({len(metrics['calibration'])} equal bins of the confidence).\n\n"
    return text + markdown(("confidence", "images", "mean confidence", "accuracy"), rows)


def _control(folder: RunFolder, name: str, path: Path, method: str, metrics: Mapping[str, Any]) -> str:
    """Differences to another run on the same test images; what two single runs may say."""
    try:
        (one, classes), (two, others) = read_predictions(path), read_predictions(folder)
        if classes != others:
            raise UsageError("their classes differ")
        seed = int(metrics.get("given", {}).get("bootstrap_seed") or 0)
        results = [compare({("", name, 0): one, ("", method, 0): two}, metric, seed=seed) for metric in ("accuracy", "macro_f1")]
    except UsageError as error:
        return f"Not compared: {error}.\n"
    if results[0].left_out:
        return f"Not compared: {results[0].left_out[0]}.\n"
    rows = [row for result in results for row in result.rows]
    lines = [
        [_readable(row.metric), *map(number, row.values), number(row.difference, sign=True), f"[{row.low:+.4f}, {row.high:+.4f}]"]
        for row in rows
    ]
    table = markdown(("", name, method, "difference", "95 % interval (paired bootstrap)"), lines)
    drawn = f"{rows[0].units} {group_noun(metrics.get('dataset'))} of the images" if rows[0].grouped else f"{rows[0].units} test images"
    return (
        f"{table}\nThe intervals resample the {drawn}, the same for both runs. One seed gives no verdict: what another seed would "
        "change is not in them.\n"
    )


def _training(folder: RunFolder) -> str:
    if not folder.has("history.csv"):
        return "No history.csv: nothing was trained in this run.\n"
    history = folder.read_table("history.csv")
    stages = history.groupby("stage", sort=False) if "stage" in history else [("training", history)]
    rows = []
    for stage, part in stages:
        last = part.iloc[-1]
        shown = [f"{key} {last[key]:.4g}" for key in part.columns if _is_score(key, last)]
        rows.append([stage, len(part), _time(part), ", ".join(shown)])
    return markdown(("stage", "epochs", "time", "last epoch"), rows)


def _is_score(key: str, row: pd.Series) -> bool:
    return key not in BOOKKEEPING and isinstance(row[key], int | float) and pd.notna(row[key])


def _time(history: pd.DataFrame) -> str:
    return duration(float(history["seconds"].sum())) if "seconds" in history else MISSING


def _facts(folder: RunFolder, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    settings = config.get("settings") or {}
    history = folder.read_table("history.csv") if folder.has("history.csv") else None
    facts: dict[str, Any] = {
        "study, experiment": f"{config.get('study')}, {config.get('experiment')}",
        "command": f"`{config['command']}`" if config.get("command") else None,
        "data set": f"{config.get('dataset')}{' (synthetic)' if metrics.get('synthetic') else ''}",
        "split": config.get("split"),
        "images": _counts(folder),
        "seed": config.get("seed"),
        "reading": config.get("reading", settings.get("reading")),
        "backbone, weights": settings.get("network") or f"{config.get('backbone')}, {config.get('weights')}",
        "image size, resize filter": f"{config.get('image_size')}, {config.get('resize_filter')}",
        "backend": config.get("backend"),
        "versions": ", ".join(f"{name} {value}" for name, value in (config.get("versions") or {}).items()) or None,
        "machine": config.get("machine"),
        "precision": config.get("precision"),
        "training time": _time(history) if history is not None else None,
        "git commit": config.get("git_commit"),
        "data fingerprint": config.get("fingerprint", config.get("data_fingerprint")),
    }
    return markdown(("", ""), [(name, value) for name, value in facts.items() if value is not None], left=2)


def _counts(folder: RunFolder) -> str | None:
    if not folder.has("manifest.csv"):
        return None
    split = folder.read_table("manifest.csv", keep_default_na=False)["split"].value_counts()
    return ", ".join(f"{split[name]} {name}" for name in ("train", "validation", "test") if name in split)


def _figures(folder: RunFolder) -> str:
    paths = sorted((folder.path / "figures").glob("*.png"))
    return "## Figures\n\n" + "".join(f"![{path.stem.replace('_', ' ')}](figures/{path.name})\n\n" for path in paths) if paths else ""
