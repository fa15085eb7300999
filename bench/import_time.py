"""How long `import hal` takes above a bare Python, beside what its peers take.

A control script, `hal list`, a notebook's first cell: everybody waits for this many times a day.
Each import runs in a fresh process, in turn with a bare `python -c pass`; the bare time of the same
round is subtracted. The worst offenders come from `python -X importtime`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from _measure import OURS, Figure, arguments, header, measure, spread

BARE = "pass"
OF_USERS = "from hal import Lab; from hal.capabilities import Camera, Gauge, Heater"
PEERS = {
    OURS: "import hal",
    "ours, as scripts import": OF_USERS,
    "ours, with a driver": f"{OF_USERS}; import devices.lakeshore_336.driver",
    "numpy": "import numpy",
    "ophyd-async": "import ophyd_async.core",
    "QCoDeS": "import qcodes",
    "bluesky": "import bluesky, bluesky.plans, bluesky.run_engine",
}
GOAL = 0.150  # s above a bare Python
SHOWN = 8


def python(code: str) -> float:
    """Seconds a fresh process takes to run `code`."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")  # not from the source tree: as installed
    return time.perf_counter() - begun


def above_bare(code: str):
    """Work for `measure`: `code` and a bare Python one after the other; what counts is the difference."""
    return lambda count: sum(python(code) - python(BARE) for _ in range(count))


def offenders(code: str) -> list[tuple[float, float, str]]:
    """(own ms, cumulative ms, module), the greatest own first."""
    command = [sys.executable, "-X", "importtime", "-c", code]
    out = subprocess.run(command, check=True, cwd="/", capture_output=True, text=True).stderr
    rows = [line.removeprefix("import time:").split("|") for line in out.splitlines() if line.startswith("import time")]
    return sorted(((int(o) / 1000, int(c) / 1000, m.strip()) for o, c, m in rows[1:]), reverse=True)


def package(module: str) -> str:
    return module.partition(".")[0]


def worst(code: str) -> None:
    """Print the modules and packages that cost most, without what a bare Python loads anyway."""
    bare = {module for _, _, module in offenders(BARE)}
    rows = [row for row in offenders(code) if row[2] not in bare]
    packages: dict[str, float] = {}
    for own, _, module in rows:
        packages[package(module)] = packages.get(package(module), 0.0) + own
    dearest = sorted(packages.items(), key=lambda item: -item[1])[:5]
    print(f"\n`{code}`: {len(rows)} modules, {sum(row[0] for row in rows):.0f} ms (traced, so slower than above)")
    print("  by package, ms: " + ", ".join(f"{name} {own:.1f}" for name, own in dearest))
    print("  by module, ms:  " + ", ".join(f"{module} {own:.1f}" for own, _, module in rows[:SHOWN]))


async def main() -> None:
    options = arguments(__doc__, rounds=7)
    header("Import time above a bare Python", ("numpy", "ophyd-async", "qcodes", "bluesky"))
    for code in PEERS.values():
        python(code)  # bytecode and disk cache are warm
    figure = Figure("import, above bare", {name: above_bare(code) for name, code in PEERS.items()}, fixed=1)
    await measure(figure, rounds=options.rounds, slice_=options.slice)
    for code in (PEERS[OURS], PEERS["ophyd-async"]):
        worst(code)
    _, ours, _ = spread(figure.seconds[OURS])
    print(f"\ngoal: `import hal` at most {GOAL * 1e3:g} ms above bare: {'met' if ours <= GOAL else 'MISSED'}")
    if options.check and ours > GOAL:
        sys.exit(1)


if __name__ == "__main__":
    asyncio.run(main())
