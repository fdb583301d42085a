"""docs/library.md: every block runs, one after the other, as a reader would run them."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "library.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_every_block_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(BLOCKS) == 5 and all(len(block.splitlines()) <= 25 for block in BLOCKS)
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "gradcam" in said and "theirs" in said
