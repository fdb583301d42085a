"""Tables 1 to 7 and the sheets over several runs, from the run folders alone: ours, printed, difference, interval, n, seeds."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from common.evaluation.compare import verdict
from common.evaluation.grid_tables import write_tables
from common.evaluation.metrics import bootstrap_interval, mean_and_deviation, paired_bootstrap
from common.evaluation.plots import save
from common.evaluation.tables import Printed, Row
from common.runs import is_finished
from melanoma import figures, paper
from melanoma.config import THRESHOLDS
from melanoma.experiments.single import variant
from melanoma.training.shown import read_arrays

log = logging.getLogger(__name__)

# What may differ between the rows of one table; runs that differ in anything else stand in different folders.
_ROW = {
    "seed", "simclr", "segmentation", "repeats", "tasks", "order", "lime_samples", "lime_images", "classifier", "dataset_b", "pretrained",
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A finished run: its folder, its settings, its metrics."""

    path: Path
    experiment: str
    settings: dict
    metrics: dict
    data_fingerprint: str = ""

    @property
    def group(self) -> str:
        """Runs of one group may stand in one table: the same data and settings but for what the rows vary."""
        s = self.settings
        same = json.dumps([self.data_fingerprint, {key: value for key, value in s.items() if key not in _ROW}], sort_keys=True)
        name = f"{s['dataset']}-{s['backbone']}-{s['image_size']}px-{s['reading']}-{s['split']}"
        return f"{name}-{hashlib.sha256(same.encode()).hexdigest()[:4]}"

    @property
    def row(self) -> str:
        """Row of Table 3, or the baseline's name."""
        return variant(self.settings) if self.experiment == "train" else self.experiment

    def dice(self, method: str, indicator: str, threshold: float = 0.0) -> pd.Series:
        """Continuous Dice by image, images with the indicator only."""
        table = pd.read_csv(self.path / "localisation.csv")
        chosen = (table["method"] == method) & (table["indicator"] == indicator) & np.isclose(table["threshold"], threshold)
        return table[chosen & ~table["empty"]].set_index("image")["dice"]


def find_runs(folder: Path) -> list[Found]:
    """Finished and published runs below `folder`, by path; pre-trainings have no localisation and are left out."""
    runs = []
    for config in sorted(folder.rglob("config.json")):
        content = json.loads(config.read_text(encoding="utf-8"))
        metrics = config.with_name("metrics.json")
        # A published run has neither the mark of a finished one nor, unlike one at work, a local.json.
        whole = is_finished(config.parent) or not config.with_name("local.json").is_file()
        done = whole and metrics.is_file() and config.with_name("localisation.csv").is_file()
        if content.get("study") == "melanoma" and done:
            found = json.loads(metrics.read_text(encoding="utf-8"))
            runs.append(Found(config.parent, content["experiment"], content["settings"], found, content.get("data_fingerprint", "")))
    return runs


def write_all(folder: Path, output: Path | None = None) -> list[Path]:
    """All tables that the runs below `folder` can fill, one folder a kind of run; returns the tables' paths."""
    written: list[Path] = []
    for name, runs in groups_of(find_runs(folder)).items():
        target = (output or folder / "tables") / name
        trained = [run for run in runs if run.experiment == "train"]
        if trained:
            written.append(table_1(target, trained[0]))
        makers = (table_2, table_3, table_4, table_5, table_6)
        written += [path for make in makers if (path := make(target, runs)) is not None]
        written.append(table_7(target, runs[0].settings))
        written += sheets(target, runs)
    for path in written:
        log.info("written: %s", path)
    return written


def groups_of(runs: Sequence[Found]) -> dict[str, list[Found]]:
    """Runs by the table they belong to. Those of one Dataset B stand together, with the ones that use none; the name says which where
    there are several.
    """
    groups: dict[str, list[Found]] = {}
    for run in runs:
        groups.setdefault(run.group, []).append(run)
    result = {}
    for name, members in groups.items():
        of_b = {id(run): run.settings.get("dataset_b", {}).get("fingerprint") for run in members}
        several = sorted({b for b in of_b.values() if b is not None})
        for b in several or [None]:
            label = f"{name}-{b[:4]}" if b is not None and len(several) > 1 else name
            result[label] = [run for run in members if of_b[id(run)] in (None, b)]
    return result


