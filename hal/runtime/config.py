"""The lab file: TOML, checked whole before anything is opened.

Every mistake is reported at once, each with the file, the key, what is wrong and what would be
right. `schema()` gives the same rules as JSON Schema, for editors.
"""

from __future__ import annotations

import tomllib
from contextlib import suppress
from copy import deepcopy
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from math import inf
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ..errors import ConfigError, UnitError, near
from ..instrument.camera import CameraInstrument
from ..instrument.instrument import Instrument
from ..model.calibrated import Calibration
from ..model.capabilities import FrameClock, Teds
from ..model.limits import Limits, parse_limits
from ..model.safety import parse_condition
from ..model.signal import SignalR, SignalRW
from ..telemetry.broker import without_passwords
from ..transport.link import SCHEMES, UNREAL, parse_url
from ..units import factors
from . import registry, telemetry_entry
from .calibration_entry import CalibrationEntry
from .lab_file import DeviceEntry, HolderEntry, LabFile, LinkEntry
from .mistakes import link_meant, not_toml, sentence, told


@dataclass(frozen=True)
class LabConfig:
    """A checked lab file with its drivers."""

    path: Path
    text: str
    file: LabFile
    drivers: dict[str, type[Instrument]]
    options: dict[str, Any]
    limits: dict[str, dict[str, tuple[tuple[Limits, str], ...]]]
    """By device and signal: the limits to add, each with who set them."""
    guards: list[tuple[str, str, Limits, str]]
    """Readbacks the holder limits: device, signal, limits in the signal's unit, who set them."""
    calibrations: dict[str, dict[str, Calibration]] = field(default_factory=dict)
    """By device and raw signal: the certificates that are applied. A device whose holder may bring one is among them,
    without any as long as the file names none."""

    def link_of(self, device: str) -> tuple[str, LinkEntry]:
        """The key and entry of a device's link; devices with the same key share a session."""
        entry = self.file.devices[device]
        if entry.link in self.file.links:
            return entry.link, self.file.links[entry.link]
        inline = LinkEntry(url=entry.link, on_link_lost=entry.on_link_lost, within=entry.within)
        # An unnamed emulator is nobody else's; a real port named twice is the same port.
        key = f"{entry.link.partition(':')[0]}:{device}" if entry.link.startswith(UNREAL) else entry.link
        return key, inline


