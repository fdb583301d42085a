"""Tables 1 to 7 and figures 1, 3 to 10 again from the runs that are finished. Nothing is trained; seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from common.settings import Command, Settings


@dataclass(frozen=True, kw_only=True)
class TablesSettings(Settings):
    """Every table and figure again from finished runs; nothing is trained."""

    runs: Positional[Annotated[Path, "folder"]] = Path("runs/melanoma")
    """Folder that holds the study's runs."""
    output: Path | None = None
    """Folder for tables and figures; default: tables/ in that folder."""


COMMAND = Command(TablesSettings, "melanoma.tables:tables_command", __doc__)