def one_a_seed(runs: Sequence[Found]) -> list[Found]:
    """The first run of each seed: the same settings in two folders are one run, not two seeds."""
    return list({run.settings["seed"]: run for run in reversed(runs)}.values())[::-1]


def dice_row(name: str, runs: Sequence[Found], method: str, indicator: str, printed: Printed | None, threshold: float = 0.0) -> Row:
    """Mean over seeds, deviation over seeds, and a bootstrap interval over the images (an image of several seeds counts with its mean)."""
    series = [run.dice(method, indicator, threshold) for run in runs]
    series = [each for each in series if len(each)]
    if not series:
        return Row(name, None, printed=printed, seeds=0)
    mean, deviation = mean_and_deviation([float(each.mean()) for each in series])
    images = pd.concat(series).groupby(level=0).mean()
    interval = list(bootstrap_interval(images.to_numpy(), seed=0, resamples=1000))
    synthetic = any(run.metrics.get("synthetic") for run in runs)
    return Row(f"{name} (n = {len(images)})", mean, interval, printed, deviation, len(series), synthetic)


def score_row(name: str, runs: Sequence[Found], metric: str, printed: Printed | None) -> Row:
    """Accuracy or AUC of melanoma over seeds."""
    values = [run.metrics[metric] for run in runs if run.metrics.get(metric) is not None]
    if not values:
        return Row(name, None, printed=printed, seeds=0)
    mean, deviation = mean_and_deviation(values)
    interval = runs[0].metrics.get("accuracy_interval") if metric == "accuracy" and len(runs) == 1 else None
    return Row(name, mean, interval, printed, deviation, len(values), bool(runs[0].metrics.get("synthetic")))


def _printed(value: float | None, source: str) -> Printed | None:
    return None if value is None else Printed(value, source)


def indicators_of(runs: Sequence[Found]) -> list[str]:
    return list(runs[0].settings["indicators"])


def default_rows(runs: Sequence[Found], row: str, **wanted: object) -> list[Found]:
    """Trained runs of a row of Table 3, one a seed: one repeat, one task, phase by phase, unless said otherwise.

    Without subnetwork 3 there are neither repeats nor tasks, so these say nothing about such a run.
    """
    asked = {"repeats": 1, "tasks": "one", "order": "phases", **wanted}
    if row in ("f_res", "f_res_clr"):
        asked = {"order": asked["order"]}
    trained = [run for run in runs if run.experiment == "train" and run.row == row]
    return one_a_seed([run for run in trained if all(run.settings[key] == value for key, value in asked.items())])


def baseline_rows(runs: Sequence[Found], experiment: str) -> list[Found]:
    """The runs of a baseline, one a seed."""
    return one_a_seed([run for run in runs if run.experiment == experiment])


def _rows(label: str, runs: Sequence[Found], number: int, row: str, method: str = "gradcam") -> list[Row]:
    """A printed table's row: one line an indicator, then accuracy and AUC."""
    lines = [
        dice_row(
            f"{label} · {paper.TITLES.get(name, name)}", runs, method, name, _printed(paper.dice(number, row, name), f"Table {number}")
        )
        for name in indicators_of(runs)
    ]
    printed = _printed(paper.melanoma(number, row), f"Table {number}") if number > 2 and _has_paper(runs) else None
    for metric, title in (("accuracy", "accuracy"), ("melanoma_auc", "AUC")):
        if any(metric in run.metrics for run in runs):
            lines.append(score_row(f"{label} · melanoma, {title}", runs, metric, printed))
    return lines


def _has_paper(runs: Sequence[Found]) -> bool:
    return "lesion" not in indicators_of(runs)


def compare(first: tuple[str, Sequence[Found], str], second: tuple[str, Sequence[Found], str]) -> str:
    """Paired differences second - first by indicator, on images and seeds that both have."""
    lines = []
    for name in indicators_of(first[1]):
        pairs = []
        for one in first[1]:
            for two in second[1]:
                if one.settings["seed"] == two.settings["seed"]:
                    left, right = one.dice(first[2], name), two.dice(second[2], name)
                    shared = left.index.intersection(right.index)
                    pairs.append(pd.DataFrame({"one": left[shared], "two": right[shared]}))
        joined = pd.concat(pairs).groupby(level=0).mean() if pairs else pd.DataFrame()
        if len(joined):
            gap = paired_bootstrap(joined["one"].to_numpy(), joined["two"].to_numpy())
            lines.append(f"- {paper.TITLES.get(name, name)}, {len(joined)} images: {verdict(gap, second[0], first[0], 'continuous Dice')}")
    return "\n".join(lines) + "\n" if lines else ""


