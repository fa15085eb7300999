"""The examples, run as their users run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hal

pytestmark = [pytest.mark.real_clock, pytest.mark.patient]

EXAMPLES = Path(__file__).parents[2] / "examples"
PATH = os.pathsep.join([str(EXAMPLES.parent), str(EXAMPLES)])


TRIES = 5
"""Of what a machine that stands still for longer than an instrument waits makes impossible."""


def ended(*arguments: str | Path, cwd: Path, seconds: float = 180) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=seconds,
        env=os.environ | {"PYTHONPATH": PATH},
    )  # fmt: skip


def python(*arguments: str | Path, cwd: Path) -> str:
    done = ended(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def stalled(said: str) -> bool:
    """Whether the machine stood still for longer than an instrument waits (0.5 s): the lab stops then, and rightly."""
    return "no reply to b'" in said


def test_the_control_script_films_a_ramp_and_leaves_its_record(tmp_path):
    for number in range(TRIES):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = ended("-m", "hal.cli", "run", EXAMPLES / "ramp.py", "--lab", _lab(folder), cwd=folder)
        if not stalled(done.stderr):
            break
    assert done.returncode == 0, done.stdout + done.stderr
    frames = dict(re.findall(r"^(\d+) (nan|\d+\.\d+)$", done.stdout, re.MULTILINE))
    seen = [float(temperature) for temperature in frames.values() if temperature != "nan"]
    assert seen
    assert all(20 < temperature < 65 for temperature in seen)
    assert "heater.temperature" in done.stdout
    with hal.open_run(next((folder / "runs").glob("*.nxs"))) as run:
        assert len(run.frames) >= len(frames) > 20
        heated = run.signals["heater.temperature"]
        assert heated.value[heated.valid].max() > 55  # the ramp is over when the heater says so
        assert "InSitu" in (run.script or "")


def test_the_bench_tests_pass(tmp_path):
    python("-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLES / "test_bench.py", cwd=tmp_path)


def test_a_driver_in_one_file_ramps_its_emulator(tmp_path):
    assert "BATH B-7 1.0" in python(EXAMPLES / "own_driver.py", cwd=tmp_path)


def test_a_lab_file_may_name_a_driver_of_ones_own(tmp_path):
    (tmp_path / "lab.toml").write_text('schema = 1\n[devices.bath]\ndriver = "own_driver:Bath"\n')
    answer = json.loads(python("-m", "hal.cli", "check", "lab.toml", "--json", cwd=tmp_path))
    assert answer["devices"][0]["capabilities"] == ["Heater"]


@pytest.mark.needs_tool("mosquitto")
def test_the_dashboard_prints_readings_and_knows_nothing_of_our_package(tmp_path):
    assert "hal" not in {
        line.split()[1].split(".")[0]
        for line in (EXAMPLES / "dashboard.py").read_text().splitlines()
        if line.startswith(("import ", "from "))
    }
    (tmp_path / "lab.toml").write_text(
        'schema = 1\n[devices.heater]\ndriver = "eurotherm_3504"\nunit = 1\n[telemetry]\nbroker = "embedded:"\n'
    )
    (tmp_path / "both.py").write_text(
        "import asyncio, subprocess, sys\nfrom hal import Lab\n"
        "async def main():\n"
        "    async with Lab.open('lab.toml') as lab:\n"
        "        url = lab.telemetry.url\n"
        f"        command = [sys.executable, {str(EXAMPLES / 'dashboard.py')!r}, url.host, str(url.port), '5']\n"
        "        process = await asyncio.create_subprocess_exec(*command)\n"
        "        await asyncio.wait_for(process.wait(), 30)\n"
        "asyncio.run(main())\n"
    )
    output = python("both.py", cwd=tmp_path)
    assert output.count("heater.temperature") >= 1


@pytest.mark.filterwarnings("ignore")
def test_the_control_script_runs_in_a_jupyter_kernel(tmp_path):
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    cells = [
        f"import sys; sys.path.insert(0, {str(EXAMPLES)!r})\nimport ramp\nawait ramp.main()",
        "import hal, glob\nrun = hal.open_run(glob.glob('runs/*.nxs')[0])\nprint(len(run.frames), 'frames on record')",
        "from hal import Lab\nlab = await Lab.connect('lab.toml')",  # over several cells, too
        "print(await lab.devices['heater'].temperature.get())\nawait lab.close()",
    ]
    for number in range(TRIES):
        folder = tmp_path / str(number)
        folder.mkdir()
        _lab(folder)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        place = {"metadata": {"path": str(folder)}}
        try:
            NotebookClient(notebook, timeout=180, kernel_name="python3", resources=place).execute()
            break
        except CellExecutionError as error:
            if number == TRIES - 1 or not stalled(str(error)):
                raise
    assert "frames on record" in _printed(notebook.cells[1])
    assert float(_printed(notebook.cells[3])) < 70


def _printed(cell) -> str:
    """What a cell printed; a kernel may send one line in several pieces."""
    return "".join(output.get("text", "") for output in cell.outputs)


def _lab(directory: Path) -> Path:
    """The examples' lab, with a slower camera: what is filmed here is filmed beside all other tests."""
    path = directory / "lab.toml"
    path.write_text((EXAMPLES / "lab.toml").read_text().replace("fps = 50", "fps = 10"))
    return path
