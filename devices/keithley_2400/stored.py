"""What an emulated Keithley 2400 keeps and answers without acting on it: mathematics, limits, digital output.

Headers from the User's Manual, 2400S-900-01 Rev. K, tables 18-1 to 18-9. Of the mathematics only the expression
"POWER" is worked out; limit tests compare and never bin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hal.protocols.scpi import Entry, setting
from hal.protocols.scpi_parameters import NAN, Boolean, Choice, Kind, Numeric, ScpiError, Text

MATH = ('"POWER"', '"OFFCOMPOHM"', '"VOLTCOEF"', '"VARALPHA"')
LIMITS = (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12)
"""Limit tests: 1 is of the compliance; 4 is the contact check of other models."""
BITS = Numeric(0, 15, 15, whole=True)
RAW = Text("", bare=True)


def table(
    values: dict[str, Any], latest: Callable[[], Mapping[str, float]], limited: Callable[[], bool]
) -> Iterator[Entry]:
    """Entries; `latest`: the last reading, `limited`: whether it was in compliance. Raise `ScpiError`."""

    def keep(header: str, key: str, kind: Kind) -> Entry:
        return setting(header, key, kind, values)

    yield from _mathematics(values, latest, keep)
    yield from _limits(values, latest, limited, keep)
    yield keep(":SOURce2:TTL[:LEVel][:DEFault]", "ttl", BITS)
    yield Entry(":SOURce2:TTL[:LEVel]:ACTual", read=lambda: str(round(values["ttl"])))
    yield keep(":SOURce2:BSIZe", "ttl size", Numeric(3, 16, 4, whole=True))
    yield Entry(":SOURce2:CLEar[:IMMediate]", write=lambda: values.update(ttl=15.0))
    yield keep(":SOURce2:CLEar:AUTO", "ttl clear", Boolean())
    yield keep(":SOURce2:CLEar:AUTO:DELay", "ttl delay", Numeric(0, 60, 1e-4, "S"))
    yield keep(":FORMat:SREGister", "registers", Choice(("ASCii", "HEXadecimal", "OCTal", "BINary"), "ASC"))
    yield keep(":FORMat:SOURce2", "ttl format", Choice(("ASCii", "HEXadecimal", "OCTal", "BINary"), "ASC"))
    elements = Choice(("CALCulate", "TIME", "STATus"), "CALC")
    yield Entry(
        ":FORMat:ELEMents:CALCulate", lambda *e: values.update({"calculated": ",".join(e)}),
        lambda: str(values.setdefault("calculated", "CALC")), (elements,), rest=elements,
    )  # fmt: skip
    memory = Numeric(1, 100, 1, whole=True)
    yield keep(":SOURce[1]:MEMory:POINts", "memory points", memory)
    yield keep(":SOURce[1]:MEMory:STARt", "memory start", memory)
    yield Entry(":SOURce[1]:MEMory:SAVE", write=lambda _: None, takes=(memory,))
    yield keep(":SOURce[1]:SWEep:CABort", "sweep abort", Choice(("NEVer", "EARLy", "LATE"), "NEV"))
    for name, low, top in (("VOLTage[:DC]", 0.2, 210.0), ("CURRent[:DC]", 1e-6, 1.05), ("RESistance", 2.1, 2.1e8)):
        root = f"[:SENSe[1]]:{name}:RANGe"
        yield keep(f"{root}:AUTO:LLIMit", f"least {name}", Numeric(-top, top, low))
        yield keep(f"{root}:AUTO:ULIMit", f"most {name}", Numeric(-top, top, top))
        yield keep(f"{root}:HOLDoff[:STATe]", f"hold {name}", Boolean())
        yield keep(f"{root}:HOLDoff:DELay", f"hold time {name}", Numeric(0, 10, 0.005, "S"))
    for layer, kinds in (("TRIGger", ("SOURce", "DELay", "SENSe", "NONE")), ("ARM", ("NONE",))):
        for tail in ("", "[:TCONfigure][:ASYNchronous]"):
            header = f":{layer}[:SEQuence[1]][:LAYer[1]]{tail}:INPut"
            yield keep(header, f"{layer} input", Choice(kinds, kinds[0]))
    for header, key, kind in (
        ("POSetup", "power-on", Choice(("RST", "PRESet", "SAV0", "SAV1", "SAV2", "SAV3", "SAV4"), "RST")),
        ("KEY", "key", Numeric(1, 31, 1, whole=True)),
        ("AZERo:CACHing[:STATe]", "zero cache", Boolean(True)),
        ("MEP[:STATe]", "mep", Boolean(True)),
    ):
        yield keep(f":SYSTem:{header}", key, kind)
    for header in (":SYSTem:AZERo:CACHing:REFResh", ":SYSTem:AZERo:CACHing:RESet"):
        yield Entry(header, write=lambda: None)
    yield Entry(":SYSTem:AZERo:CACHing:NPLCycles", read=lambda: "1.00")
    for name in ("ENABle", "DISable"):
        yield keep(
            f":STATus:QUEue:{name}", f"queue {name}", Text("(-440:+900)" if name == "ENABle" else "()", bare=True)
        )
    yield Entry(":DISPlay[:WINDow#]:ATTRibutes", read=lambda _: '"' + "0" * 20 + '"')
    yield Entry(":DISPlay[:WINDow#]:DATA", read=lambda _: '"' + " " * 20 + '"')


def _mathematics(
    values: dict[str, Any], latest: Callable[[], Mapping[str, float]], keep: Callable[[str, str, Kind], Entry]
) -> Iterator[Entry]:
    values["expression"] = "POWER"

    def define(name: str) -> None:
        values["expression"] = name.strip("\"'").upper()

    def result() -> str:
        if not values["math"]:
            raise ScpiError(-230)
        found = latest()
        worked_out = values["expression"] == "POWER" and NAN not in (found["VOLT"], found["CURR"])
        return f"{found['VOLT'] * found['CURR'] if worked_out else NAN:+.6E}"

    root = ":CALCulate[1]"
    yield Entry(f"{root}:MATH[:EXPRession]:NAME", define, lambda: f'"{values["expression"]}"', (RAW,))
    yield Entry(f"{root}:MATH[:EXPRession][:DEFine]", define, lambda: str(values["expression"]), (RAW,))
    yield Entry(f"{root}:MATH[:EXPRession]:CATalog", read=lambda: ",".join(MATH))
    for tail in ("", ":SELected"):
        yield Entry(f"{root}:MATH[:EXPRession]:DELete{tail}", write=lambda _: None, takes=(RAW,))
    yield keep(f"{root}:MATH:UNITs", "math unit", Text("W"))
    yield keep(f"{root}:STATe", "math", Boolean())
    yield Entry(f"{root}:DATA[:LATest]", read=result)


def _limits(
    values: dict[str, Any], latest: Callable[[], Mapping[str, float]], limited: Callable[[], bool],
    keep: Callable[[str, str, Kind], Entry],
) -> Iterator[Entry]:  # fmt: skip
    def fed() -> float:
        found = latest()
        source: str = values["fed"]
        value = found.get(source, NAN)
        return value - values["null"] if values["null on"] and value != NAN else value

    def fails(n: int) -> str:
        if not values[f"limit {n}"]:
            return "0"
        if n == 1:
            return str(int(limited() == (values["compliance fails"] == "IN")))
        return str(int(not values[f"lower {n}"] <= fed() <= values[f"upper {n}"]))

    root = ":CALCulate2"
    yield keep(f"{root}:FEED", "fed", Choice(("CALCulate[1]", "VOLTage", "CURRent", "RESistance"), "VOLT"))
    yield keep(f"{root}:NULL:OFFSet", "null", Numeric(-9.999999e20, 9.999999e20, 0.0))
    yield keep(f"{root}:NULL:STATe", "null on", Boolean())
    yield Entry(f"{root}:NULL:ACQuire", write=lambda: values.update(null=latest().get(values["fed"], 0.0)))
    for tail in ("", ":LATest"):
        yield Entry(f"{root}:DATA{tail}", read=lambda: f"{fed():+.6E}")
    yield keep(f"{root}:LIMit[1]:COMPliance:FAIL", "compliance fails", Choice(("IN", "OUT"), "IN"))
    yield keep(f"{root}:LIMit[1]:COMPliance:SOURce2", "compliance pattern", BITS)
    for n in LIMITS:
        limit = f"{root}:LIMit{'[1]' if n == 1 else n}"
        yield keep(f"{limit}:STATe", f"limit {n}", Boolean())
        yield Entry(f"{limit}:FAIL", read=lambda n=n: fails(n))
        for side, default in (("UPPer", 1.0), ("LOWer", -1.0)) if n > 1 else ():
            number = Numeric(-9.999999e20, 9.999999e20, default)
            yield keep(f"{limit}:{side}[:DATA]", f"{side.lower()} {n}", number)
            yield keep(f"{limit}:{side}:SOURce2", f"{side} pattern {n}", BITS)
        if n > 1:
            yield keep(f"{limit}:PASS:SOURce2", f"pass {n}", BITS)
    composite = f"{root}:CLIMits"
    for tail in ("PASS", "FAIL"):
        yield keep(f"{composite}:{tail}:SOURce2", f"composite {tail}", BITS)
    yield keep(f"{composite}:PASS:SMLocation", "location", Text("NEXT", bare=True))
    yield keep(f"{composite}:BCONtrol", "binning", Choice(("IMMediate", "END"), "IMM"))
    yield keep(f"{composite}:MODE", "grading", Choice(("GRADing", "SORTing"), "GRAD"))
    yield Entry(f"{composite}:CLEar[:IMMediate]", write=lambda: None)
    yield keep(f"{composite}:CLEar:AUTO", "composite clear", Boolean(True))
