"""`feedback serve`, before anything heavy is imported: is Gradio there?"""

import importlib.util

from common.cli import require
from feedback.experiments.serve import ServeSettings


def run_serve(options: ServeSettings) -> None:
    """Serve the page until Ctrl-C. UsageError: the page's own requirements are not installed."""
    require(importlib.util.find_spec("gradio") is not None, "the page needs Gradio: pip install -r requirements-page.txt")
    from feedback.page import serve

    serve.run_serve(options)
