"""The peripherals of an STM32F405 as far as the firmware uses them, on the stepped clock (RM0090, by chapter).

They do what the manual says of the registers the firmware touches, no more: what they accept is
not a proof that a chip does. Outputs are logged with their microsecond.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from unicorn_board import Part, UnicornBoard

BYTE_US = 11  # ten bits at 921600 baud, rounded up


class Rcc(Part):
    """7: clocks are ready at once; the cause of reset stays until it is cleared."""

    cause = 1 << 27 | 1 << 26  # power-on
    locks = True  # the PLL

    def read(self, offset: int) -> int:
        value = self.words.get(offset, 0)
        if offset == 0x00:
            return value | (value & (1 << 16 | self.locks << 24)) << 1
        if offset == 0x08:
            return value & ~0xC | (value & 3) << 2
        if offset == 0x74:
            return self.cause
        return value

    def write(self, offset: int, value: int) -> None:
        if offset == 0x74 and value & 1 << 24:
            self.cause = 0
        self.words[offset] = value


class Supply(Part):
    """5, 12: the voltage detector, and the interrupt line that its output drives."""

    VOLTS = 2.0, 2.1, 2.3, 2.5, 2.6, 2.7, 2.8, 2.9  # by PLS (5.4.1)

    def __init__(self, board: UnicornBoard) -> None:
        super().__init__(board)
        self.exti = Part(board)
        self._volts = 3.3

    @property
    def too_low(self) -> bool:
        control = self.words.get(0x00, 0)
        return bool(control & 1 << 4) and self._volts < self.VOLTS[control >> 5 & 7]

    @property
    def volts(self) -> float:
        return self._volts

    @volts.setter
    def volts(self, volts: float) -> None:
        before, self._volts = self.too_low, volts
        line = 1 << 16
        if self.too_low and not before and self.exti.words.get(0x08, 0) & self.exti.words.get(0x00, 0) & line:
            self.nvic.pending.add(1)

    def read(self, offset: int) -> int:
        return self.too_low << 2 if offset == 0x04 else self.words.get(offset, 0)


class Dac(Part):
    """14: two outputs; with its buffer on one comes no nearer to the rails than 0.2 V (DS8626, DAC characteristics)."""

    def volts(self, channel: int) -> float:
        """At its pin."""
        control, code = self.words.get(0x00, 0) >> 16 * channel, self.words.get(0x08 + 12 * channel, 0)
        plain = code / 4096 * 3.3
        return plain if control & 2 else min(max(plain, 0.2), 3.1)


class Rng(Part):
    """24: 32 random bits, the same at each run, others at each boot."""

    def read(self, offset: int) -> int:
        if offset == 0x04:
            return 1
        return (self.board.boots * 2654435761 & 0xFFFF_FFFF) if offset == 0x08 else self.words.get(offset, 0)


class Timer(Part):
    """18: an up-counter of 1 us with automatic reload, input capture on channels 1 and 2, compare output on 3."""

    def __init__(self, board: UnicornBoard, irq: int, first: int = 0) -> None:
        super().__init__(board)
        self.irq, self.first = irq, first
        self.level = 0
        self.output: list[tuple[int, int]] = []  # (counter, level) of channel 3

    def reset(self) -> None:
        self.words = {0x2C: 0xFFFF_FFFF}
        self.status = 0
        self.zero: int | None = None
        self._compare = self._generation = 0
        self._set_output(0)
        self.nvic.levels[self.irq] = lambda: bool(self.status & self.words.get(0x0C, 0))

    @property
    def counter(self) -> int:
        if self.zero is None:
            return 0
        return (self.clock.now - self.zero) % (self.words[0x2C] + 1)

    def read(self, offset: int) -> int:
        if offset == 0x10:
            return self.status
        if offset == 0x24:
            return self.counter
        if offset in (0x34, 0x38):
            self.status &= ~(2 << (offset - 0x34) // 4)  # reading a capture clears its flag
        return self.words.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        if offset == 0x10:
            self.status &= value
            return
        running = self.words.get(0x00, 0) & 1
        self.words[offset] = value
        if offset == 0x00 and value & 1 != running:
            self._generation += 1
            self.zero = self.clock.now - self.first if value & 1 else None
            if value & 1 and self.words[0x2C] != 0xFFFF_FFFF:
                self._reload_after(self.words[0x2C] + 1, self._generation)
        elif offset == 0x14 and value & 1:
            assert self.words.get(0x28, 0) in (0, 83), "timers count microseconds here"
            if self.zero is not None:
                self.zero = self.clock.now
            self.status |= 1
        elif offset in (0x3C, 0x1C):
            self._arm_compare()

    def _reload_after(self, period: int, generation: int) -> None:
        def update() -> None:
            if generation == self._generation:
                self.status |= 1
                self._reload_after(period, generation)

        assert self.zero is not None
        # From the last reload, not from now: late slices do not shift the timer.
        done = (self.clock.now - self.zero) // period + 1
        self.clock.at(self.zero + done * period, update)

    def capture(self, channel: int, rising: bool) -> None:
        """An edge at this channel's pin, now."""
        mode = self.words.get(0x20, 0) >> 4 * (channel - 1)
        edges = {0x0: (True,), 0x2: (False,), 0xA: (True, False)}.get(mode & 0xA, ())
        if not mode & 1 or rising not in edges or self.zero is None:
            return
        if self.status & 1 << channel:
            self.status |= 0x100 << channel
        self.words[0x30 + 4 * channel] = self.counter
        self.status |= 1 << channel

    def _arm_compare(self) -> None:
        mode = self.words.get(0x1C, 0) >> 4 & 7
        if mode in (4, 5):
            self._set_output(mode & 1)
        self._compare += 1
        this, target = self._compare, self.words.get(0x3C, 0)

        def match() -> None:
            if this == self._compare:
                self.status |= 8
                mode = self.words.get(0x1C, 0) >> 4 & 7
                if mode in (1, 2):
                    self._set_output(mode & 1)

        self.clock.after((target - self.counter) % (1 << 32) or 1 << 32, match)

    def _set_output(self, level: int) -> None:
        if level != self.level:
            self.level = level
            self.output.append((self.counter, level))


