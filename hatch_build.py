"""Puts the firmware into the wheel: its sources for the host build, and the images where the compiler is at hand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

IMAGES = ("mps2.elf", "stm32f405.elf", "stm32f405.bin")


class FirmwareHook(BuildHookInterface):
    """Runs for the wheel only; an editable install finds the firmware in the repository."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        firmware = Path(self.root) / "firmware"
        inside = build_data["force_include"]
        for folder in ("core", "boards"):
            inside[str(firmware / folder)] = f"hal/_firmware/{folder}"
        inside[str(firmware / "Makefile")] = "hal/_firmware/Makefile"
        if shutil.which("arm-none-eabi-gcc") and shutil.which("make"):
            subprocess.run(["make", "-s", "-C", str(firmware), "mps2", "stm32f405"], check=True)
        built = Path(self.root) / "build" / "firmware"
        for name in IMAGES:
            if (built / name).exists():
                inside[str(built / name)] = f"hal/_firmware/images/{name}"
            else:
                self.app.display_warning(f"no firmware image {name} in this wheel: arm-none-eabi-gcc is not here")
