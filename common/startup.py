"""What other software would bring into a start: TensorFlow's lines on stderr (which holds errors only), and keras.json."""

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from common.errors import UsageError

# TensorFlow 2.21 writes these before it has read TF_CPP_MIN_LOG_LEVEL, so no environment variable stops them.
_NOISE = re.compile(rb"WARNING: All log messages before absl|[IW]\d{4} \d\d.*\.cc:\d+\]|To enable the following instructions:")


@contextlib.contextmanager
def without_startup_lines() -> Iterator[None]:
    """Hold back what is written to file descriptor 2 (native code too) and pass on, afterwards, all but the start-up lines."""
    import tempfile

    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not _NOISE.match(line):
                    os.write(2, line)


def override_keras_json() -> None:
    """Say that keras.json (left by another project) asks for what no network here can use, and set Keras to what they need."""
    path = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
    try:
        wanted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    needed = {"image_data_format": "channels_last", "floatx": "float32"}
    other = {name: wanted.get(name) for name in needed if isinstance(wanted, dict) and wanted.get(name, needed[name]) != needed[name]}
    if not other:
        return
    try:
        with without_startup_lines():
            import keras
    except AssertionError:
        raise UsageError(f"{path}: {other} is nothing that Keras knows; expected {needed}, or no such file") from None
    keras.config.set_image_data_format(needed["image_data_format"])
    keras.config.set_floatx(needed["floatx"])
    logging.getLogger(__name__).info("%s: %s is overridden; the networks here need %s", path, other, needed)