def table_1(target: Path, run: Found) -> Path:
    """Images with and without each indicator."""
    rows = []
    for name, counts in run.metrics["indicators"].items():
        printed = paper.tables()["table_1"].get(name, {})
        for kind in ("with", "without"):
            value = _printed(printed.get(kind), "Table 1")
            rows.append(
                Row(f"{paper.TITLES.get(name, name)}, {kind}", counts[kind], printed=value, synthetic=bool(run.metrics["synthetic"]))
            )
    note = f"The printed 881 images without a pigment network are a misprint: 2594 - 1523 = {paper.PIGMENT_WITHOUT}.\n"
    return write_tables(target, "table_1", "Table 1: images with and without each indicator", rows, note if _has_paper([run]) else "")


def table_2(target: Path, runs: Sequence[Found]) -> Path | None:
    """The methods, on the same test images."""
    whole = default_rows(runs, "bio_u_net")
    sources = [(method, baseline_rows(runs, "cams")) for method in ("gradcam", "gradcam++", "layercam", "lime")]
    sources += [(method, baseline_rows(runs, method)) for method in ("vat", "unet")]
    if not any(found for _, found in sources):
        return None
    rows, text = [], ""
    for method, found in sources:
        if found:
            rows += [
                row for row in _rows(paper.ROW_TITLES[method], found, 2, method, method) if "melanoma" not in row.name or method == "vat"
            ]
    if whole:
        rows += _rows("Bio-U-Net", whole, 2, "bio_u_net") + [
            dice_row(f"{paper.ROW_TITLES['unet_mask']} · {paper.TITLES.get(name, name)}", whole, "unet_mask", name, None)
            for name in indicators_of(whole)
        ]
        for method, found in sources:
            if found:
                text += f"\n**Bio-U-Net against {paper.ROW_TITLES[method]}**\n\n"
                text += compare((paper.ROW_TITLES[method], found, method), ("Bio-U-Net", whole, "gradcam"))
    return write_tables(target, "table_2", "Table 2: localisation by method, continuous Dice", rows, text)


def table_3(target: Path, runs: Sequence[Found]) -> Path | None:
    """The ablation, and the interleaved order where it was run."""
    rows, text = [], ""
    parts = {row: default_rows(runs, row) for row in paper.tables()["table_3"]}
    for row, found in parts.items():
        if found:
            rows += _rows(paper.ROW_TITLES[row], found, 3, row)
            if row != "f_res" and parts["f_res"]:
                text += f"\n**{paper.ROW_TITLES[row]} against f_Res**\n\n"
                text += compare(("f_Res", parts["f_res"], "gradcam"), (paper.ROW_TITLES[row], found, "gradcam"))
    interleaved = default_rows(runs, "bio_u_net", order="interleaved")
    if interleaved:
        rows += _rows("Bio-U-Net, interleaved (Algorithm 1)", interleaved, 3, "bio_u_net")
    return write_tables(target, "table_3", "Table 3: ablation, continuous Dice and melanoma", rows, text) if rows else None


def table_4(target: Path, runs: Sequence[Found]) -> Path | None:
    """Repeats of the segmentation update."""
    rows, seen = [], 0
    for count in range(1, 6):
        found = default_rows(runs, "bio_u_net", repeats=count)
        if found:
            rows += _rows(f"{count} repeat{'s' * (count > 1)}", found, 4, str(count))
            seen += 1
    return write_tables(target, "table_4", "Table 4: segmentation updates an iteration", rows) if seen > 1 else None


def table_5(target: Path, runs: Sequence[Found]) -> Path | None:
    """Multi-task encoders."""
    rows, seen = [], 0
    for tasks in ("one", "two", "five", "six"):
        found = default_rows(runs, "bio_u_net", tasks=tasks)
        if found:
            rows += _rows(paper.ROW_TITLES[tasks], found, 5, tasks)
            seen += 1
    return write_tables(target, "table_5", "Table 5: separate encoders and multi-task learning", rows) if seen > 1 else None


