"""Print every reading of the lab as it arrives: MQTT and JSON are all it knows.

python examples/dashboard.py HOST [PORT [COUNT]]
"""

import asyncio
import json
import sys

import aiomqtt


async def main(host: str = "localhost", port: int = 1883, count: int = 0) -> None:
    async with aiomqtt.Client(host, port) as client:
        await client.subscribe("insitu/+/+/+")  # lab / device / signal: readings and nothing else
        async for message in client.messages:
            _, lab, device, signal = str(message.topic).split("/")
            reading = json.loads(message.payload)
            value = "unknown" if reading["value"] is None else reading["value"]
            value = f"{value:.6g}" if isinstance(value, float) else value
            trust = "" if reading["quality"] == "good" else f"  ({reading['quality']}: {reading['reason']})"
            print(f"{lab}  {device + '.' + signal:<24} {value!s:>14} {reading['unit']}{trust}", flush=True)
            if (count := count - 1) == 0:
                return


with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # aiomqtt needs this kind of loop on Windows
    runner.run(main(*sys.argv[1:2], *map(int, sys.argv[2:])))