def schema() -> dict[str, Any]:
    """JSON Schema of the lab file."""
    out = LabFile.model_json_schema(by_alias=True)
    out["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    out["title"] = "insitu-hal lab file"
    return out


def load(path: str | Path) -> LabConfig:
    """Read and check a lab file. Raises `ConfigError` with every mistake found."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the path of a lab file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    return parse(text, path)


def parse(text: str, path: str | Path = "lab.toml") -> LabConfig:
    """Check the text of a lab file. Raises `ConfigError` with every mistake found."""
    path = Path(path)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {not_toml(error, text)}") from None
    try:
        file = LabFile.model_validate(raw)
    except ValidationError as error:
        problems = list(dict.fromkeys(sentence(problem) for problem in error.errors()))
        rest = _without(raw, error.errors())
        if rest is not None:  # what else is wrong with the keys that can be read
            checker = _Checker(path, text, LabFile.model_validate(rest))
            with suppress(ConfigError):
                checker.check()
            problems += [problem for problem in checker.problems if problem not in problems]
        raise told(path, problems) from None
    return _Checker(path, text, file).check()


class _Checker:
    def __init__(self, path: Path, text: str, file: LabFile) -> None:
        self.path, self.text, self.file = path, text, file
        self.problems: list[str] = []
        self.drivers: dict[str, type[Instrument]] = {}
        self.options: dict[str, Any] = {}
        self.limits: dict[str, dict[str, tuple[tuple[Limits, str], ...]]] = {}
        self.guards: list[tuple[str, str, Limits, str]] = []
        self.calibrations: dict[str, dict[str, Calibration]] = {}

    def check(self) -> LabConfig:
        for name, link in self.file.links.items():
            self._attempt(f"links.{name}.url", _check_url, link.url)
        for name, entry in self.file.devices.items():
            cls = self._attempt(f"devices.{name}.driver", registry.driver, entry.driver, self.path.parent)
            if cls is not None:
                self.drivers[name] = cls
                self._device(name, entry, cls)
        self._shared_links()
        self._frame_clocks()
        names: set[str] = set()
        for number, interlock in enumerate(self.file.interlocks):
            self._attempt(f"interlocks[{number}].keep", self.condition, interlock.keep)
            if interlock.name in names:
                self.problems.append(f"interlocks[{number}].name: {interlock.name!r} is taken; name it otherwise")
            names.add(interlock.name)
        if self.file.holder is not None:
            self._holder(self.file.holder)
        if self.file.telemetry is not None:
            telemetry_entry.check(
                self.file.telemetry, self.path.parent, self.drivers, self._signal, self._attempt, self.problems
            )
        if self.problems:
            raise told(self.path, self.problems)
        text = without_passwords(self.text)  # every record keeps it
        return LabConfig(
            self.path, text, self.file, self.drivers, self.options, self.limits, self.guards, self.calibrations
        )

    def condition(self, text: str) -> None:
        device, name, _, _, unit = parse_condition(text)
        if device not in self.file.devices:
            raise ConfigError(f"{device!r} is no device here{near(device, self.file.devices)}")
        if device not in self.drivers:
            return
        signal = self._signal(device, name)
        if signal.dtype not in (float, int, bool):
            raise ConfigError(f"{device}.{name} is a {signal.dtype.__name__}; an interlock compares numbers")
        factors(unit or signal.unit, signal.unit)

    def _shared_links(self) -> None:
        """A link is lost as a whole: what is to happen then must be said once. A serial port has one user."""
        ports: dict[str, str] = {}
        for key, link in self.file.links.items():
            if link.url.startswith("serial:") and ports.setdefault(_port(link.url), key) != key:
                self.problems.append(f"links.{key}.url: is the port of links.{ports[_port(link.url)]}; use that one")
        first: dict[str, tuple[str, DeviceEntry]] = {}
        for name, entry in self.file.devices.items():
            if entry.link in self.file.links:
                for key in sorted({"on_link_lost", "within"} & entry.model_fields_set):
                    self.problems.append(f"devices.{name}.{key}: belongs to links.{entry.link}; write it there")
                continue
            if entry.link.startswith(UNREAL):
                continue
            port = _port(entry.link)
            if port in ports:
                self.problems.append(
                    f'devices.{name}.link: is the wire of links.{ports[port]}; write link = "{ports[port]}"'
                )
                continue
            other, same = first.setdefault(port, (name, entry))
            if same.link != entry.link:
                self.problems.append(
                    f"devices.{name}.link: {other} is on the same port with other settings; give the port an entry of "
                    "its own in [links], and both its name"
                )
                continue
            if (same.on_link_lost, same.within) != (entry.on_link_lost, entry.within):
                self.problems.append(
                    f"devices.{name}.on_link_lost: {other} is on the same link and says otherwise; "
                    "give the link an entry of its own in [links] and say it there"
                )

    def _frame_clocks(self) -> None:
        """A camera's frame pulses go to one input of one device that can stamp them."""
        taken: dict[tuple[str, int], str] = {}
        for name, entry in self.file.devices.items():
            key, cls = f"devices.{name}", self.drivers.get(name)
            for word in sorted({"frame_clock", "frame_input"} & entry.model_fields_set):
                if cls is not None and not issubclass(cls, CameraInstrument):
                    self.problems.append(f"{key}.{word}: belongs to a camera, and a {cls.model} is none")
                elif word == "frame_input" and entry.frame_clock is None:
                    self.problems.append(f'{key}.frame_input: of which device? write frame_clock = "device" too')
            clock = entry.frame_clock
            if clock is None:
                continue
            if clock not in self.file.devices:
                self.problems.append(f"{key}.frame_clock: {clock!r} is no device here{near(clock, self.file.devices)}")
            elif clock in self.drivers and FrameClock not in self.drivers[clock].provides:
                able = [n for n, d in self.drivers.items() if FrameClock in d.provides]
                self.problems.append(
                    f"{key}.frame_clock: {clock} ({self.drivers[clock].model}) is no FrameClock; "
                    f"{', '.join(able) or 'no device here'} can stamp pulses"
                )
            place = clock, entry.frame_input or 0
            other = taken.setdefault(place, name)
            if other != name:
                self.problems.append(
                    f"{key}.frame_input: input {place[1]} of {clock} is that of {other}; give each camera its own"
                )

    def _device(self, name: str, entry: DeviceEntry, cls: type[Instrument]) -> None:
        key = f"devices.{name}"
        if entry.link not in self.file.links:
            if ":" not in entry.link:
                what = link_meant(entry.link) or " nor a URL such as serial:///dev/ttyUSB0"
                self.problems.append(
                    f"{key}.link: {entry.link!r} is {'no' if link_meant(entry.link) else 'neither an'} entry of [links]"
                    f"{near(entry.link, self.file.links)}{what}"
                )
                return
            self._attempt(f"{key}.link", _check_url, entry.link, cls)
        url = self.file.links[entry.link].url if entry.link in self.file.links else entry.link
        scheme = url.partition(":")[0]
        if scheme in SCHEMES and scheme not in (*cls.wires, "emulator"):
            self.problems.append(f"{key}.link: a {cls.model} is reached by {' or '.join(cls.wires)}, not by {scheme}")
        if isinstance(entry.calibration, str) and not (self.path.parent / entry.calibration).is_file():
            self.problems.append(f"{key}.calibration: there is no file {self.path.parent / entry.calibration}")
        elif isinstance(entry.calibration, str):
            from .calibration import refuse_curve

            self._attempt(f"{key}.calibration", refuse_curve, self.path.parent / entry.calibration)
        if Teds in cls.provides:
            self.calibrations.setdefault(name, {})
        if isinstance(entry.calibration, dict):
            for signal_name, given in entry.calibration.items():
                self._attempt(f"{key}.calibration.{signal_name}", self._calibration, name, signal_name, given)
        self._options(key, name, entry, cls)
        for signal_name, text in entry.limits.items():
            self._attempt(f"{key}.limits.{signal_name}", self._narrow, name, signal_name, text, f"{self.path.name}")
        for signal_name in entry.poll:
            self._attempt(f"{key}.poll.{signal_name}", self._signal, name, signal_name)

    def _calibration(self, device: str, signal_name: str, given: str | CalibrationEntry) -> None:
        from .calibration import stated

        how = CalibrationEntry(certificate=given) if isinstance(given, str) else given
        signal = self._signal(device, signal_name)
        signers = self.file.calibration.signed_by
        found = stated(self.path.parent, how.certificate, how.override, signal, signers)
        self.calibrations.setdefault(device, {})[signal_name] = found

    def _options(self, key: str, name: str, entry: DeviceEntry, cls: type[Instrument]) -> None:
        assert is_dataclass(cls.Options)
        known = [f.name for f in fields(cls.Options)]
        unknown = [k for k in entry.options if k not in known]
        for wrong in unknown:
            everything = [*known, *DeviceEntry.model_fields]
            self.problems.append(
                f"{key}.{wrong}: unknown key{near(wrong, everything)}; {cls.model or cls.__name__} knows "
                + (", ".join(known) or "no options of its own")
            )
        if unknown:
            return
        hints = get_type_hints(cls.Options)
        values: dict[str, Any] = {}
        for option, given in entry.options.items():
            try:
                values[option] = TypeAdapter(hints[option]).validate_python(given)
            except ValidationError as error:
                for problem in error.errors():
                    self.problems.append(f"{key}.{option}: {problem['msg']} (got {problem['input']!r})")
        needed = [f.name for f in fields(cls.Options) if f.default is MISSING and f.default_factory is MISSING]
        for option in needed:
            if option not in entry.options:
                self.problems.append(f"{key}.{option}: is missing; {cls.model or cls.__name__} needs it")
        if len(values) == len(entry.options) and all(option in values for option in needed):
            try:
                self.options[name] = cls.Options(**values)
            except (TypeError, ValueError) as error:
                self.problems.append(f"{key}: {error}")

    def _narrow(self, device: str, signal_name: str, text: str, by: str) -> None:
        signal = self._signal(device, signal_name)
        if not isinstance(signal, SignalRW):
            raise ConfigError(f"{signal_name} can only be read; limits apply to {self._limited(device)}")
        if signal.dtype not in (float, int):
            raise ConfigError(f"{signal_name} is no number; limits apply to {self._limited(device)}")
        limits = parse_limits(text, signal.unit)
        own = signal.driver_limits
        if limits.low > own.high or limits.high < own.low:
            raise ConfigError(f"{text!r} leaves nothing of the instrument's own {own.shown(signal.unit)}")
        slack = 1e-9 * max(abs(end) for end in (own.low, own.high, 1.0) if end not in (inf, -inf))
        # 673.15 K is 400 degC, whatever the last digit says.
        if -inf < limits.low < own.low - slack or own.high + slack < limits.high < inf:
            raise ConfigError(
                f"{text!r} goes beyond the instrument's own {own.shown(signal.unit)}; it may only narrow them"
            )
        self._add(device, signal_name, limits, by)

    def _limited(self, device: str) -> str:
        numbers = [
            n for n, s in _signals(self.drivers[device]).items() if isinstance(s, SignalRW) and s.dtype in (float, int)
        ]
        return ", ".join(numbers) or "nothing here"

    def _add(self, device: str, name: str, limits: Limits, by: str) -> None:
        """Limit a signal further; what is then allowed must not be nothing."""
        signals = self.limits.setdefault(device, {})
        both = limits
        for before, other in signals.get(name, ()):
            both = both.narrowed(before)
            if both.low > both.high:
                raise ConfigError(f"leaves nothing of what {other} allows {device}.{name}")
        signals[name] = (*signals.get(name, ()), (limits, by))

    def _holder(self, holder: HolderEntry) -> None:
        by = f"holder {holder.name!r}"
        for role, device in holder.parts.items():
            if not isinstance(device, str):
                hint = near(role, HolderEntry.model_fields)
                self.problems.append(f'holder.{role}: {device!r} is no device\'s name{hint}; write {role} = "device"')
            elif device not in self.file.devices:
                self.problems.append(
                    f"holder.{role}: {device!r} is no device here{near(str(device), self.file.devices)}"
                )
        parts = [d for d in holder.parts.values() if isinstance(d, str) and d in self.drivers]
        for quantity, text in holder.limits.items():
            found = False
            for device in parts:
                for name, signal in _signals(self.drivers[device]).items():
                    if isinstance(signal, SignalRW) and quantity in (name, signal.of):
                        found = True
                        self._attempt(f"holder.limits.{quantity}", self._narrow_within, device, name, text, by)
                    elif name == quantity and not isinstance(signal, SignalRW):
                        found = True
                        limits = self._attempt(f"holder.limits.{quantity}", parse_limits, text, signal.unit)
                        if limits is not None:
                            self.guards.append((device, name, limits, by))
            if not found:
                known = sorted({n for d in parts for n in _signals(self.drivers[d])})
                self.problems.append(
                    f"holder.limits.{quantity}: none of the holder's parts has it{near(quantity, known)}"
                )

    def _narrow_within(self, device: str, name: str, text: str, by: str) -> None:
        """As `_narrow`, but a holder may allow more than one of its instruments can do."""
        signal = self._signal(device, name)
        assert isinstance(signal, SignalRW)
        limits = parse_limits(text, signal.unit)
        allowed = limits.narrowed(signal.driver_limits)
        if allowed.low > allowed.high:
            raise ConfigError(f"{text!r} leaves nothing of {device}'s own {signal.driver_limits.shown(signal.unit)}")
        self._add(device, name, limits, by)

    def _signal(self, device: str, name: str) -> SignalR[Any]:
        signals = _signals(self.drivers[device])
        for raw, calibration in self.calibrations.get(device, {}).items():
            made = calibration.of(signals[raw])
            signals[made.name] = made
        if name not in signals:
            raise ConfigError(f"{device} has no signal {name!r}{near(name, signals)}; it has {', '.join(signals)}")
        return signals[name]

    def _attempt(self, key: str, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (ConfigError, UnitError) as error:
            self.problems.append(f"{key}: {error}")
            return None


def _without(raw: dict[str, Any], problems: Any) -> dict[str, Any] | None:
    """The file without the keys that can't be read; None if nothing sensible is left of it."""
    rest: dict[str, Any] = deepcopy(raw)
    for problem in problems:
        *way, last = problem["loc"]
        if problem["type"] == "missing" or not way or last == "[key]":
            return None
        place: Any = rest
        for step in way:
            place = place[step] if isinstance(place, (dict, list)) and step in _steps(place) else None
        if not isinstance(place, dict):
            return None
        place.pop(last, None)
    try:
        LabFile.model_validate(rest)
    except ValidationError:
        return None
    return rest


def _steps(place: dict[str, Any] | list[Any]) -> Any:
    return place if isinstance(place, dict) else range(len(place))


def _signals(cls: type[Instrument]) -> dict[str, SignalR[Any]]:
    found: dict[str, SignalR[Any]] = {}
    for base in reversed(cls.__mro__):
        found |= {name: member for name, member in vars(base).items() if isinstance(member, SignalR)}
    return found


def _port(url: str) -> str:
    """What can be opened once only: a serial port, however it is set."""
    return url.partition("?")[0] if url.startswith("serial:") else url


def _check_url(url: str, cls: type[Instrument] = Instrument) -> None:
    """Raise `ConfigError` unless a link can be made of it."""
    if meant := link_meant(url):
        raise ConfigError(f"{url!r} does not say what kind of link it is{meant}")
    address = parse_url(url)
    if address.scheme == "serial":
        if address.path.startswith("dev/"):
            raise ConfigError(f'link {url!r}: two slashes and that of the path; write "serial:///{address.path}"')
        from ..transport.serial import settings_from

        settings_from(address, cls.line)