def table_6(target: Path, runs: Sequence[Found]) -> Path | None:
    """Continuous Dice by threshold."""
    whole = default_rows(runs, "bio_u_net")
    if not whole:
        return None
    rows = [
        dice_row(
            f"{paper.TITLES.get(name, name)}, {value:.1f}", whole, "gradcam", name, _printed(paper.threshold(name, value), "Table 6"), value
        )
        for name in indicators_of(whole)
        for value in THRESHOLDS
    ]
    return write_tables(target, "table_6", "Table 6: Bio-U-Net's map by threshold, continuous Dice", rows)


def table_7(target: Path, settings: dict) -> Path:
    """FLOPs counted on freshly built models, and fig. 6 drawn from the same."""
    from melanoma.experiments.networks import PAPER, counted, sizes

    printed, rows = paper.tables()["table_7"], []
    same = all(settings[key] == value for key, value in PAPER.items())
    for kind in [PAPER] if same else [PAPER, settings]:
        for name, (key, value) in counted(kind).items():
            beside = _printed(printed.get(key), "Table 7") if kind is PAPER else None
            rows.append(Row(f"{kind['backbone']} at {kind['image_size']} px · {name}", value, printed=beside))
    note = (
        "Billion operations, two a multiply-add, for one image. The printed 43.2 is one forward pass of ResNet50 at 512 px and 129.5 "
        "three times that, forward and backward (DEVIATIONS, FLOPs).\n"
    )
    save(figures.diagram(sizes(settings), f"Bio-U-Net on {settings['backbone']} at {settings['image_size']} px"), target / "figure_6.png")
    return write_tables(target, "table_7", "Table 7: floating-point operations", rows, note)


def sheets(target: Path, runs: Sequence[Found]) -> list[Path]:
    """Figs. 3, 4 and 5: the same test images under several runs, those of the first seed that has them."""
    seed = min(run.settings["seed"] for run in runs)
    runs = [run for run in runs if run.settings["seed"] == seed]
    synthetic, indicators, drawn = bool(runs[0].metrics.get("synthetic")), indicators_of(runs), []
    arrays = {run.path: read_arrays(run.path) for run in runs}

    def draw(name: str, title: str, columns: dict[str, tuple[Found, str]]) -> None:
        merged: dict[str, np.ndarray] = {}
        for label, (run, key) in columns.items():
            for indicator in indicators:
                found = arrays[run.path]
                merged |= {
                    f"{indicator}/{part}": found[f"{indicator}/{part}"] for part in ("images", "masks") if f"{indicator}/{part}" in found
                }
                if f"{indicator}/{key}" in found:
                    merged[f"{indicator}/{label}"] = found[f"{indicator}/{key}"]
        rows = figures.shown_sheet_rows(merged, indicators, {label: label for label in columns}, 2)
        rows = [row for row in rows if len(row[3]) == len(columns)]
        if rows and len(columns) > 1:
            drawn.append(save(figures.sheet(rows, title, synthetic=synthetic), target / f"{name}.png"))

    # The order of the paper's fig. 4, which is not Table 3's.
    first = {row: found[0] for row in ("f_res", "f_res_clr", "f_res_seg", "bio_u_net") if (found := default_rows(runs, row))}
    others = {run.experiment: run for run in runs if run.experiment != "train"}
    methods = {paper.ROW_TITLES[m]: (others["cams"], m) for m in ("gradcam", "gradcam++", "layercam", "lime") if "cams" in others}
    methods |= {paper.ROW_TITLES[m]: (others[m], m) for m in ("vat", "unet") if m in others}
    if "bio_u_net" in first:
        draw("figure_3", "Fig. 3: methods", methods | {"Bio-U-Net": (first["bio_u_net"], "gradcam")})
    draw("figure_4", "Fig. 4: ablation", {paper.ROW_TITLES[row]: (run, "gradcam") for row, run in first.items()})
    repeated = {count: default_rows(runs, "bio_u_net", repeats=count) for count in range(1, 6)}
    draw("figure_5", "Fig. 5: repeats", {f"repeat {count}": (found[0], "gradcam") for count, found in repeated.items() if found})
    return drawn
