"""Tables 1 to 7 and the sheets over several runs, from the run folders alone: ours, printed, difference, interval, n, seeds."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from common.metrics.classification import bootstrap_interval, mean_and_deviation, paired_bootstrap
from common.metrics.outcome import read_predictions
from common.metrics.pair import verdict
from common.report.grid_tables import write_tables
from common.report.plots import save
from common.report.tables import Printed, Row
from melanoma import figures, intervals, paper
from melanoma.config import THRESHOLDS
from melanoma.experiments.found import Found, baseline_rows, default_rows, find_runs, groups_of, indicators_of
from melanoma.experiments.sheets import sheets

log = logging.getLogger(__name__)

# The two readings of the "melanoma" columns (DEVIATIONS row 13): key in metrics.json -> title, statistic over `intervals.Diagnosis` rows.
SCORES = {"accuracy": ("accuracy", intervals.accuracy_of), "melanoma_auc": ("AUC", intervals.auc_of)}


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


def dice_row(name: str, runs: Sequence[Found], method: str, indicator: str, printed: Printed | None, threshold: float = 0.0) -> Row:
    """Mean over seeds, deviation over seeds, and a bootstrap interval over the images (an image of several seeds counts with its mean)."""
    series = [run.dice(method, indicator, threshold) for run in runs]
    used, series = [run for run, each in zip(runs, series, strict=True) if len(each)], [each for each in series if len(each)]
    if not series:
        return Row(name, None, printed=printed, seeds=0)
    mean, deviation = mean_and_deviation([float(each.mean()) for each in series])
    images = pd.concat(series).groupby(level=0).mean()
    interval = list(bootstrap_interval(images.to_numpy(), seed=0, resamples=1000))
    synthetic = any(run.metrics.get("synthetic") for run in runs)
    return Row(f"{name} ({basis(len(images), used)})", mean, interval, printed, deviation, len(used), synthetic)


def score_row(name: str, runs: Sequence[Found], metric: str, printed: Printed | None) -> Row:
    """Accuracy or AUC of melanoma: mean and deviation over seeds, and one interval over the images of all of them."""
    used = [run for run in runs if run.metrics.get(metric) is not None]
    if not used:
        return Row(name, None, printed=printed, seeds=0)
    mean, deviation = mean_and_deviation([run.metrics[metric] for run in used])
    between, count = intervals.interval([_diagnosis(run) for run in used], SCORES[metric][1])
    synthetic = bool(used[0].metrics.get("synthetic"))
    return Row(f"{name} ({basis(count, used)})", mean, between, printed, deviation, len(used), synthetic)


def basis(images: int, runs: Sequence[Found]) -> str:
    """What a number rests on: "n = 259, seeds 0 1"."""
    seeds = sorted({run.settings["seed"] for run in runs})
    return f"n = {images}, seed{'s' * (len(seeds) > 1)} {' '.join(map(str, seeds))}"


def _diagnosis(run: Found) -> intervals.Diagnosis:
    return intervals.from_predictions(read_predictions(run.path)[0])


def _printed(value: float | None, source: str) -> Printed | None:
    return None if value is None else Printed(value, source)


def _rows(label: str, runs: Sequence[Found], number: int, row: str, method: str = "gradcam") -> list[Row]:
    """A printed table's row: one line an indicator, then accuracy and AUC."""
    lines = [
        dice_row(
            f"{label} · {paper.TITLES.get(name, name)}", runs, method, name, _printed(paper.dice(number, row, name), f"Table {number}")
        )
        for name in indicators_of(runs)
    ]
    printed = _printed(paper.melanoma(number, row), f"Table {number}") if number > 2 and _has_paper(runs) else None
    for metric, (title, _) in SCORES.items():
        if any(metric in run.metrics for run in runs):
            lines.append(score_row(f"{label} · melanoma, {title}", runs, metric, printed))
    return lines


def plain_rows(runs: Sequence[Found], number: int) -> list[Row]:
    """The row f_Res that Tables 4 and 5 repeat, with a dash for ours where it was not run."""
    found = default_rows(runs, "f_res")
    if found:
        return _rows(paper.ROW_TITLES["f_res"], found, number, "f_res")
    printed = {name: paper.dice(number, "f_res", name) for name in indicators_of(runs)}
    return [
        Row(f"{paper.ROW_TITLES['f_res']} · {paper.TITLES[name]}", None, printed=_printed(value, f"Table {number}"), seeds=0)
        for name, value in printed.items()
        if value is not None
    ]


def _has_paper(runs: Sequence[Found]) -> bool:
    return "lesion" not in indicators_of(runs)


