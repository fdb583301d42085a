"""Does a map that covers the marked region also say more about the decision? Deletion and insertion, before and after (our question)."""

import numpy as np

from common.explanation.faithfulness import measure, summary
from common.runs import Run, read_json
from common.runs.files import write_json
from feedback.assessment import Explainer
from feedback.training.stage import Stage


def measure_once(run: Run, name: str, explainer: Explainer, stage: Stage, count: int, seed: int) -> dict:
    """Areas under the deletion and insertion curves of the predicted class's maps, on `count` marked test images spread over the set.

    Kept in the run folder until the run is finished, since a resumed process starts from tuned weights.

    Returns:
        images, deletion, insertion and pointing of the maps, `random_deletion` and `random_insertion` of a random map on the same model.
    """
    path = run.path / "checkpoints" / f"faithfulness_{name}.json"
    if path.is_file():
        return read_json(path)
    rows = stage.part("test")
    rows = rows[stage.masks[rows].any(axis=(1, 2))]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]
    probabilities, maps, _ = explainer(stage.images[rows], size=stage.images.shape[1])
    explained, masks = probabilities.argmax(axis=1), stage.masks[rows] >= 128
    table, _ = measure(explainer.model.classifier, stage.images[rows], {"map": maps}, explained, masks=masks, seed=seed)
    scores = summary(table, seed).set_index("method")
    found = {"images": len(rows)} | {key: float(scores.loc["map", key]) for key in ("deletion", "insertion", "pointing")}
    found |= {f"random_{key}": float(scores.loc["random", key]) for key in ("deletion", "insertion")}
    write_json(path, found)
    return found
