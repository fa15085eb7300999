"""``python -m hal.demo``: start the emulated lab as a process of its own, run the experiment, show what came of it."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import HalError
from ..runtime.config import load
from ..runtime.latch import Latch
from . import experiment

HERE = Path(__file__).parent


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="python -m hal.demo", description=__doc__)
    parser.add_argument("--into", type=Path, default=Path("demo"), help="directory for everything (default: demo)")
    options = parser.parse_args()
    into: Path = options.into
    into.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        with emulated(into) as lab_file:
            Latch(lab_file, load(lab_file).file.lab.name).acknowledge("the demo")  # the instruments are new, too
            print("\nThe experiment (hal/demo/experiment.py):")
            run = asyncio.run(experiment.main(lab_file, into / "runs"))
    except HalError as error:
        print(f"demo: {error}", file=sys.stderr)
        if any(words in str(error) for words in ("heartbeat", "can't be seen", "no reply")):
            print(
                "demo: what can't be asked for half a second is switched off, or trips, as it should. "
                "This computer seems to be busy with something else; run the demo again when it is not",
                file=sys.stderr,
            )
        return 1
    except KeyboardInterrupt:
        print(f"demo: interrupted; the devices are in their safe state, the run is in {into / 'runs'}", file=sys.stderr)
        return 130
    print(f"\n{run.summary()}")
    size = run.path.stat().st_size / 1e6
    print(f"file: {size:.0f} MB; the demo took {time.monotonic() - started:.0f} s")
    show_truth(run.path, into / "truth.npz")
    show_picture(run.path)
    print(f"""
Try next:
  less hal/demo/experiment.py                     the script you have just seen run
  .venv/bin/hal emulate hal/demo/lab.toml --write lab.toml      the same lab, to play with (leave it running)
  .venv/bin/hal check lab.toml                    who answers, and what each can do
  .venv/bin/hal watch lab.toml                    live readings
  .venv/bin/hal run examples/ramp.py --lab examples/lab.toml    a short script on a small lab of its own
  .venv/bin/hal export {run.path}
  .venv/bin/python -c "import hal; print(hal.open_run('{run.path}').to_pandas())"
""")
    return 0


@contextmanager
def emulated(into: Path) -> Iterator[Path]:
    """Emulators in a process of their own; yields the lab file that reaches them."""
    lab_file = into / "lab.toml"
    command = [
        sys.executable, "-m", "hal.cli", "emulate", str(HERE / "lab.toml"),
        "--write", str(lab_file), "--truth", str(into / "truth.npz"), "--json",
    ]  # fmt: skip
    environment = os.environ | {"HAL_EMULATE_WITH_PARENT": "1"}
    # A session of its own, so that Ctrl-C reaches the script only: the instruments stay until they are safe.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise HalError("the emulators did not start; see above")
        print("The emulated lab, a process of its own:")
        for name, place in json.loads(line)["devices"].items():
            print(f"  {name:<16}{place['driver']:<18}{place['url']}")
        yield lab_file
        time.sleep(1.0)  # s, for gas that was just shut off to cease flowing: the truth should show it
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def show_truth(run: Path, truth: Path) -> None:
    """Only an emulated lab knows the truth: how good is the record?"""
    from .truth import compare, table

    if truth.exists():
        print("\nAgainst the truth, which the emulators kept apart:")
        print(table(compare(run, truth)))


def show_picture(run: Path) -> None:
    """A picture, where matplotlib is installed."""
    from ..recording.picture import picture

    try:
        print(f"\npicture: {picture(run)}")
    except ImportError:
        print('\nno picture: matplotlib is missing (pip install "insitu-hal[plot]")')


if __name__ == "__main__":
    raise SystemExit(main())
