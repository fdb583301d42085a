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

# Row -> the options that make it.
ABLATION = {
    "f_res": {"simclr": False, "segmentation": False},
    "f_res_seg": {"simclr": False, "segmentation": True},
    "f_res_clr": {"simclr": True, "segmentation": False},
    "bio_u_net": {"simclr": True, "segmentation": True},
}
REPEATS = {str(count): {**ABLATION["bio_u_net"], "repeats": count} for count in range(1, 6)}
MULTITASK = {tasks: {**ABLATION["bio_u_net"], "tasks": tasks} for tasks in ("one", "two", "five", "six")}
WHOLE = {"bio_u_net": ABLATION["bio_u_net"]}


def run_rows(options: GridOptions, table: dict[str, dict]) -> dict[tuple[str, int], Run]:
    """Every (row, seed) of a table, trained where it is not finished. UsageError for a row that the table does not have."""
    for row in options.rows or ():
        require(row in table, f"--rows {row}: expected some of {', '.join(table)}")
    found = {}
    for seed in options.seeds:
        for row, changes in table.items():
            if options.rows is None or row in options.rows:
                found[row, seed] = run_cell(options, seed, changes)
    return found


def cell_name(settings: Settings) -> str:
    """Folder of a cell below --run-dir, from its settings: the same run under whichever table asks for it, so trained once."""
    parts = [variant(settings.as_dict())]
    if settings.segmentation:
        parts += [f"repeats{settings.repeats}"] * (settings.repeats != DESCRIBED.repeats) + [settings.tasks] * (
            settings.tasks != DESCRIBED.tasks
        )
    parts += [settings.order] * (settings.order != DESCRIBED.order)
    return "-".join([*parts, f"seed{settings.seed}"])


def run_cell(options: GridOptions, seed: int, changes: dict) -> Run:
    """One run. With --run-dir every cell has a folder there, and the cells of a seed share one pre-training."""
    cell: GridOptions = replace(options, seed=seed, **changes)
    inputs = load_inputs(cell)
    where = options.run_dir
    if where is None:
        return complete(inputs)
    if inputs.settings.simclr and inputs.settings.order == "phases" and options.pretrained is None:
        shared = pretrain(inputs, where / f"pretrain-seed{seed}")
        inputs = replace(inputs, options=replace(cell, pretrained=shared.path))
    return complete(inputs, where / cell_name(inputs.settings))


def root(options: GridOptions) -> Path:
    """Folder whose runs a table is made of."""
    return options.run_dir or TablesOptions.__dataclass_fields__["runs"].default  # type: ignore[return-value]


def ablation_command(options: GridOptions) -> None:
    """`melanoma ablation`: Table 3."""
    run_rows(options, ABLATION)
    write_all(root(options))


def repeats_command(options: GridOptions) -> None:
    """`melanoma repeats`: Table 4."""
    run_rows(options, REPEATS)
    write_all(root(options))


def multitask_command(options: GridOptions) -> None:
    """`melanoma multitask`: Table 5."""
    run_rows(options, MULTITASK)
    write_all(root(options))


def thresholds_command(options: GridOptions) -> None:
    """`melanoma thresholds`: Table 6, which every Bio-U-Net run measures."""
    run_rows(options, WHOLE)
    write_all(root(options))


def baselines_command(options: BaselineOptions) -> None:
    """`melanoma baselines`: Table 2's other rows, and the plain U-Net."""
    names = ("cams", "vat", "unet")
    for row in options.rows or ():
        require(row in names, f"--rows {row}: expected some of {', '.join(names)}")
    wanted = options.rows or names
    for seed in options.seeds:
        cell = replace(options, seed=seed, **ABLATION["f_res"])
        inputs = load_inputs(cell)

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
