"""What may stand in a lab file: its sections, their keys, and what each means."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .calibration_entry import CalibrationEntry, CalibrationsEntry
from .telemetry_entry import TelemetryEntry

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
OnLost = Literal["safe", "reconnect"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabEntry(_Entry):
    """The lab as a whole."""

    name: Name = Field("lab", description="Name of the lab, as in telemetry topics.")
    on_exit: Literal["safe", "hold"] = Field("safe", description="What a script's normal end leaves behind.")


class LinkEntry(_Entry):
    """A wire with a name, for instruments that share it."""

    url: str = Field(
        description="serial:///dev/ttyUSB0?baudrate=38400, tcp://host:port, visa://TCPIP::..., "
        "emulator: or firmware:posix"
    )
    on_link_lost: OnLost = Field("safe", description="Go to the safe state at once, or try to reconnect first.")
    within: float = Field(10.0, gt=0, description="Seconds to reconnect in, then the safe state all the same.")


class DeviceEntry(BaseModel):
    """One device; further keys are the driver's own options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    driver: str = Field(description='A name that `hal devices` lists, or "package.module:Class".')
    link: str = Field("emulator:", description="A link's URL, or the name of an entry of [links].")
    unit: int | str | None = Field(None, description="The instrument's address on a shared bus.")
    channel: int | str | None = Field(None, description="Which channel of the instrument.")
    limits: dict[str, str] = Field({}, description='Narrower limits by signal: setpoint = "20..400 degC".')
    poll: dict[str, Annotated[float, Field(gt=0)]] = Field({}, description="Seconds between readings, by signal.")
    calibration: str | dict[str, str | CalibrationEntry] | None = Field(
        None, description='Certificates by signal: temperature = "k.toml"; or the path of one that is only recorded.'
    )
    emulator: dict[str, Any] = Field({}, description="Settings of the device's emulator.")
    frame_clock: str | None = Field(None, description="Of a camera: the device that stamps its frame pulses.")
    frame_input: int | None = Field(None, ge=0, description="Of a camera: the capture input they go to (0).")
    on_link_lost: OnLost = "safe"
    within: float = Field(10.0, gt=0)

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the driver."""
        return dict(self.model_extra or {})


class HolderEntry(BaseModel):
    """What is in the gap: a name, its parts (role = "device"), limits of its own."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="What the holder is called.")
    serial: str = Field("", description="Its serial number.")
    limits: dict[str, str] = Field({}, description='Limits by quantity: temperature = "..800 degC".')

    @property
    def parts(self) -> dict[str, Any]:
        """Devices by role."""
        return dict(self.model_extra or {})


class InterlockEntry(_Entry):
    """A condition that must hold, else every device goes to its safe state."""

    name: Name
    keep: str = Field(description='"gauge.pressure < 1e-3 Pa"')
    for_at_least: float = Field(0.0, ge=0, description="Seconds of failure before it acts.")


class LabFile(_Entry):
    """A lab file, `schema = 1`."""

    version: Literal[1] = Field(alias="schema", description="Version of this format.")
    lab: LabEntry = LabEntry()
    links: dict[Name, LinkEntry] = {}
    devices: dict[Name, DeviceEntry] = Field(min_length=1)
    holder: HolderEntry | None = None
    interlocks: list[InterlockEntry] = []
    calibration: CalibrationsEntry = CalibrationsEntry()
    telemetry: TelemetryEntry | None = None