class Pwm(Part):
    """18: timer 3, whose first compare value is the heater; each change is logged with its time."""

    def reset(self) -> None:
        self.words = {}
        if not hasattr(self, "log"):
            self.log: list[tuple[int, int]] = [(0, 0)]
        self._set(0)

    def write(self, offset: int, value: int) -> None:
        self.words[offset] = value
        if offset == 0x34:
            self._set(value)

    def _set(self, value: int) -> None:
        if value != self.log[-1][1]:
            self.log.append((self.clock.now, value))

    @property
    def value(self) -> int:
        return self.log[-1][1]


class Adc(Part):
    """13: software-started single conversions; `counts` by input number, `answers` false for a dead one."""

    def __init__(self, board: UnicornBoard) -> None:
        super().__init__(board)
        self.counts = [0] * 19
        self.answers = True

    def write(self, offset: int, value: int) -> None:
        self.words[offset] = value
        if offset == 0x08 and value & 1 << 30 and value & 1 and self.answers:
            self.words[0x4C] = self.counts[self.words.get(0x34, 0) & 0x1F] & 0xFFF
            self.words[0x00] = self.words.get(0x00, 0) | 2

    def board_input(self, channel: int, counts: int) -> None:
        self.counts[(10, 11, 12, 13, 14, 15, 8, 9)[channel]] = counts


