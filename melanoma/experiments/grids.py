"""The runs behind Tables 2 to 6: each command makes the ones that are missing, then writes its tables from what is there."""

from dataclasses import replace
from pathlib import Path

from common.cli import require
from common.runs import Run
from melanoma.config import DESCRIBED, BaselineOptions, GridOptions, Settings, TablesOptions
from melanoma.experiments.single import complete, report, variant
from melanoma.experiments.tables import write_all
from melanoma.training import baselines
from melanoma.training.inputs import load_inputs
from melanoma.training.pretraining import pretrain


def run_rows(options: GridOptions) -> dict[tuple[str, int], Run]:
    """Every (row, seed) of a table, trained where it is not finished."""
    return {(row, seed): run_cell(options, seed, row) for seed in options.seeds for row in options.rows or options.table}


def cell_name(settings: Settings) -> str:
    """Folder of a cell below --run-dir, from its settings: the same run under whichever table asks for it, so trained once."""
    parts = [variant(settings.as_dict())]
    if settings.segmentation:
        parts += [f"repeats{settings.repeats}"] * (settings.repeats != DESCRIBED.repeats) + [settings.tasks] * (
            settings.tasks != DESCRIBED.tasks
        )
    parts += [settings.order] * (settings.order != DESCRIBED.order)
    return "-".join([*parts, f"seed{settings.seed}"])


def run_cell(options: GridOptions, seed: int, row: str) -> Run:
    """One run. With --run-dir every cell has a folder there, and the cells of a seed share one pre-training."""
    cell, where = options.cell(seed, row), options.run_dir
    inputs = load_inputs(cell)
    if where is None:
        return complete(inputs)
    if inputs.settings.simclr and inputs.settings.order == "phases" and options.pretrained is None:
        shared = pretrain(inputs, where / f"pretrain-seed{seed}")
        inputs = replace(inputs, options=replace(cell, pretrained=shared.path))
    return complete(inputs, where / cell_name(inputs.settings))


def root(options: GridOptions) -> Path:
    """Folder whose runs a table is made of."""
    return options.run_dir or TablesOptions.__dataclass_fields__["runs"].default  # type: ignore[return-value]


def grid_command(options: GridOptions) -> None:
    """`melanoma ablation`, `repeats`, `multitask` and `thresholds` (Tables 3 to 6): the table's runs, then all tables they can fill."""
    run_rows(options)
    write_all(root(options))


def baselines_command(options: BaselineOptions) -> None:
    """`melanoma baselines`: Table 2's other rows, and the plain U-Net."""
    wanted = options.rows or tuple(options.table)
    for seed in options.seeds:
        inputs = load_inputs(options.cell(seed, wanted[0]))  # the plain classifier's settings, whichever row

        def place(name: str, seed: int = seed) -> Path | None:
            return options.run_dir / f"{name}-seed{seed}" if options.run_dir is not None else None

        if "cams" in wanted:
            plain = complete(inputs, options.run_dir / cell_name(inputs.settings) if options.run_dir is not None else None)
            baselines.cams(inputs, plain.path, options, place("cams"))
        if "vat" in wanted:
            run = baselines.vat(inputs, place("vat"))
            if not run.finished:
                report(run, inputs, "VAT baseline")
                run.finish()
        if "unet" in wanted:
            baselines.plain_unet(inputs, place("unet"))
    write_all(root(options))


def tables_command(options: TablesOptions) -> None:
    """`melanoma tables`: every table and sheet from the runs below a folder."""
    written = write_all(options.runs, options.output)
    require(bool(written), f"{options.runs}: no finished runs of the melanoma study in it")
    for path in written:
        print(path)
