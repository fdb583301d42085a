"""`make smoke`: every experiment that exists, tiny, on the drawn samples, one after the other, each in a process of its own.

It shows that each command runs from end to end; the tests say whether it is right.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TINY = "--limit 60 --epochs 1"
MELANOMA = f"{TINY} --image-size 64 --indicators globules streaks"
# {runs} is a temporary folder; a command may use the run folders of the ones above it.
COMMANDS = (
    "cervical audit --run-dir {runs}/cervical-audit",
    "cervical size-analysis --run-dir {runs}/cervical-sizes",
    f"cervical finetune {TINY} --run-dir {{runs}}/finetune",
    f"cervical cost-sensitive {TINY} --costs balanced --run-dir {{runs}}/costs",
    f"cervical contrastive {TINY} --control --run-dir {{runs}}/contrastive",
    f"cervical compare-losses {TINY} --losses npairs supcon",
    f"cervical freeze-depth {TINY} --depths 0 100",
    f"cervical tables {TINY} --backbones mobilenetv2_035",
    f"cervical tune {TINY} --trials 2",
    "cervical explain {runs}/finetune --methods gradcam layercam",
    "cervical report {runs}/finetune",
    "cervical predict {runs}/finetune .cache/samples --output {runs}/predicted.csv",
    "cervical calibrate {runs}/finetune",
    "cervical export {runs}/finetune --format keras",
    "lmf audit --dataset sample",
    f"lmf train {TINY} --run-dir {{runs}}/lmf",
    *(f"lmf train {TINY} --sample {name} --loss focal" for name in ("odir5k", "isic2019", "covid_radiography")),
    f"lmf tables {TINY} --backbones mobilenetv2_035 --losses cce lmf --run-dir {{runs}}/lmf-tables",
    f"lmf sweep {TINY} --settings equal --grid 1 2",
    f"lmf tune {TINY} --losses cce focal --trials 2 --run-dir {{runs}}/lmf-tune",
    "lmf retrain {runs}/lmf --how smote --epochs 1 --run-dir {runs}/lmf-retrain",
    "lmf gradients {runs}/lmf",
    "lmf explain {runs}/lmf --methods gradcam layercam",
    "lmf explain {runs}/lmf-tables",
    "lmf predict {runs}/lmf {runs}/lmf/explanations --output {runs}/lmf.csv",
    "lmf report {runs}/lmf",
    "lmf calibrate {runs}/lmf",
    "lmf export {runs}/lmf --format keras",
    "melanoma audit",
    f"melanoma pretrain {MELANOMA} --run-dir {{runs}}/melanoma/pretrain-seed0",
    f"melanoma train {MELANOMA} --reading corrected --no-simclr --run-dir {{runs}}/melanoma-train",
    f"melanoma shared {MELANOMA} --decoder-width 0.25 --run-dir {{runs}}/shared",
    "melanoma predict {runs}/shared {runs}/shared/figures --output-dir {runs}/drawn",
    f"melanoma ablation {MELANOMA} --run-dir {{runs}}/melanoma",
    f"melanoma repeats {MELANOMA} --rows 2 --run-dir {{runs}}/melanoma",
    f"melanoma multitask {MELANOMA} --rows two six --run-dir {{runs}}/melanoma",
    f"melanoma thresholds {MELANOMA} --run-dir {{runs}}/melanoma",
    f"melanoma baselines {MELANOMA} --lime-samples 20 --lime-images 1 --run-dir {{runs}}/melanoma",
    "melanoma tables {runs}/melanoma",
    "melanoma explain {runs}/melanoma/bio_u_net-seed0 --methods gradcam layercam",
    "melanoma predict {runs}/melanoma/bio_u_net-seed0 {runs}/melanoma/bio_u_net-seed0/figures/thresholds.png",
    "melanoma report {runs}/melanoma/bio_u_net-seed0",
    "melanoma calibrate {runs}/melanoma/bio_u_net-seed0",
    "melanoma export {runs}/melanoma/bio_u_net-seed0 --format keras",
    f"feedback baseline {TINY} --run-dir {{runs}}/base",
    f"feedback simulate {TINY} --base {{runs}}/base --run-dir {{runs}}/simulate",
    f"feedback simulate {TINY} --fuse-stages 2 --faithfulness 2 --base {{runs}}/base --run-dir {{runs}}/fused",
    f"feedback simulate {TINY} --feedback-form graded --explanation-loss graded --base {{runs}}/base --run-dir {{runs}}/graded",
    f"feedback simulate {TINY} --explanation-loss distance --base {{runs}}/base --run-dir {{runs}}/distance",
    f"feedback simulate {TINY} --objective balanced-combined --adapt-epochs 1 --epochs 1 --base {{runs}}/base --run-dir {{runs}}/balanced",
    f"feedback search {TINY} --lambdas 0.3 --clip-norms 0 1 --base {{runs}}/base --run-dir {{runs}}/search --parallel 2",
    f"feedback slices {TINY} --slices 2 --base {{runs}}/base --run-dir {{runs}}/slices",
    "feedback thresholds {runs}/simulate",
    f"feedback tables {TINY} --objectives combined --balances upsampled --kinds constant differentiated --base {{runs}}/base",
    "feedback explain {runs}/simulate --methods gradcam layercam",
    "feedback predict {runs}/simulate .cache/samples --output {runs}/lesions.csv",
    "feedback report {runs}/simulate",
    "feedback calibrate {runs}/simulate",
    "feedback export {runs}/simulate --format keras",
    "feedback audit",
)


def main(names: list[str]) -> int:
    """Run the commands of the studies named (all by default); returns 1 when one of them fails."""
    root = Path(__file__).resolve().parent.parent
    failed = []
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        environment = {**os.environ, "PYTHONPATH": str(root)}
        for line in COMMANDS:
            words = line.format(runs=folder).split()
            if names and words[0] not in names:
                continue
            began = time.monotonic()
            done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True)
            shown = " ".join(word.replace(folder, "…") for word in words)
            print(f"{'ok    ' if done.returncode == 0 else 'FAILED'} {time.monotonic() - began:6.1f} s  {shown}", flush=True)
            if done.returncode != 0:
                failed.append(shown)
                print(done.stdout[-800:], done.stderr[-2000:], sep="\n", flush=True)
    print(f"{len(failed)} failed" if failed else "every experiment ran")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
