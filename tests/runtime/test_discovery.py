"""Asking who is there: every model can be asked, whatever its lab file would have to say."""

from __future__ import annotations

import pytest

from devices.physics import World
from devices.thorlabs_kdc101.emulator import Kdc101Emulator
from hal.instrument.bench import Bench
from hal.instrument.serving import PtyPort
from hal.runtime import discovery, registry


@pytest.mark.parametrize("model", registry.known())
def test_every_model_can_be_asked_without_a_lab_file(model: str) -> None:
    cls = registry.driver(model)
    cls.Options(**cls.asks_with)


@pytest.mark.real_clock
async def test_a_controller_whose_stage_only_a_person_knows_is_found_nevertheless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = {name: registry.known()[name] for name in ("eurotherm_3216", "thorlabs_kdc101")}
    monkeypatch.setattr(registry, "known", lambda: two)  # the others would hear nothing either
    world = World()
    port = await PtyPort(Bench(world).wire([Kdc101Emulator(world)], "serial")).open()
    try:
        for _ in range(10):  # a machine that is held up for half a second does not hear it
            if found := await discovery.ask(port.url):
                break
    finally:
        await port.close()
    assert [answer["driver"] for answer in found] == ["thorlabs_kdc101"]
