"""Boards that a node can be built for, by amaranth-boards, and the top level that joins it to their pins."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import io

from gen import toolchain
from golden.spec import SpecError

RESET_CYCLES = 64
"""Of the node after the device was configured, and after its clock has come."""


@dataclass(frozen=True)
class Board:
    """``platform`` names a class of amaranth-boards, ``uart`` the kind of its serial line. Of the families ``ecp5`` and
    ``ice40`` bitstreams are built, for ``vivado`` and ``quartus`` the project is written. ``depth`` of a mailbox's
    queues, in words, is what the device has block RAM for. ``capacity`` names what it has, as its report does."""

    name: str
    platform: str
    family: str
    device: str
    clock: float
    baud: int
    depth: int
    capacity: Mapping[str, str]

    def create(self) -> Any:
        """The platform; :class:`~gen.toolchain.ToolError` without amaranth-boards."""
        toolchain.boards()
        module, _, name = self.platform.partition(":")
        return getattr(importlib.import_module(f"amaranth_boards.{module}"), name)()


ECP5 = {"luts": "TRELLIS_COMB", "ffs": "TRELLIS_FF", "brams": "DP16KD", "dsps": "MULT18X18D"}
ICE40 = {"luts": "ICESTORM_LC", "brams": "ICESTORM_RAM", "dsps": "ICESTORM_DSP"}

BOARDS = {
    b.name: b
    for b in (
        Board("ulx3s-85f", "ulx3s:ULX3S_85F_Platform", "ecp5", "LFE5U-85F", 25e6, 1_000_000, 512, ECP5),
        Board("ulx3s-25f", "ulx3s:ULX3S_25F_Platform", "ecp5", "LFE5U-25F", 25e6, 1_000_000, 512, ECP5),
        Board("ecpix5-85f", "ecpix5:ECPIX585Platform", "ecp5", "LFE5UM5G-85F", 100e6, 1_000_000, 512, ECP5),
        Board("icebreaker", "icebreaker:ICEBreakerPlatform", "ice40", "iCE40UP5K", 12e6, 1_000_000, 128, ICE40),
        Board("arty-a7-100", "arty_a7:ArtyA7_100Platform", "vivado", "XC7A100T", 100e6, 1_000_000, 512, {}),
        Board("de10-nano", "de10_nano:DE10NanoPlatform", "quartus", "5CSEBA6", 50e6, 1_000_000, 512, {}),
    )
}


@dataclass(frozen=True)
class Pll:
    """An EHXPLLL of ECP5: the clock is divided by ``reference``, multiplied by ``feedback``; the oscillator runs
    ``output`` times as fast."""

    reference: int
    feedback: int
    output: int

    OSCILLATOR = (400e6, 800e6)
    PHASE_DETECTOR = (3.125e6, 400e6)

    @classmethod
    def make(cls, source: float, wanted: float) -> "Pll":
        """Exactly the wanted frequency, both in Hz; :class:`~golden.spec.SpecError` where there is none."""
        for reference in range(1, 129):
            feedback = round(wanted * reference / source)
            low, high = cls.PHASE_DETECTOR
            if not (1 <= feedback <= 128 and low <= source / reference <= high):
                continue
            if source * feedback != wanted * reference:
                continue
            low, high = cls.OSCILLATOR
            found = [n for n in range(1, 129) if low <= wanted * n <= high]
            if found:  # the middle of the oscillator's range
                return cls(reference, feedback, min(found, key=lambda n: abs(wanted * n - (low + high) / 2)))
        raise SpecError(f"clock must be one that a PLL makes of {source / 1e6:g} MHz, not {wanted / 1e6:g} MHz")

    def instance(self, clkin: Any, clkout: Any, locked: Any) -> Instance:
        return Instance(
            "EHXPLLL",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_CLKI_DIV=self.reference,
            p_CLKFB_DIV=self.feedback,
            p_CLKOP_DIV=self.output,
            p_CLKOP_CPHASE=self.output - 1,
            p_CLKOP_FPHASE=0,
            p_CLKOP_ENABLE="ENABLED",
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=clkin,
            i_CLKFB=clkout,
            i_RST=0,
            i_STDBY=0,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=0,
            i_PHASESTEP=0,
            i_PHASELOADREG=0,
            i_PLLWAKESYNC=0,
            i_ENCLKOP=0,
            o_CLKOP=clkout,
            o_LOCK=locked,
        )


class Top(Elaboratable):
    """The module ``node`` at the board's serial line and clock, or a PLL's; reset for a while after configuration."""

    def __init__(self, pll: Pll | None = None):
        self._pll = pll

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        uart = platform.request("uart", 0, dir="-")
        clock = platform.request(platform.default_clk, dir="-")
        m.domains.sync = ClockDomain()
        m.domains.power = power = ClockDomain(reset_less=True)
        m.submodules.clk = pin = io.Buffer("i", clock)
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        running = Signal()
        if self._pll:
            m.submodules.pll = self._pll.instance(pin.i, power.clk, running)
        else:
            m.d.comb += [power.clk.eq(pin.i), running.eq(1)]
        left = Signal(range(RESET_CYCLES), init=RESET_CYCLES - 1)
        level = Signal(2)  # of the lock, which knows no clock
        m.d.power += level.eq((level << 1) | running)
        with m.If(~level[1]):
            m.d.power += left.eq(left.init)
        with m.Elif(left.any()):
            m.d.power += left.eq(left - 1)
        reset = Signal(init=1)
        m.d.power += reset.eq(left.any())
        m.d.comb += [ClockSignal().eq(power.clk), ResetSignal().eq(reset)]
        m.submodules.node = Instance("node", i_clk=ClockSignal(), i_rst=ResetSignal(), i_rx=rx.i, o_tx=tx.o)
        return m