class Usart(Part):
    """30: bytes take their time in both directions; one that comes before the last was read is lost."""

    def reset(self) -> None:
        self.words = {}
        self.ready = self.overrun = False
        self.data = 0
        self.free = True
        self._coming: deque[int] = deque()
        self.sent = bytearray()
        self._generation = getattr(self, "_generation", 0) + 1
        self.nvic.levels[37] = self._line

    def _line(self) -> bool:
        control = self.words.get(0x0C, 0)
        return bool(control & 0x20 and (self.ready or self.overrun)) or bool(control & 0x80 and self.free)

    def read(self, offset: int) -> int:
        if offset == 0x00:
            return self.overrun << 3 | self.ready << 5 | self.free << 7
        if offset == 0x04:
            self.ready = self.overrun = False
            return self.data
        return self.words.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        self.words[offset] = value
        if offset == 0x04:
            self.sent.append(value & 0xFF)
            self.free = False
            self.clock.after(BYTE_US, self._sent)

    def _sent(self) -> None:
        self.free = True

    def send(self, data: bytes) -> None:
        """Bytes from the host, one after another, from now."""
        idle = not self._coming
        self._coming.extend(data)
        if idle and data:
            self._later()

    def _later(self) -> None:
        generation = self._generation
        self.clock.after(BYTE_US, lambda: self._arrived() if generation == self._generation else None)

    def _arrived(self) -> None:
        byte = self._coming.popleft()
        if self.ready:
            self.overrun = True
        else:
            self.data, self.ready = byte, True
        if self._coming:
            self._later()


class Gpio(Part):
    """8: output levels with set and reset bits; inputs are `pins`."""

    pins = 0

    def read(self, offset: int) -> int:
        return self.pins if offset == 0x10 else self.words.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        if offset == 0x18:
            self.words[0x14] = self.words.get(0x14, 0) & ~(value >> 16) | value & 0xFFFF
            self.changed()
        else:
            self.words[offset] = value

    def changed(self) -> None:
        pass


class PortB(Gpio):
    """Digital outputs on 12 to 15, an EEPROM on 6 and 7."""

    def __init__(self, board: UnicornBoard, eeprom: Eeprom | None) -> None:
        super().__init__(board)
        self.eeprom = eeprom

    @property
    def outputs(self) -> int:
        levels = self.words.get(0x14, 0) >> 12 & 0xF
        return sum(1 << n for n in range(4) if levels >> n & 1 and self.words.get(0, 0) >> 24 + 2 * n & 3 == 1)

    def changed(self) -> None:
        if self.eeprom is not None:
            levels = self.words[0x14]
            self.eeprom.lines(bool(levels & 1 << 6), bool(levels & 1 << 7))

    def read(self, offset: int) -> int:
        if offset == 0x10:
            level = self.words.get(0x14, 0)
            return level & ~(1 << 7) if self.eeprom is not None and self.eeprom.pulls else level
        return self.words.get(offset, 0)


class Eeprom:
    """An AT24C32 seen from its two pins (DS20006270, 5 to 8), with its 5 ms write time. A reset leaves it its power."""

    def __init__(self, board: UnicornBoard, content: bytes) -> None:
        self.clock = board.clock
        self.content = bytearray(content)
        self.pulls = False  # the data line low
        self.writes = 0
        self.gone = False  # pulled out, with the holder
        self.called: list[int] = []  # when
        self.longest = 0  # us from a call to its end
        self._scl = self._sda = True
        self._state = self._next = "idle"
        self._bits: list[bool] = []
        self._bytes: list[int] = []
        self._busy_until = self._address = self._out = 0

    def lines(self, scl: bool, let_go: bool) -> None:
        """The board's ends of the two lines; the data line is low if either end pulls it."""
        if self.gone:
            self._state, self.pulls = "idle", False
        sda = let_go and not self.pulls
        if scl and self._scl and sda != self._sda:
            self._stop() if sda else self._start()
        elif scl and not self._scl:
            self._rose(sda)
        elif self._scl and not scl:
            self._fell()
        self._scl, self._sda = scl, let_go and not self.pulls

    def _start(self) -> None:
        if self._state == "idle":
            self.called.append(self.clock.now)
        self._state, self._bits, self._bytes, self.pulls = "receive", [], [], False

    def _stop(self) -> None:
        if self._state == "receive" and len(self._bytes) > 3:
            page = self._address & ~31
            for n, byte in enumerate(self._bytes[3:]):
                self.content[page | (self._address + n) & 31] = byte
            self._busy_until = self.clock.now + 5000
            self.writes += 1
        if self.called:
            self.longest = max(self.longest, self.clock.now - self.called[-1])
        self._state, self.pulls = "idle", False

    def _rose(self, sda: bool) -> None:
        if self._state == "receive":
            self._bits.append(sda)
        elif self._state == "acknowledged?":
            self._next = "idle" if sda else "send"

    def _fell(self) -> None:
        match self._state:
            case "receive" if len(self._bits) == 8:
                self._received(sum(bit << 7 - n for n, bit in enumerate(self._bits)))
            case "acknowledge" | "acknowledged?":
                self._state, self._bits, self.pulls, self._out = self._next, [], False, 7
                if self._state == "send":
                    self.pulls = not self.content[self._address] >> 7 & 1
            case "send":
                self._out -= 1
                if self._out >= 0:
                    self.pulls = not self.content[self._address] >> self._out & 1
                else:
                    self._address = (self._address + 1) % len(self.content)
                    self._state, self.pulls = "acknowledged?", False

    def _received(self, byte: int) -> None:
        self._bytes.append(byte)
        if len(self._bytes) == 1 and (byte & 0xFE != 0xA0 or self.clock.now < self._busy_until):
            self._state = "idle"
            return
        if len(self._bytes) == 3:
            self._address = (self._bytes[1] << 8 | self._bytes[2]) % len(self.content)
        self._next = "send" if self._bytes == [0xA1] else "receive"
        self._state, self.pulls = "acknowledge", True


