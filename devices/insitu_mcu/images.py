"""The board's own program, ready to be run on this machine: built for it, or as a Cortex-M image for QEMU."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hal import errors
from hal.errors import ConfigError

log = logging.getLogger("hal")


def sources() -> Path:
    """The firmware's sources: of this repository, or as the package carries them."""
    packaged = Path(errors.__file__).parent / "_firmware"
    return packaged if (packaged / "core").is_dir() else Path(__file__).parents[2] / "firmware"


def host_build() -> Path:
    """The firmware as a program of this machine, built with `cc` if it was not yet. Raises `ConfigError`."""
    if sys.platform == "win32":
        raise ConfigError("an emulated board needs a POSIX system (on Windows: WSL); or give the link of a real board")
    root = sources()
    files = sorted([*root.glob("core/*.[ch]"), *root.glob("boards/posix/*.[ch]"), root / "boards/mps2/world.h"])
    if not (root / "core").is_dir():
        raise ConfigError(f"firmware:posix: its sources are not at {root}; is the package whole?")
    build = _digest(files)
    program = _cache() / f"insitu-mcu-{build}"
    if program.exists():
        return program
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ConfigError("firmware:posix needs a C compiler to build the board's program; type: apt install gcc")
    program.parent.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_name(f"{program.name}.{os.getpid()}")
    command = [*compiler.split(), "-std=c11", "-O2", f"-I{root / 'core'}", f"-DBUILD_ID=0x{build}u"]
    command += [str(file) for file in files if file.suffix == ".c"] + ["-o", str(unfinished)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise ConfigError(f"firmware:posix can't be built with {compiler}:\n{made.stderr[-2000:]}")
    unfinished.replace(program)  # at once: another process may build it too
    return program


def qemu_image() -> Path | None:
    """The Cortex-M image for QEMU: as the package carries it, or built if there is a cross compiler; else None."""
    root = sources()
    for image in (root / "images" / "mps2.elf", root.parent / "build" / "firmware" / "mps2.elf"):
        if image.exists() and (root.name == "_firmware" or not shutil.which("arm-none-eabi-gcc")):
            return image
    if shutil.which("make") and shutil.which("arm-none-eabi-gcc"):
        # A folder for each state of the sources: `make` looks at times, and other checkouts use this cache too.
        parts = [root / "Makefile", *root.glob("core/**/*"), *root.glob("boards/**/*")]
        out = _cache() / f"mps2-{_digest(sorted(part for part in parts if part.is_file()))}"
        made = subprocess.run(
            ["make", "-s", "-C", str(root), f"OUT={out}", "mps2"], capture_output=True, text=True, check=False
        )
        if made.returncode == 0:
            return out / "mps2.elf"
        log.warning("firmware:mps2 can't be built: %s", made.stderr[-500:])
    return None


def missing_for_qemu() -> str:
    """What keeps us from running the image, as a sentence; empty if nothing does."""
    if sys.platform == "win32":
        return "QEMU shares no memory there"
    if shutil.which("qemu-system-arm") is None:
        return "qemu-system-arm is not installed here (apt install qemu-system-arm)"
    if qemu_image() is None:
        return "there is no image for it here, and no arm-none-eabi-gcc to build one"
    return ""


def _digest(files: list[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "insitu-hal" / "firmware"