def compare(first: tuple[str, Sequence[Found], str], second: tuple[str, Sequence[Found], str]) -> str:
    """Paired differences second - first on images and seeds that both have: Dice by indicator, then accuracy and AUC of melanoma where
    both rows classify. Each is (title, runs, method of localisation.csv).
    """
    lines = []
    seeds = [(one, two) for one in first[1] for two in second[1] if one.settings["seed"] == two.settings["seed"]]
    for name in indicators_of(first[1]):
        pairs = []
        for one, two in seeds:
            left, right = one.dice(first[2], name), two.dice(second[2], name)
            shared = left.index.intersection(right.index)
            pairs.append(pd.DataFrame({"one": left[shared], "two": right[shared]}))
        joined = pd.concat(pairs).groupby(level=0).mean() if pairs else pd.DataFrame()
        if len(joined):
            gap = paired_bootstrap(joined["one"].to_numpy(), joined["two"].to_numpy())
            said = verdict(gap, second[0], first[0], "continuous Dice")
            lines.append(f"- {paper.TITLES.get(name, name)} ({basis(len(joined), [one for one, _ in seeds])}): {said}")
    # CAM methods and the plain U-Net classify nothing of their own.
    seeds = [pair for pair in seeds if all((run.path / "predictions.csv").is_file() for run in pair)]
    diagnoses = [(_diagnosis(one), _diagnosis(two)) for one, two in seeds]
    for title, statistic in SCORES.values() if seeds else ():
        found, count = intervals.difference(diagnoses, statistic)
        if found is not None:
            said = verdict(found, second[0], first[0], title)
            lines.append(f"- melanoma, {title} ({basis(count, [one for one, _ in seeds])}): {said}")
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
                if method == "unet":  # a drawing against a drawing
                    text += f"\n**{paper.ROW_TITLES['unet_mask']} against {paper.ROW_TITLES[method]}**\n\n"
                    text += compare((paper.ROW_TITLES[method], found, method), (paper.ROW_TITLES["unet_mask"], whole, "unet_mask"))
    return write_tables(target, "table_2", "Table 2: localisation by method, continuous Dice", rows, text)


def table_3(target: Path, runs: Sequence[Found]) -> Path | None:
    """The ablation, and the interleaved order where it was run."""
    rows, text = [], ""
    parts = {row: default_rows(runs, row) for row in paper.tables()["table_3"]}
    for row, found in parts.items():
        if found:
            rows += _rows(paper.ROW_TITLES[row], found, 3, row)
            # Bio-U-Net against each of its parts: what f_Seg adds to SimCLR, and SimCLR to f_Seg, shows in these and not against f_Res.
            others = [other for other in parts if parts[other] and other != row] if row == "bio_u_net" else ["f_res"]
            for other in others if row != "f_res" else ():
                if parts[other]:
                    text += f"\n**{paper.ROW_TITLES[row]} against {paper.ROW_TITLES[other]}**\n\n"
                    text += compare((paper.ROW_TITLES[other], parts[other], "gradcam"), (paper.ROW_TITLES[row], found, "gradcam"))
    for row in parts:
        # The paper does not say which order its numbers come from, so they stand beside the one of A.3 only.
        interleaved = default_rows(runs, row, order="interleaved")
        if interleaved and "dataset_b" in interleaved[0].settings:
            rows += _rows(f"{paper.ROW_TITLES[row]}, interleaved (Algorithm 1)", interleaved, 3, "")
    text += (
        "\nEncoders behind rows with f_Seg predict their indicator alone, as in Table 5's row Bio-U-Net whose numbers Table 3 repeats "
        "(DEVIATIONS, rows 11 and 12); where no indicator varies, they and the rows without f_Seg predict melanoma.\n"
    )
    return write_tables(target, "table_3", "Table 3: ablation, continuous Dice and melanoma", rows, text) if rows else None


def table_4(target: Path, runs: Sequence[Found]) -> Path | None:
    """Repeats of the segmentation update."""
    rows, seen = plain_rows(runs, 4), 0
    for count in range(1, 6):
        found = default_rows(runs, "bio_u_net", repeats=count)
        if found:
            rows += _rows(f"{count} repeat{'s' * (count > 1)}", found, 4, str(count))
            seen += 1
    return write_tables(target, "table_4", "Table 4: segmentation updates an iteration", rows) if seen > 1 else None


def table_5(target: Path, runs: Sequence[Found]) -> Path | None:
    """Multi-task encoders."""
    rows, seen = plain_rows(runs, 5), 0
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
        "three times that, forward and backward (DEVIATIONS, FLOPs). The printed 469.3 of the U-Net is 156.4 forward, of which 43.2 would "
        "be the encoder's: a decoder of 113 against our 31, whose widths the paper does not state (with twice our 256 to 16 channels the "
        "U-Net is 128.9 forward, with four times 322.7). Counted, not measured: no seed.\n"
    )
    save(figures.diagram(sizes(settings), f"Bio-U-Net on {settings['backbone']} at {settings['image_size']} px"), target / "figure_6.png")
    return write_tables(target, "table_7", "Table 7: floating-point operations", rows, note)
