"""Set a signal of a lab from afar, as the holder of its lease: MQTT and JSON are all it knows.

MQTT_PASSWORD=... python examples/command.py HOST PORT USER LAB DEVICE SIGNAL VALUE
"""

import asyncio
import json
import os
import sys
import time
import uuid

import aiomqtt


async def main(host: str, port: str, user: str, lab: str, device: str, signal: str, value: str) -> None:
    async with aiomqtt.Client(host, int(port), username=user, password=os.environ["MQTT_PASSWORD"]) as client:
        await client.subscribe(f"insitu-meta/{lab}/replies/{user}", qos=1)

        async def ask(what: str, **fields: object) -> dict[str, str]:
            """Command, and return the answer to it."""
            command = {"schema": 1, "id": uuid.uuid4().hex} | fields
            await client.publish(f"insitu-meta/{lab}/commands/{user}/{what}", json.dumps(command), qos=1)
            async with asyncio.timeout(20):
                async for message in client.messages:
                    answer = json.loads(message.payload)
                    if answer["id"] == command["id"]:
                        print(answer["text"])
                        return answer
            raise ConnectionError("the broker is gone")

        taken = await ask("lease", action="take")
        if taken["ok"]:
            late = str(time.time_ns() + 5_000_000_000)  # in 5 s nobody wants it any more
            await ask(f"set/{device}/{signal}", value=json.loads(value), lease=taken["lease"], expires=late)
            await ask("lease", action="give", lease=taken["lease"])


with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # aiomqtt needs this kind of loop on Windows
    runner.run(main(*sys.argv[1:8]))
