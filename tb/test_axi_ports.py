"""Channels of AXI4 and AXI4-Lite as ports: beats, the exported module and its manifest."""

from pathlib import Path

import pytest

from gen.export import Product, export
from gen.manifest import beat_bytes, pins, signal_name
from gen.registry import UNITS
from golden.axi import axi4_lite_slave, axi4_master
from golden.ports import Field, StreamPort
from tb.axi_bridge import UNIT, BridgeSpec
from tb.products import lint
from tb.test_export import parsed

SPEC = BridgeSpec()


@pytest.fixture
def product(monkeypatch: pytest.MonkeyPatch) -> Product:
    monkeypatch.setitem(UNITS, SPEC.unit, UNIT)
    return export(SPEC)


def test_channels_have_the_names_of_axi() -> None:
    channels = {p.name: [f.name for f in p.fields] for p in (*axi4_master("m", 64, 2, 40), *axi4_lite_slave("s", 12))}
    address = ["addr", "len", "size", "burst", "cache", "prot", "id"]
    assert channels == {
        "m_ar": address,
        "m_r": ["data", "resp", "last", "id"],
        "m_aw": address,
        "m_w": ["data", "strb", "last"],
        "m_b": ["resp", "id"],
        "s_aw": ["addr", "prot"],
        "s_w": ["data", "strb"],
        "s_b": ["resp"],
        "s_ar": ["addr", "prot"],
        "s_r": ["data", "resp"],
    }
    read, *_ = axi4_master("m", 64, 2, 40)
    assert [read.signal(n) for n in ("valid", "ready")] == ["m_arvalid", "m_arready"]
    assert [(p.name, p.lsb, p.width) for p in read.pins][:2] == [("m_araddr", 0, 40), ("m_arlen", 40, 8)]


@pytest.mark.parametrize("width", [1, 40, 63, 64, 65, 256])
@pytest.mark.parametrize("kind", ["int", "uint"])
def test_fields_of_any_width_are_packed_and_unpacked(width: int, kind: str) -> None:
    port = StreamPort("i", "in", 2, (Field("a", 3, "uint3"), Field("b", width, f"{kind}{width}")), "", "")
    low, high = (-1 << (width - 1), (1 << (width - 1)) - 1) if kind == "int" else (0, (1 << width) - 1)
    values = {"a": [[1, 2], [7, 0]], "b": [[low, high], [high // 3, low // 5]]}
    beats = port.pack(**values)
    assert {name: v.tolist() for name, v in port.unpack(beats).items()} == values
    lanes = [a | (b & (1 << width) - 1) << 3 for a, b in zip(values["a"][0], values["b"][0], strict=True)]
    assert int.from_bytes(beats.data[0].tobytes(), "little") == lanes[0] | lanes[1] << (width + 3)


def test_the_module_has_a_signal_per_field_and_lint_is_clean(product: Product, tmp_path: Path) -> None:
    (top,) = parsed(product.verilog).getRoot().topInstances
    table = [(p["name"], p["width"]) for p in product.manifest["ports"]]
    assert [(p.name, p.type.bitWidth) for p in top.body.portList] == table
    expected = [("clk", 1), ("rst", 1)]
    for port in SPEC.ports:
        expected += [(f"{port.name}{f.name}", f.width) for f in port.fields]
        expected += [(f"{port.name}valid", 1), (f"{port.name}ready", 1)]
    assert table == [*expected, ("irq", 1)]
    assert "//   m_axi_araddr    output     40  read bursts\n" in product.verilog
    product.write(tmp_path)
    assert lint(tmp_path, "axi_bridge.vlt", "axi_bridge.v") == ""


def test_the_manifest_names_the_signals_of_a_channel(product: Product) -> None:
    for port, stream in zip(SPEC.ports, product.manifest["streams"], strict=True):
        assert tuple(pins(stream)) == port.pins
        assert beat_bytes(stream) == port.bytes
        assert signal_name(stream, "valid") == port.signal("valid")
        assert [s["name"] for s in stream["signals"]] == [f"{port.name}{f.name}" for f in port.fields]
        assert "tdata_width" not in stream
    assert product.manifest["status"] == [{"name": "irq", "width": 1, "bits": ["an answer is there"]}]
