"""`report RUN --by COLUMN…`: the run's test metrics in subgroups of a metadata table, beside each other in subgroups.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from common.data.images import read_image, resize
from common.errors import UsageError
from common.metrics.skin_tone import tone, typology_angle
from common.metrics.subgroups import METRICS, SMALL, parts_of, subgroup_metrics
from common.report.markup import markdown, value_text
from common.report.pictures import masks
from common.runs.outcome import GROUP, read_predictions
from common.runs.reading import RunFolder, data_dir_of, read_option_table, run_files

# The metadata that a data set brings along, below its folder, and the columns that may name an image in such a file.
OWN_METADATA = {"ham10000": "HAM10000_metadata.csv", "isic2019": "ISIC_2019_Training_Metadata.csv", "odir5k": "full_df.csv"}
OWN_COLUMNS = {"ham10000": ("sex", "age", "localization", "dx_type"), "odir5k": ("Patient Sex", "Patient Age")}
IMAGE_COLUMNS = ("image", "image_id", "filename", "isic_id")
ITA = "ita"
TONE_SIDE = 128


def write_subgroups(run: Any, metadata: Path | None, by: Sequence[str], data_dir: Path | None = None, seed: int = 0) -> Path:
    """Write subgroups.md, subgroups.csv and subgroup_gaps.csv into the run folder; returns subgroups.md.

    metadata: CSV with a column that names the image (`image`, `image_id`, `filename` or `isic_id`; folders and suffixes do not matter);
    None: the data set's own, in its folder. by: columns; () takes the usual ones of the data set; `ita` is estimated from the images.

    Raises:
        UsageError: no metadata, an unknown column, an image named twice or test images that are not named.
    """
    folder = RunFolder.of(run)
    table, classes = read_predictions(folder)
    dataset = str(folder.read_json("config.json").get("dataset"))
    columns = tuple(by) or OWN_COLUMNS.get(dataset, ())
    if not columns:
        raise UsageError(f"--by: expected columns of the metadata ({dataset} has no usual ones)")
    values = _read_columns(folder, dataset, table["image"], metadata, [name for name in columns if name != ITA], data_dir)
    if ITA in columns:
        values[ITA] = _tones(folder, table["image"], data_dir)
    rows, gaps, text = [], [], []
    for name in columns:
        found, between = subgroup_metrics(table, parts_of(values[name]).to_numpy(), classes, seed)
        rows += [{"column": name, **row} for row in found]
        gaps += [{"column": name, **row} for row in between]
        text.append(_section(name, found, between))
    folder.write_table("subgroups.csv", pd.DataFrame(rows))
    gap_columns = ["column", "metric", "part", "other", "difference", "low", "high", "p", "p_holm"]
    folder.write_table("subgroup_gaps.csv", pd.DataFrame(gaps, columns=gap_columns))
    unit = "lesions or patients (the run's test groups)" if GROUP in table else "test images"
    note = (
        f"Intervals: 95 % bootstrap over {unit}, drawn for all subgroups together. The p of a gap is corrected (Holm) over the gaps of its "
        f"column. Subgroups of fewer than {SMALL} images are marked * and take part in no gap; a difference may come from what else "
        "differs between subgroups (the mix of classes above all), so look at the sensitivities in subgroups.csv too."
    )
    return folder.write_text("subgroups.md", "\n\n".join(["# Subgroups of the test images", note, *text]) + "\n")


def _read_columns(
    folder: RunFolder, dataset: str, images: pd.Series, metadata: Path | None, columns: Sequence[str], data_dir: Path | None
) -> dict[str, pd.Series]:
    if not columns:
        return {}
    path = metadata
    if path is None:
        own = OWN_METADATA.get(dataset)
        if own is None:
            raise UsageError(f"--metadata: expected a CSV file ({dataset} brings no metadata along)")
        path = data_dir_of(folder, data_dir) / own
    table = read_option_table("--metadata", path)
    key = next((name for name in IMAGE_COLUMNS if name in table), None)
    if key is None:
        raise UsageError(f"--metadata {path}: expected a column that names the image ({', '.join(IMAGE_COLUMNS)})")
    missing = [name for name in columns if name not in table]
    if missing:
        raise UsageError(f"--by {missing[0]}: {path} has no such column; expected some of {', '.join(table.columns)}")
    stems = table[key].map(lambda name: Path(name).stem)
    wanted = images.map(lambda name: Path(name).stem)
    twice = stems[stems.duplicated() & stems.isin(set(wanted))]
    if len(twice) and not table.assign(_stem=stems).drop_duplicates(["_stem", *columns])["_stem"].is_unique:
        raise UsageError(f"--metadata {path}: {twice.iloc[0]} stands there twice with different values")
    known = table.assign(_stem=stems).drop_duplicates("_stem").set_index("_stem")
    absent = wanted[~wanted.isin(known.index)]
    if len(absent):
        raise UsageError(f"--metadata {path}: has no row for the test image {absent.iloc[0]} ({len(absent)} of {len(wanted)} are missing)")
    return {name: known.loc[wanted, name].reset_index(drop=True) for name in columns}


def _tones(folder: RunFolder, images: pd.Series, data_dir: Path | None) -> pd.Series:
    """Skin tone of each image, estimated outside the lesion mask where manifest.csv names one."""
    lesions, files = masks(folder, data_dir, list(images), TONE_SIDE), run_files(folder, data_dir, images)
    read = (resize(read_image(path), TONE_SIDE, "bilinear") for path in files)
    return pd.Series([tone(typology_angle(pixels, lesion)) for pixels, lesion in zip(read, lesions, strict=True)])


def _section(name: str, rows: Sequence[dict[str, Any]], gaps: Sequence[dict[str, Any]]) -> str:
    title = f"## {name}" + (" (skin tone estimated from the image, not a measurement of the person)" if name == ITA else "")
    lines = [
        [row["part"] + ("*" if row["small"] else ""), row["n"], *(value_text(row[m], row[f"{m}_low"], row[f"{m}_high"]) for m in METRICS)]
        for row in rows
    ]
    text = [title, markdown(("subgroup", "images", "accuracy", "balanced accuracy", "AUC"), lines)]
    for metric in METRICS:
        own = [gap for gap in gaps if gap["metric"] == metric]
        if own:
            gap = max(own, key=lambda each: each["difference"])
            said = "shown" if gap["p_holm"] < 0.05 else "not shown"
            what, size = metric.replace("_", " ").replace("auc", "AUC"), value_text(gap["difference"], gap["low"], gap["high"])
            text.append(f"Largest gap in {what}: {gap['part']} over {gap['other']} by {size}, p {gap['p_holm']:.3g} (Holm): {said}.")
    return "\n\n".join(text)
