"""`feedback explain`: the common sheet of explanations, of the layer whose map the run shows and was tuned on."""

from dataclasses import replace

from common.explanation.options import ExplainOptions
from common.explanation.sheet import explain_command
from common.runs.files import read_json
from feedback.models import map_layers
from feedback.training.stage import load_classifier


def run_explain(options: ExplainOptions) -> None:
    """The sheet; without --layer of the run's own layer, which for `stride16` is not the network's last.

    A base classifier has no such setting, and fused maps have no single layer: the sheet then shows the last one before pooling.
    """
    settings = read_json(options.run / "config.json")["settings"]
    if not options.layer and settings.get("layer") and settings.get("fuse_stages", 1) == 1:
        (name,) = map_layers(load_classifier(options.run), settings["layer"])
        options = replace(options, layer=(name,))
    explain_command(options)
