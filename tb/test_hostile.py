"""Whatever stands in a file, on a line or in memory is read or refused, in one sentence, soon, in little memory."""

import json
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gen.registry import UNITS, toml_layer
from golden import npz, safetensors
from golden.files import replacing, write, write_all
from golden.llama.tokenizer import Tokenizer
from golden.llama.weights import ModelFile
from golden.moe import store, traces
from golden.moe.convert import Conversion
from golden.moe.predictor import Predictor, PredictorSpec
from golden.moe.spec import ConversionSpec
from golden.soc.bridge import CHECK, GAP, HEAD, Access, BridgeSpec, Command, Device, Status, reply
from golden.soc.bridge import request as frame
from golden.spec import SpecError
from scripts import resumable, uart
from scripts.iso_area import main as iso_area
from tb.cosim import compile
from tb.kept import kept
from tb.test_llama import write_gguf
from tb.transactions import case_of, check
from tb.uart_bridge import recorded

OFTEN = settings(max_examples=100, derandomize=True, database=None)
EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 60, 1 << 63, (1 << 64) - 1]
ROOM = 1 << 23
"""Bytes of memory that reading a small file may take."""


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file in which a few things are wrong, most of them at its beginning, or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return whole[: draw(st.integers(0, 8))] + draw(st.binary(max_size=200))
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)) | st.integers(0, min(400, len(data))))
        match draw(st.sampled_from(["byte", "number", "cut", "gone", "more"])):
            case "byte":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "number":
                data[at : at + 8] = struct.pack("<Q", draw(st.sampled_from(EXTREMES)))
            case "cut":
                del data[at:]
            case "gone":
                del data[at : at + draw(st.integers(1, 16))]
            case "more":
                data[at:at] = draw(st.binary(min_size=1, max_size=16))
    return bytes(data)


def read_or_refused(read: Callable[[], Any], room: int = ROOM) -> bool:
    """Whether it was read. What is no SpecError goes through."""
    tracemalloc.start()
    try:
        read()
        return True
    except SpecError as e:
        assert len(str(e).splitlines()) == 1
        assert "must" in str(e) or "cannot" in str(e)
        return False
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < room, f"{peak} bytes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def files(folder: Path, make: Callable[[Path], object], read: Callable[[Path], object]) -> None:
    """Damages what ``make`` writes, again and again; what ``read`` says of it."""
    path, told = folder / "whole", []
    make(path)
    whole = path.read_bytes()
    read(path)

    @OFTEN
    @given(damaged(whole))
    @example(b"")
    @example(whole[:-1])
    def judge(data: bytes) -> None:
        bad = folder / "bad"
        bad.write_bytes(data)
        told.append(read_or_refused(lambda: read(bad)))

    judge()
    assert not all(told)


# --- files ---


def read_model(path: Path) -> None:
    file = ModelFile(path)
    with np.errstate(all="ignore"):  # any bits may be a scale
        _ = [*file.weights().layers[:2], file.head(), file.matrix(0, "q"), Tokenizer.of(file)]


def test_damaged_model_files(folder: Path) -> None:
    files(folder, write_gguf, read_model)


def gguf_of(value: bytes, fields: int = 1, tensors: int = 0) -> bytes:
    name = b"general.architecture"
    return b"GGUF" + struct.pack("<IQQQ", 3, tensors, fields, len(name)) + name + value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (gguf_of(struct.pack("<IIQ", 9, 0, 1 << 60)), f"{1 << 60} bytes at 68 must be in the file, which has 0 there"),
        (gguf_of(struct.pack("<IIQ", 9, 8, 1 << 60)), "8 bytes at 68 must be in the file, which has 0 there"),
        (gguf_of(struct.pack("<IIQ", 9, 9, 5)), "kind of a value before 68 must be a number or a text, not 9"),
        (gguf_of(struct.pack("<I", 13)), "kind of a value before 56 must be a number or a text, not 13"),
        (gguf_of(struct.pack("<IQ", 8, 1 << 63)), f"{1 << 63} bytes at 64 must be in the file, which has 0 there"),
        (gguf_of(b"", 1 << 63), "4 bytes at 52 must be in the file, which has 0 there"),
        (gguf_of(b"", 0, 1 << 63), None),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version must be one of 2, 3, not 1"),
        (b"", "it is empty"),
    ],
    ids=["array", "texts", "arrays", "kind", "text", "fields", "tensors", "version", "empty"],
)
def test_lengths_in_a_model_file_are_compared_with_what_is_left(folder: Path, data: bytes, why: str | None) -> None:
    path = folder / "lengths.gguf"
    path.write_bytes(data)
    with pytest.raises(SpecError) as e:
        ModelFile(path)
    assert why is None or str(e.value) == f"model file {path} cannot be read as GGUF: {why}"


TENSORS = {
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "I8", "shape": [], "data_offsets": [24, 25]},
}