class Iwdg(Part):
    """21: not fed in time, it resets the board."""

    def reset(self) -> None:
        self.words = {}
        self._generation = getattr(self, "_generation", 0) + 1
        self.running = False

    def write(self, offset: int, value: int) -> None:
        self.words[offset] = value
        if offset == 0x00 and value == 0xCCCC:
            self.running = True
        if offset == 0x00 and value in (0xAAAA, 0xCCCC) and self.running:
            self._generation += 1
            this, period = self._generation, self.words.get(0x08, 0xFFF) * 1000  # 32 kHz / 32
            self.clock.after(period, lambda: self._bark(this))

    def _bark(self, this: int) -> None:
        if this == self._generation and isinstance(self.board, Stm32Board):
            self.board.reset_by(1 << 29)


class Stm32Board(UnicornBoard):
    """The board of docs/reference/firmware-boards.md, its pins in the test's hand."""

    def __init__(self, image: Path, *, eeprom: bytes | None = b"\xff" * 4096, first_tick: int = 0) -> None:
        super().__init__(image)
        self.rcc, self.adc, self.usart = Rcc(self), Adc(self), Usart(self)
        self.tim2, self.tim4, self.tim5 = Timer(self, 28, first_tick), Timer(self, 30), Timer(self, 50)
        self.pwm, self.iwdg = Pwm(self), Iwdg(self)
        self.port_a, self.port_c = Gpio(self), Gpio(self)
        self.eeprom = None if eeprom is None else Eeprom(self, eeprom)
        self.port_b = PortB(self, self.eeprom)
        self.dac, self.supply = Dac(self), Supply(self)
        for address, part in (
            (0x4002_3800, self.rcc), (0x5006_0800, Rng(self)), (0x4000_0000, self.tim2), (0x4000_0400, self.pwm),
            (0x4000_0800, self.tim4), (0x4000_0C00, self.tim5), (0x4000_3000, self.iwdg), (0x4000_7000, self.supply),
            (0x4000_7400, self.dac), (0x4001_3C00, self.supply.exti),
            (0x4001_1000, self.usart), (0x4001_2000, self.adc), (0x4002_0000, self.port_a),
            (0x4002_0400, self.port_b), (0x4002_0800, self.port_c),
        ):  # fmt: skip
            self.attach(address, part)
        self.reset()

    @property
    def heater(self) -> int:
        return self.pwm.value

    @property
    def heater_off_at(self) -> int:
        """Microsecond at which the heater last went off."""
        return next(time for time, value in reversed(self.pwm.log) if value == 0)

    def edge(self, channel: int, rising: bool) -> None:
        """An edge at a capture input, now."""
        self.port_a.pins = self.port_a.pins & ~(1 << channel) | rising << channel
        self.tim2.capture(channel + 1, rising)

    def reset_by(self, cause: int) -> None:
        self.reset()
        self.rcc.cause = cause | 1 << 26

    def software_reset(self) -> None:
        self.reset_by(1 << 28)
