"""Film the sample while it heats; a bad vacuum stops everything."""

import asyncio

from hal import Lab
from hal.capabilities import Camera, Gauge, Heater


class InSitu(Lab):
    """What this experiment needs of the lab."""

    heater: Heater
    camera: Camera
    gauge: Gauge


async def main() -> None:
    async with InSitu.open("lab.toml") as lab:  # always ends in the safe state
        lab.interlock(lab.gauge.pressure.below(1e-3))  # Pa
        async with lab.record("runs", sample="Au on SiNx 12") as run:  # every signal, every frame
            async with lab.heater.ramp(to=60.0, rate=10.0) as ramp:  # degC, K/s
                async for frame in lab.camera.frames(until=ramp):  # a view; recording never waits for it
                    print(frame.number, frame["heater.temperature"])
            await run.hold(2)  # s
        print(run.summary())


if __name__ == "__main__":
    asyncio.run(main())  # in a notebook: await main()
