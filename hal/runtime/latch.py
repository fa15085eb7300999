"""The latch: a trip outlives the process until a person acknowledges it.

A small file beside the lab file, so that ``hal ack`` reaches a lab that runs as well as one that
ended: a running lab looks at the file while it is tripped.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..clock.timebase import Timebase
from ..errors import InterlockTripped
from ..model.safety import Trip


class Latch:
    """The trip of one lab, on disk."""

    def __init__(self, lab_file: Path, lab: str) -> None:
        self.lab_file = lab_file
        self.path = lab_file.resolve().parent / ".hal" / f"{lab}.trip.json"

    def set(self, trip: Trip) -> None:
        """Write the trip down."""
        self.path.parent.mkdir(exist_ok=True)
        self.path.with_suffix(".by").unlink(missing_ok=True)
        content = {"name": trip.name, "text": trip.text, "time": str(trip.time), "process": os.getpid()}
        partial = self.path.with_suffix(".part")
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(self.path)

    def read(self) -> dict[str, Any] | None:
        """The unacknowledged trip, if there is one."""
        try:
            content: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {"name": "unknown", "text": f"a trip that can't be read from {self.path}", "time": "0"}
        return content

    def acknowledge(self, by: str, timebase: Timebase | None = None) -> dict[str, Any] | None:
        """Release it in the name of `by`; return what was acknowledged, None if there was nothing."""
        trip = self.read()
        if trip is not None:
            time = str((timebase or Timebase.system()).now())
            with (self.path.parent / "acknowledged.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(trip | {"acknowledged_by": by, "acknowledged": time}) + "\n")
            (self.path.with_suffix(".by")).write_text(by, encoding="utf-8")
            self.path.unlink(missing_ok=True)
        return trip

    def acknowledged_by(self) -> str | None:
        """Who released it from outside, if anybody has; None while it is latched, and where that can't be told."""
        try:
            # Without its folder (a disk that is gone) a file is missing too, and nobody has acknowledged.
            if not self.path.parent.is_dir() or self.path.exists():
                return None
            by = self.path.with_suffix(".by")
            return by.read_text(encoding="utf-8") if by.exists() else "somebody who removed the latch file"
        except OSError:
            return None

    def refuse_if_set(self) -> None:
        """Raise `InterlockTripped` if a trip of an earlier session has not been acknowledged."""
        if (trip := self.read()) is not None:
            raise InterlockTripped(
                f"the lab is still tripped: {trip['text']}. Look after the instruments, then type "
                f"`hal ack {self.lab_file} --by YOUR_NAME`; until then nothing is opened."
            )
