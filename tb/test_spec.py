"""Specifications and ports: validation sentence by sentence, round trips, bit positions."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.ports import Beats, Field, StatusPort, StreamPort
from golden.spec import Spec, SpecError, param


class Sample(Spec):
    size: int = param(4, "a size", low=1, high=8)
    kind: str = param("a", "a kind", choices=("a", "b"))
    flag: bool = param(False, "a flag")
    twice: int = param(None, "derived", low=2, high=16)

    def _derive(self) -> dict[str, Any]:
        return {"twice": 2 * self.size}

    def _check(self) -> None:
        if self.kind == "b" and self.size > 4:
            raise SpecError(f"size must be at most 4 with kind b, not {self.size}")


def sample(**values: Any) -> Sample:
    return Sample(**values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"size": 0}, "size must be an integer between 1 and 8, not 0"),
        ({"size": 9}, "size must be an integer between 1 and 8, not 9"),
        ({"size": 2.0}, "size must be an integer, not 2.0"),
        ({"size": True}, "size must be an integer, not True"),
        ({"size": None}, "size must be given, not None"),
        ({"kind": "c"}, "kind must be one of a, b, not 'c'"),
        ({"kind": 1}, "kind must be one of a, b, not 1"),
        ({"flag": 1}, "flag must be of type bool, not 1"),
        ({"twice": 1}, "twice must be an integer between 2 and 16, not 1"),
        ({"kind": "b", "size": 5}, "size must be at most 4 with kind b, not 5"),
    ],
)
def test_a_broken_rule_is_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        sample(**values)
    assert str(e.value) == sentence


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"siz": 1}, "'siz' is not a parameter; it must be one of size, kind, flag, twice, did you mean size?"),
        ({"zzz": 1}, "'zzz' is not a parameter; it must be one of size, kind, flag, twice"),
        ({"size": "four"}, "size must be an integer, not 'four'"),
        ({"flag": "yes"}, "flag must be true or false, not 'yes'"),
    ],
)
def test_values_from_outside_are_parsed_or_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as e:
        Sample.from_values(values)
    assert str(e.value) == sentence


def test_bad_toml_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^configuration must be valid TOML: "):
        Sample.from_toml("size = ")


def test_text_is_parsed_by_the_type_of_the_field() -> None:
    values = {"size": "3", "kind": "b", "flag": "true", "twice": "7"}
    assert Sample.from_values(values) == sample(size=3, kind="b", flag=True, twice=7)


@given(size=st.integers(1, 8), flag=st.booleans(), twice=st.none() | st.integers(2, 16))
def test_specifications_round_trip(size: int, flag: bool, twice: int | None) -> None:
    spec = sample(size=size, flag=flag, twice=twice)
    assert spec.values()["twice"] == (2 * size if twice is None else twice)
    assert Sample.from_toml(spec.to_toml()) == spec
    assert Sample(**spec.values()) == spec
    assert eval(repr(spec)) == spec
    assert hash(sample(**spec.values())) == hash(spec)


def test_specifications_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        sample().size = 5


def test_parameters_tell_what_a_person_needs() -> None:
    rows = Sample.parameters()
    assert rows[0] == {
        "name": "size",
        "type": "int",
        "default": 4,
        "doc": "a size",
        "choices": None,
        "low": 1,
        "high": 8,
    }
    assert [r["name"] for r in rows] == ["size", "kind", "flag", "twice"]
    assert rows[1]["choices"] == ("a", "b")


PORT = StreamPort("x", "in", 3, (Field("a", 5, "int5"), Field("b", 2, "uint2")), "tile", "")


def test_lanes_and_fields_are_packed_without_gaps_and_padded_with_zeros() -> None:
    assert (PORT.lane_width, PORT.width, PORT.bytes) == (7, 21, 3)
    assert (PORT.lsb("a"), PORT.lsb("b")) == (0, 5)
    beats = PORT.pack(a=[[-1, 0, 1]], b=[[0, 3, 2]], last=[True])
    bits = int.from_bytes(beats.data[0].tobytes(), "little")
    assert bits == 0b10_00001_11_00000_00_11111
    assert beats.last.tolist() == [True]
    with pytest.raises(KeyError):
        PORT.lsb("c")


@given(st.lists(st.tuples(*[st.tuples(st.integers(-16, 15), st.integers(0, 3))] * 3), min_size=1, max_size=9))
def test_pack_and_unpack_are_inverse(rows: list[tuple[tuple[int, int], ...]]) -> None:
    a, b = np.array(rows).transpose(2, 0, 1)
    beats = PORT.pack(a=a, b=b)
    assert not beats.last.any()
    out = PORT.unpack(beats)
    assert (out["a"] == a).all()
    assert (out["b"] == b).all()


def test_unpack_ignores_the_pad_bits() -> None:
    beats = PORT.pack(a=[[1, 2, 3]], b=[[1, 2, 3]])
    noisy = Beats(beats.data | np.array([0, 0, 0xE0], dtype=np.uint8), beats.last)
    assert (PORT.unpack(noisy)["b"] == [[1, 2, 3]]).all()


def test_wide_fields_keep_every_bit() -> None:
    port = StreamPort("w", "out", 2, (Field("v", 63, "int63"),), "", "")
    values = np.array([[-(1 << 62), (1 << 62) - 1], [-1, 0]])
    assert (port.unpack(port.pack(v=values))["v"] == values).all()


def test_prefixes_follow_axi_stream() -> None:
    def prefix(name: str, direction: str) -> str:
        return StreamPort(name, direction, 1, (Field("v", 1, "uint1"),), "", "").prefix

    assert [prefix("i", "in"), prefix("o", "out"), prefix("act", "in"), prefix("res", "out")] == [
        "s_axis",
        "m_axis",
        "s_axis_act",
        "m_axis_res",
    ]


def test_beats_are_joined_in_order() -> None:
    one, two = PORT.pack(a=[[1, 1, 1]], b=[[0, 0, 0]], last=[True]), PORT.pack(a=[[2, 2, 2]], b=[[0, 0, 0]])
    both = Beats.concatenate([one, two])
    assert len(both) == 2
    assert both.last.tolist() == [True, False]
    assert PORT.unpack(both)["a"][:, 0].tolist() == [1, 2]


def test_a_status_bit_per_cause() -> None:
    assert StatusPort("error", ("early", "late", "odd")).width == 3