def write_tensors(path: Path, header: Any = TENSORS, data: bytes = bytes(range(25))) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_damaged_tensor_files(folder: Path) -> None:
    files(folder, write_tensors, lambda path: safetensors.read(path, TENSORS))


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        (None, "must be there"),
        ({"data_offsets": [0, 1 << 50]}, f"must have its 24 bytes among 25, not from 0 to {1 << 50}"),
        ({"data_offsets": [8, 32]}, "must have its 24 bytes among 25, not from 8 to 32"),
        ({"shape": [1 << 40, 1 << 40]}, f"must have its {1 << 82} bytes among 25, not from 0 to 24"),
        ({"shape": [-2, -3]}, "must be of a shape of sizes, not [-2, -3]"),
    ],
)
def test_offsets_in_a_tensor_file_are_checked_before_use(folder: Path, about: Any, sentence: str) -> None:
    path = folder / "offsets"
    write_tensors(path, {**TENSORS, "a": about and {**TENSORS["a"], **about}})
    with pytest.raises(SpecError) as e:
        safetensors.read(path, TENSORS)
    assert str(e.value) == f"tensor a of {path} {sentence}"


def conversions() -> store.Record:
    spec = ConversionSpec(experts=4, shared=1, active=2)
    one = Conversion(spec, np.arange(2), np.arange(2, 8).reshape(3, 2), np.array([2, 5, 6]), 0.5, 0)
    return store.Record(spec, "a text", {0: one, 3: one})


def trace() -> traces.Trace:
    order = np.tile(np.arange(3, dtype=np.uint16), (4, 2, 1))
    v = np.zeros((4, 2, 3), np.float32)
    return traces.Trace(np.arange(4), np.zeros(1, np.int64), np.ones((4, 5), np.float32), v, v, order)


SPEC = PredictorSpec(inputs=4, hidden=4, layers=2, experts=3)
PARAMETERS = {name: np.zeros(shape, np.float32) for name, shape in SPEC.shapes.items()}

ARCHIVES: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "conversion": (lambda path: store.save(path, conversions()), store.load),
    "trace": (lambda path: traces.save(path, conversions().spec, "", trace()), traces.load),
    "predictor": (Predictor(SPEC, PARAMETERS).save, Predictor.load),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_damaged_archives(name: str, folder: Path) -> None:
    files(folder, *ARCHIVES[name])


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_of_other_arrays(name: str, folder: Path) -> None:
    """Whole files, whose arrays have other types, shapes or values."""
    make, read = ARCHIVES[name]
    make(folder / "good.npz")
    with np.load(folder / "good.npz") as found:
        good = dict(found)
    shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
    values = st.sampled_from([-1, 0, 1, 3, 1 << 40, np.nan, np.inf, "x", True])
    arrays = st.builds(lambda shape, value: np.full(shape, value), shapes, values)

    @OFTEN
    @given(st.sampled_from(sorted(good)), arrays | st.just(None))
    def judge(spoiled: str, array: Any) -> None:
        npz.save(folder / "bad.npz", {n: a for n, a in (good | {spoiled: array}).items() if a is not None})
        read_or_refused(lambda: read(folder / "bad.npz"))

    judge()


def test_an_array_as_long_as_its_header_says_is_refused_before_there_is_room_for_it(folder: Path) -> None:
    path = folder / "long.npz"
    npz.save(path, {"a": np.zeros(1000, np.uint8)})
    path.write_bytes(path.read_bytes().replace(b"(1000,), }   ", b"(99999999999,), }"[:13]))
    assert not read_or_refused(lambda: npz.load(path, ["a"], "file"))


def test_configuration_files(folder: Path) -> None:
    path = folder / "config.toml"
    good = UNITS["mixpe"].configure("tiny").to_toml().encode()

    @OFTEN
    @given(damaged(good) | st.text().map(str.encode))
    @example(b"rows = 0x" + b"f" * 9000)
    @example(b"rows = " + b"[" * 9000)
    @example(b"rows = 1979-05-27T07:32:00Z")
    @example(b"[rows]\ncols = 4")
    @example(b"rows = nan")
    def judge(text: bytes) -> None:
        path.write_bytes(text)
        read_or_refused(lambda: UNITS["mixpe"].configure(layers=[toml_layer(path)]))

    judge()


def test_files_of_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "figures.json"
    good = json.dumps({"a": {"area": 1.5, "fmax": 2.0}}).encode()

    @OFTEN
    @given(damaged(good))
    @example(b"[" * 9000)
    @example(b'{"a": {"area": 1e999}}')
    @example(b'{"a": {"area": ' + b"9" * 400 + b"}}")
    def judge(text: bytes) -> None:
        path.write_bytes(text)
        read_or_refused(lambda: resumable.collect([], path))
        assert iso_area([str(path)]) in (0, 2)

    judge()
    assert "Traceback" not in capsys.readouterr().err


