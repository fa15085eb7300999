"""What the board's codes mean to a person, and what to do."""

from __future__ import annotations

from hal.protocols import firmware_gen as gen
from hal.protocols.firmware_gen import Fault, Refusal, TedsState

FAULTS = {
    Fault.NONE: "no fault",
    Fault.LEASE: "no heartbeat within the lease",
    Fault.SENSOR_OPEN: "the thermometer's wire is broken",
    Fault.SENSOR_SHORT: "the thermometer is shorted",
    Fault.SENSOR_RANGE: "the thermometer reads what can't be",
    Fault.SENSOR_RATE: "the temperature changed faster than it can",
    Fault.OVER_TEMPERATURE: "over-temperature",
    Fault.PRESSURE_STEP: "a pressure step",
    Fault.LEVEL: "an interlock's signal left its range",
    Fault.INTERLOCK_INPUT: "an interlock input is not as it must be",
    Fault.ON_TIME: "the heater was on for too long",
    Fault.TEDS_DAMAGED: "the holder's TEDS is damaged",
    Fault.CONTROL_LATE: "the control loop came late",
    Fault.COMMANDED: "the host asked for a fault",
    Fault.ADC_DEAD: "the converter of a watched input gives no value",
    Fault.HOLDER: "the holder was exchanged, or its EEPROM does not answer",
    Fault.LOOP_BREAK: "the thermometer does not feel the heater: it is reversed, shorted or has come off",
}

REFUSALS = {
    Refusal.UNKNOWN: "no such command",
    Refusal.MALFORMED: "its content does not fit",
    Refusal.NO_SESSION: "it knows no session; it has started anew: look after the specimen, then go on",
    Refusal.READ_ONLY: "its messages are not this program's; flash firmware that fits",
    Refusal.STATE: "not in this state; look at `state` and `fault`, after a fault: clear_fault()",
    Refusal.RANGE: "a value is outside its limits",
    Refusal.NONCE: "the nonce was old; arm again",
    Refusal.LEASE: "no heartbeat within the lease; no program may block the event loop for half a second",
    Refusal.TEDS: "the holder's TEDS is not in force; see its state",
    Refusal.INTERLOCK: "an interlock is not met; see its inputs",
    Refusal.SENSOR: "no thermometer, or it is not well; check its wires and the holder's TEDS",
    Refusal.BUSY: "still at an earlier one; wait",
    Refusal.FULL: "no more room",
    Refusal.NO_CAPABILITY: "this board does not have it",
    Refusal.INCOMPLETE: "it was not loaded whole",
    Refusal.CHECKSUM: "the checksum does not match",
    Refusal.STALE: "its number is of long ago; it was not carried out now, whether it was then is not known: look",
    Refusal.UNPROTECTED: "its interlocks are not those of this program (a reset, another host?); they are set anew, "
    "arm again",
    Refusal.HOLDER: "the holder is not the one that this program has read: it was exchanged, or written; it is read "
    "anew, look at it and try again",
}

HEATING = "outside the limits of the holder's TEDS or of the heater's settings"
RANGES: dict[type, str] = {
    gen.HeaterConfig: HEATING,
    gen.HeaterSet: HEATING,
    gen.HeaterOutput: HEATING,
    gen.SamplesStart: "faster than 20,000 samples a second of all inputs together, or slower than one in 10 s",
    gen.InterlockSet: "nothing could trip this interlock, or there is no such input",
    gen.ProfileBegin: "a profile has 1 to 64 segments",
    gen.ProfileSegments: "a segment takes 1 ms to a week, and they come in order",
    gen.ProfileStart: "a value is outside what its target allows (for the heater: the holder's TEDS and the settings), "
    "or the tick has passed",
    gen.Trigger: "its tick has passed, or its pulses have no width or no time between them",
    gen.ClearFault: "another fault is latched by now; look at `fault`",
}
"""What RANGE means, by command."""
NO_SHEET = "a number in this data sheet can't be: see its sensor, inputs, gains and temperatures; nothing was written"

TEDS = {
    TedsState.BLANK: "the holder's TEDS is blank",
    TedsState.VALID: "the holder's TEDS is whole",
    TedsState.DAMAGED: "the holder's TEDS is damaged; write it anew",
    TedsState.WRITING: "the holder's TEDS is being written; wait",
    TedsState.READING: "the holder was exchanged, or its contacts are loose: its EEPROM is being read anew",
    TedsState.ABSENT: "no holder answers; plug one in, or check the wires of its EEPROM",
}
