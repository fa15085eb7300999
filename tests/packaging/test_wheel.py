"""The built wheel, in a clean environment outside the repository."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.real_clock, pytest.mark.patient, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.needs_tool("cc", "arm-none-eabi-gcc")
def test_the_wheel_works_in_a_clean_environment(tmp_path):
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", ROOT, cwd=tmp_path)
    wheel = next((tmp_path / "dist").glob("*.whl"))
    environment = tmp_path / "clean"
    python = environment / "bin" / "python"
    if uv := shutil.which("uv"):
        run(uv, "venv", "-q", "--python", sys.executable, environment, cwd=tmp_path)
        run(uv, "pip", "install", "-q", "--python", python, wheel, cwd=tmp_path)
    else:
        run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
        run(python, "-m", "pip", "install", "-q", wheel, cwd=tmp_path)
    hal = environment / "bin" / "hal"
    drivers = json.loads(run(hal, "devices", "--json", cwd=tmp_path))
    assert {"eurotherm_3504", "merlin", "ne1000"} <= {d["driver"] for d in drivers}
    assert all(d["capabilities"] for d in drivers)
    (tmp_path / "lab.toml").write_text('schema = 1\n[devices.heater]\ndriver = "eurotherm_3504"\nunit = 1\n')
    assert json.loads(run(hal, "check", "lab.toml", "--json", cwd=tmp_path))["ok"]
    # The firmware comes with it: enough to start an emulated board, and to flash a real one.
    assert (Path(_where(python, tmp_path)) / "_firmware" / "images" / "stm32f405.bin").stat().st_size > 10_000
    (tmp_path / "lab.toml").write_text('schema = 1\n[devices.chip]\ndriver = "insitu_mcu"\nlink = "firmware:posix"\n')
    assert json.loads(run(hal, "check", "lab.toml", "--json", cwd=tmp_path))["ok"]
    # The demo's files, types and licence are in it.
    where = _where(python, tmp_path)
    assert (Path(where) / "demo" / "lab.toml").is_file()
    assert all((Path(where).parent / name / "py.typed").is_file() for name in ("hal", "devices", "calibration"))
    assert str(ROOT) not in where
    assert list(Path(where).parent.glob("insitu_hal-*.dist-info/licenses/LICENSE"))


def _where(python: Path, cwd: Path) -> str:
    return run(python, "-c", "import hal, pathlib; print(pathlib.Path(hal.__file__).parent)", cwd=cwd).strip()