def test_what_was_kept_and_is_damaged_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENBAZURU_CACHE", str(folder / "cache"))
    made: list[int] = []

    def make() -> str:
        made.append(1)
        return json.dumps(len(made))

    assert kept("test", ("a",), make, json.loads) == kept("test", ("a",), make, json.loads) == 1
    (path,) = (p for p in (folder / "cache").rglob("*") if p.is_file())
    for damage in (b"", b"{", b"\xff\xfe"):
        path.write_bytes(damage)
        assert kept("test", ("a",), make, json.loads) == len(made)
    assert len(made) == 4


# --- files that are written ---


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write(path, "first\r\n")
    assert path.read_bytes() == b"first\r\n"
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_bytes() == b"first\r\n"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    for bad, why in ((path / "below", "File exists"), (tmp_path / "new", "Is a directory")):
        with pytest.raises(SpecError) as e:
            write(bad, "")
        assert str(e.value) == f"output {bad} cannot be written: {why}"
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["file.txt"]


def test_files_of_a_folder_take_their_names_together(tmp_path: Path) -> None:
    assert write_all(tmp_path, {"a": "1", "b/c": "2"}) == [tmp_path / "a", tmp_path / "b/c"]
    (tmp_path / "d").mkdir()
    with pytest.raises(SpecError, match="must be writable: d is a directory"):
        write_all(tmp_path, {"a": "3", "d": "4"})
    assert {p.name: p.read_text() for p in tmp_path.rglob("*") if p.is_file()} == {"a": "1", "c": "2"}


# --- the serial line ---

BRIDGE = UNITS["uart_bridge"].configure("tiny")
SYMBOLS = st.lists(st.sampled_from([0xA5, 0, 1, 2, 3, 4, 255, GAP]) | st.integers(0, GAP), max_size=60)


@st.composite
def talk(draw: st.DrawFn) -> list[int]:
    """Requests, damaged ones, and noise."""
    assert isinstance(BRIDGE, BridgeSpec)
    symbols: list[int] = []
    for _ in range(draw(st.integers(1, 4))):
        command, count = Command(draw(st.integers(0, 7))), draw(st.integers(1, BRIDGE.words))
        words = [draw(st.integers(0, 0xFFFFFFFF)) for _ in range(count)] if command & Command.WRITE else count
        good = frame(command, draw(st.integers(0, (1 << 40) - 1)) & ~3 & (0xFFF if not command & 2 else -1), words)
        symbols += draw(st.just(list(good)) | damaged(good).map(list) | SYMBOLS)
        symbols += draw(st.sampled_from([[], [GAP]]))
    return [*symbols, GAP]


def answered(access: Access) -> tuple[int, int]:
    return access.address * 0x9E3779B1 % (1 << 32), access.address >> 5 & 3


def whole_replies(data: bytes) -> None:
    while data:
        size = HEAD + 4 * data[2] + CHECK
        assert data[:size] == reply(Status(data[1]), np.frombuffer(data[HEAD : size - CHECK], "<u4").tolist())
        data = data[size:]


@settings(OFTEN, max_examples=300)
@given(talk())
def test_the_model_of_the_bridge_replies_in_whole_frames_to_anything(symbols: list[int]) -> None:
    assert isinstance(BRIDGE, BridgeSpec)
    device = Device(BRIDGE, answered)
    whole_replies(b"".join(map(device.hear, symbols)))
    assert device.hear(GAP) == b""
    assert device.hear(GAP) == b""


def test_the_bridge_equals_the_model_on_anything() -> None:
    assert isinstance(BRIDGE, BridgeSpec)
    rtl = compile(BRIDGE)

    @settings(OFTEN, max_examples=60)
    @given(talk())
    def judge(symbols: list[int]) -> None:
        case = case_of(BRIDGE, "anything", [recorded(BRIDGE, symbols, answered)])
        check(replace(case, cycles=None), rtl.play(case))

    judge()


class Liar:
    """A line at whose end is anything."""

    def __init__(self, data: bytes):
        self._data = data

    def write(self, data: bytes) -> None:
        pass

    def read(self, count: int) -> bytes:
        found, self._data = self._data[:count], self._data[count:]
        return found

    def settle(self) -> None:
        self._data = self._data[1:]


REPLY = reply(Status.OK, [1, 2, 3])


@settings(OFTEN, max_examples=300)
@given(damaged(REPLY) | damaged(3 * REPLY) | st.just(REPLY))
def test_the_host_understands_a_reply_or_says_that_it_does_not(data: bytes) -> None:
    try:
        assert uart.Host(Liar(data), 8).registers(0, 3) == [1, 2, 3]
    except (uart.LineError, uart.Refused) as e:
        assert len(str(e).splitlines()) == 1
