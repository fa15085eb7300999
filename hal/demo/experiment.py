"""Anneal in argon, reduce in hydrogen, measure an I-V curve hot, quench; all of it filmed.

This is what a control script looks like. It names no make of instrument and no port: those are in
the lab file.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from hal import Lab
from hal.capabilities import Beam, Camera, FlowController, Gauge, Heater, Pump, SourceMeter, Thermometer, Valve
from hal.recording.run import Run


class GasCell(Lab):
    """What this experiment needs of the lab."""

    heater: Heater
    warmth: Heater
    body: Thermometer
    bias: SourceMeter
    argon: FlowController
    hydrogen: FlowController
    argon_valve: Valve
    hydrogen_valve: Valve
    beam: Beam
    cell: Gauge
    column: Gauge
    pump: Pump
    camera: Camera


async def experiment(lab: GasCell, run: Run) -> None:
    """The experiment itself."""
    await lab.beam.unblank()
    await lab.pump.run(rate=30.0)  # uL/min
    await lab.argon_valve.open()
    await lab.argon.set(10.0)  # sccm
    warm = lab.warmth.ramp(to=40.0, rate=1.0)  # the holder's body, meanwhile

    async with lab.heater.ramp(to=600.0, rate=10.0) as ramp:  # degC, K/s
        async for frame in lab.camera.frames(until=ramp):
            if frame.number % 5000 == 0:
                print(f"  frame {frame.number:>6}: {frame['heater.temperature']:6.1f} degC")
    await warm
    await run.hold(8)  # s

    run.note("argon out, hydrogen in")
    await lab.argon_valve.close()
    await lab.hydrogen_valve.open()
    await lab.hydrogen.set(5.0)  # sccm
    await lab.argon.close()
    await run.hold(12)

    levels = np.concatenate([np.linspace(0, 1, 11), np.linspace(0.8, -1, 10), np.linspace(-0.8, 0, 5)])  # V
    curve = await lab.bias.sweep("voltage", [float(v) for v in levels], compliance=0.01, dwell=0.1)  # A, s
    slope = np.polyfit(curve.current, curve.voltage, 1)[0]
    print(f"  I-V curve of {len(levels)} points: {slope:.0f} Ohm")

    await lab.heater.off()  # quench
    await run.hold(8)


async def main(lab_file: str | Path = "lab.toml", directory: str | Path = "runs") -> Run:
    """Open the lab, record the experiment; every device ends in its safe state."""
    async with GasCell.open(lab_file) as lab:
        async with lab.record(directory, sample="Au on SiNx 12", user="demo") as run:
            await experiment(lab, run)
        return run


if __name__ == "__main__":
    print(asyncio.run(main()).summary())
