"""TensorFlow's start-up lines, kept off stderr: stderr holds errors only."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator

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
