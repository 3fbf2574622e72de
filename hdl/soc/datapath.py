"""All that a reset of the units resets: the channels and the units behind them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from golden.kmeans.linear import KMeansLinearSpec
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.stationary import WeightStationary
from golden.moe.layer import MoEFFNSpec
from golden.orizuru.engine import OrizuruSpec
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.copy import CopySpec
from golden.soc.descriptor import RECORD, RECORD_SLOT
from golden.soc.kinds import ASKED_AHEAD, Engine, Index, Lane
from golden.spec import UnitSpec
from hdl.arith.bits import index_bits, named
from hdl.layers.kmeans_linear import KMeansLinear
from hdl.layers.moe_ffn import MoEFFN
from hdl.mixpe.engine import Engine as Gemm
from hdl.mixpe.stationary.engine import StationaryEngine
from hdl.orizuru.engine import Engine as TopK
from hdl.shared import Shared
from hdl.soc.channels import ASKED, Input, Output
from hdl.soc.copy import Copy
from hdl.soc.layouts import ENTRY_LAYOUT, burst, stored
from hdl.soc.lent import Lent
from hdl.soc.pack import Pack, Unpack
from hdl.stream.away import PREFIX
from hdl.stream.fifo import StreamFIFO
from hdl.stream.fork import fork

COMPONENTS: Mapping[type[UnitSpec], type[wiring.Component]] = {
    CopySpec: Copy,
    MixPESpec: Gemm,
    WeightStationary: StationaryEngine,
    KMeansLinearSpec: KMeansLinear,
    OrizuruSpec: TopK,
    MoEFFNSpec: MoEFFN,
}


class Datapath(wiring.Component):
    """Channels, and behind them the units; which unit has the channels says ``unit``.

    ::

        read_k <-- Input k <- come, word       for each unit: Unpack --> stream k
        write_k <-- Output k --> words_k       for each unit: Pack <-- stream k

    Members
    -------
    unit : In, its place in ``spec.engines``; load_in, load_out, load_list : In, one bit per channel, with ``entry``;
    complete : In(1), all entries of the job have been loaded: rows that a unit asks for, which are counted from an
    entry, wait for it; read_0, ..., write_0, ... : Out(stream of bursts), the last read channel is the list's; come :
    In, one bit per read channel, with ``word``; words_0, ... : Out(stream), to be written; record : Out(stream), of the
    list; idle : Out(1), no channel but the list's has anything to do; listed : Out(1), nor has that one; moved :
    Out(1), a beat of the unit was; surplus : Out(1), the unit gives a beat that has no place; error : Out(32), its
    ``sts_error``.
    """

    kind = "datapath"

    def __init__(self, spec: AcceleratorSpec):
        self.spec = spec
        members: dict[str, Any] = {
            "unit": In(index_bits(len(spec.engines))),
            "load_in": In(spec.channels_in),
            "load_out": In(spec.channels_out),
            "load_list": In(1),
            "complete": In(1),
            "entry": In(ENTRY_LAYOUT),
            "come": In(spec.channels_in + 1),
            "word": In(spec.bus),
            "record": Out(stream.Signature(8 * RECORD)),
            **{name: Out(1) for name in ("idle", "listed", "moved", "surplus")},
            "error": Out(32),
        }
        members |= {f"read_{n}": Out(stream.Signature(burst(spec))) for n in range(spec.channels_in + 1)}
        members |= {f"write_{n}": Out(stream.Signature(burst(spec))) for n in range(spec.channels_out)}
        members |= {f"words_{n}": Out(stream.Signature(stored(spec))) for n in range(spec.channels_out)}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spec = self.spec
        users = [self._unit(m, n, engine) for n, engine in enumerate(spec.engines)]
        self._lend(m, users)
        idle, moved, surplus = [], [], []
        for n in range(spec.channels_in):
            done, moves = self._input(m, n, [user for user in users if n < len(user.engine.inputs)])
            idle.append(done)
            moved.append(moves)
        for n in range(spec.channels_out):
            done, moves, more = self._output(m, n, [user for user in users if n < len(user.engine.outputs)])
            idle.append(done)
            moved.append(moves)
            surplus.append(more)
        self._list(m)
        m.d.comb += [
            self.idle.eq(Cat(idle).all()),
            self.moved.eq(Cat(moved).any()),
            self.surplus.eq(Cat(surplus).any()),
        ]
        return m

    def _unit(self, m: Module, n: int, engine: Engine) -> "_User":
        component = COMPONENTS[type(engine.spec)]
        if engine.host:
            unit = Shared(Lent, component, engine.spec)
        elif any(other.host == engine.name for other in self.spec.engines):
            unit = Shared(component, engine.spec, True)
        else:
            unit = Shared(component, engine.spec)
        m.submodules[engine.name] = unit
        mine = named(m, self.unit == n, f"is_{engine.name}")
        if any(port.name == "error" for port in engine.spec.status):
            with m.If(mine):
                m.d.comb += self.error.eq(unit.sts_error)
        return _User(engine, unit, mine, self._asked(m, engine, unit))

    def _lend(self, m: Module, users: list["_User"]) -> None:
        """Units that work with that of another kind get it, while they have the channels."""
        hosts = {user.engine.name: user for user in users}
        for user in users:
            if not user.engine.host:
                continue
            lent, host = user.unit, hosts[user.engine.host]
            m.d.comb += lent.lends.eq(host.mine)
            for port in user.engine.spec.ports:
                ends = [getattr(one, f"{PREFIX}{port.name}") for one in (host.unit, lent)]
                wiring.connect(m, *(ends if port.direction == "in" else reversed(ends)))
            for status in user.engine.spec.status:
                name = f"{PREFIX}{status.signal}"
                if name in host.unit.signature.members:
                    m.d.comb += getattr(host.unit, name).eq(getattr(lent, name))

    def _entry(self, m: Module, channel: Any, load: Value, lanes: list[tuple["_User", Lane]]) -> None:
        """A channel's entry, and the slot of the stream that it serves."""
        m.d.comb += [channel.load.eq(load), channel.entry.eq(self.entry)]
        for user, lane in lanes:
            with m.If(user.mine):
                m.d.comb += channel.slot.eq(lane.slot)

    # --- from memory ---

    def _input(self, m: Module, n: int, users: list["_User"]) -> tuple[Value, Value]:
        """Returns that it is through, and that a beat moves."""
        spec = self.spec
        lanes = [(user, user.engine.inputs[n]) for user in users]
        asked = any(lane.index for _, lane in lanes)
        m.submodules[f"input_{n}"] = channel = Shared(Input, spec, _slots(lanes), asked)
        self._entry(m, channel, self.load_in[n], lanes)
        wiring.connect(m, channel.bursts, wiring.flipped(getattr(self, f"read_{n}")))
        m.d.comb += [channel.come.eq(self.come[n]), channel.word.eq(self.word)]
        waits, moves, ready = [], [], []
        for user, lane in lanes:
            port, sink = lane.port, getattr(user.unit, lane.name)
            m.submodules[f"unpack_{user.engine.name}_{lane.name}"] = unpack = Shared(
                Unpack, spec, lane.slot, port.width
            )
            if lane.index:
                self._follow(m, channel, user.mine, user.asked[lane], user.unit, lane.index)
            m.d.comb += [
                unpack.i.payload.eq(channel.o.payload),
                unpack.i.valid.eq(channel.o.valid & user.mine),
                sink.payload.data.as_value().eq(unpack.o.payload.data),
                sink.valid.eq(unpack.o.valid),
                unpack.o.ready.eq(sink.ready),
            ]
            if port.last:
                m.d.comb += sink.payload.last.eq(unpack.o.payload.last)
            waits.append(unpack.o.valid)
            moves.append(unpack.o.valid & sink.ready)
            ready.append(user.mine & unpack.i.ready)
        m.d.comb += channel.o.ready.eq(Cat(ready).any())
        return channel.idle & ~Cat(waits).any(), Cat(moves).any()

    def _asked(self, m: Module, engine: Engine, unit: Any) -> dict[Lane, Any]:
        """A queue of rows for each input of a unit that is where it asks for it; none before there are all entries."""
        queues = {}
        for lane in engine.inputs:
            if lane.index:
                m.submodules[f"asked_{engine.name}_{lane.name}"] = queue = Shared(StreamFIFO, ASKED, ASKED_AHEAD)
                queues[lane] = queue
        for name in engine.asking:
            asks = getattr(unit, name)
            waits = stream.Signature(asks.payload.shape()).create(path=(f"{engine.name}_{name}",))
            m.d.comb += [waits.valid.eq(asks.valid & self.complete), asks.ready.eq(waits.ready & self.complete)]
            fork(m, waits, [queue.i for lane, queue in queues.items() if lane.index and lane.index.stream == name])
        return queues

    def _follow(self, m: Module, channel: Any, my: Value, queue: Any, unit: Any, index: Index) -> None:
        """Rows of the channel are those that the unit asks for."""
        beat, asked = getattr(unit, index.stream).payload.data[0], queue.i.payload
        if index.beats:
            m.d.comb += [asked.at.eq(beat[index.at]), asked.beats.eq(beat[index.beats])]
        else:
            row = beat if isinstance(beat, Value) else beat[index.at]
            m.d.comb += [asked.at.eq(row * channel.beats), asked.beats.eq(channel.beats)]
        with m.If(my):
            m.d.comb += channel.follows.eq(1)
            wiring.connect(m, queue.o, channel.asked)

    # --- to memory ---

    def _output(self, m: Module, n: int, users: list["_User"]) -> tuple[Value, Value, Value]:
        """Returns that it is through, that a beat moves, and that one has no place."""
        spec = self.spec
        lanes = [(user, user.engine.outputs[n]) for user in users]
        m.submodules[f"output_{n}"] = channel = Shared(Output, spec, _slots(lanes))
        self._entry(m, channel, self.load_out[n], lanes)
        wiring.connect(m, channel.bursts, wiring.flipped(getattr(self, f"write_{n}")))
        wiring.connect(m, channel.o, wiring.flipped(getattr(self, f"words_{n}")))
        more, moves, ready = [], [], []
        for user, lane in lanes:
            source = getattr(user.unit, lane.name)
            m.submodules[f"pack_{user.engine.name}_{lane.name}"] = pack = Shared(Pack, spec, lane.slot, lane.port.width)
            m.d.comb += [
                pack.i.payload.eq(source.payload.data.as_value()),
                pack.i.valid.eq(source.valid),
                source.ready.eq(pack.i.ready),
                pack.bounds.payload.eq(channel.bounds.payload),
                pack.bounds.valid.eq(channel.bounds.valid & user.mine),
                pack.o.ready.eq(channel.i.ready & user.mine),
            ]
            with m.If(user.mine):
                m.d.comb += [channel.i.payload.eq(pack.o.payload), channel.i.valid.eq(pack.o.valid)]
            more.append(user.mine & pack.there)
            moves.append(source.valid & source.ready)
            ready.append(user.mine & pack.bounds.ready)
        m.d.comb += channel.bounds.ready.eq(Cat(ready).any())
        return channel.idle, Cat(moves).any(), channel.idle & Cat(more).any()

    # --- the list ---

    def _list(self, m: Module) -> None:
        spec, last = self.spec, self.spec.channels_in
        m.submodules.input_list = channel = Shared(Input, spec, (RECORD_SLOT,), False)
        m.submodules.unpack_list = unpack = Shared(Unpack, spec, RECORD_SLOT, 8 * RECORD)
        wiring.connect(m, channel.bursts, wiring.flipped(getattr(self, f"read_{last}")))
        wiring.connect(m, channel.o, unpack.i)
        m.d.comb += [
            channel.load.eq(self.load_list),
            channel.entry.eq(self.entry),
            channel.slot.eq(RECORD_SLOT),
            channel.come.eq(self.come[last]),
            channel.word.eq(self.word),
            self.record.payload.eq(unpack.o.payload.data),
            self.record.valid.eq(unpack.o.valid),
            unpack.o.ready.eq(self.record.ready),
            self.listed.eq(channel.idle),
        ]


class _User(NamedTuple):
    """A unit, whether it has the channels now, and the rows that it asks for, of each such input."""

    engine: Engine
    unit: Any
    mine: Value
    asked: Mapping[Lane, Any]


def _slots(lanes: list[tuple[_User, Lane]]) -> tuple[int, ...]:
    return tuple(sorted({lane.slot for _, lane in lanes}))
