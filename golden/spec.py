"""What every block is described by: a frozen, validated, keyword-only specification.

A specification is a dataclass that inherits from :class:`Spec` and declares its fields with :func:`param`. The
declaration carries what a person and the command line need to know (one line of text, the range or the choices), so
that validation, ``senbazuru list`` and the documentation all read the same source.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from golden.ports import Beats, StatusPort, StreamPort

AUTO = "auto"
"""The choice of a field that is derived from the others."""


LONGEST = 80
"""Characters of a value in a sentence."""


class SpecError(ValueError):
    """Bad input: one sentence that names the field, the rule and the value."""


def told(value: Any) -> str:
    """A value in a sentence: as Python writes it, and of a long one the beginning."""
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python writes
        text = "a number of thousands of digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


def param(
    default: Any,
    doc: str,
    *,
    choices: Sequence[str] | None = None,
    low: int | None = None,
    high: int | None = None,
) -> Any:
    """One field of a specification.

    ``default=None`` means that the value is derived from the other fields when it is not given (see
    :meth:`Spec._derive`), and the choice ``auto`` that it always is; after construction no field is either.
    """
    meta = {"doc": doc, "choices": tuple(choices) if choices else None, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=meta)


class Spec:
    """Base of all specifications: validates, compares by value, and round-trips through TOML.

    A subclass declares fields with :func:`param`, and may override :meth:`_derive` (values for fields left ``None``)
    and :meth:`_check` (rules that bind several fields). Both run in the constructor; a broken rule raises
    :class:`SpecError`.
    """

    if typing.TYPE_CHECKING:

        def __init__(self, **values: Any) -> None: ...

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if value is not None:
                _check_field(f, value)
            elif f.default is not None:
                raise SpecError(f"{f.name} must be given, not None")
        for name, value in self._derive().items():
            if getattr(self, name) in (None, AUTO):
                object.__setattr__(self, name, value)
        self._check()
        for name, value in self.values().items():
            if value is None:
                raise SpecError(f"{name} must be given, not None")

    def _derive(self) -> dict[str, Any]:
        """Values for the fields that are ``None`` or ``auto``."""
        return {}

    def _check(self) -> None:
        """Rules over several fields; raise :class:`SpecError`."""

    @classmethod
    def parameters(cls) -> list[dict[str, Any]]:
        """Name, type, default, range and one line of text for each field, in declared order."""
        hints = typing.get_type_hints(cls)
        return [
            {"name": f.name, "type": _plain_type(hints[f.name]).__name__, "default": f.default, **f.metadata}
            for f in dataclasses.fields(cls)  # type: ignore[arg-type]
        ]

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Build from a mapping whose values may be strings (command line) or typed (TOML)."""
        return cls(**{name: cls.parse(name, value) for name, value in values.items()})

    @classmethod
    def parse(cls, name: str, value: Any) -> Any:
        """One field's value from text or as it is; :class:`SpecError` where the field alone forbids it."""
        fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f", did you mean {near[0]}?" if near else ""
            raise SpecError(f"{told(name)} is not a parameter; it must be one of {', '.join(fields)}{hint}")
        typed = _parse(name, value, _plain_type(typing.get_type_hints(cls)[name]))
        _check_field(fields[name], typed)
        return typed

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Inverse of :meth:`to_toml`; unknown keys are refused."""
        try:
            values = tomllib.loads(text)
        except (ValueError, RecursionError) as e:
            raise SpecError(f"configuration must be valid TOML: {e}") from None
        return cls.from_values(values)

    def values(self) -> dict[str, Any]:
        """All fields, derived ones included: ``type(self)(**self.values()) == self``."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def to_toml(self) -> str:
        """The full configuration as a TOML document."""
        return "".join(f"{k} = {_toml(v)}\n" for k, v in self.values().items())


class UnitSpec(Spec):
    """A specification of something that is exported as a top-level Verilog module.

    The contract that every tool of this repository relies on. A *job* is a value of the unit's own job type (arrays and
    sizes); jobs are played back to back from reset.
    """

    unit: ClassVar[str]
    """The name under which the unit is registered."""

    @property
    def fingerprint(self) -> int:
        """CRC-32 of name and configuration: what tells bitstreams apart."""
        return zlib.crc32(f"{self.unit}\n{self.to_toml()}".encode())

    @property
    def ports(self) -> tuple[StreamPort, ...]:
        """All streams, in the order in which the module declares them."""
        raise NotImplementedError

    def port(self, name: str) -> StreamPort:
        """The stream of that name."""
        return next(p for p in self.ports if p.name == name)

    @property
    def status(self) -> tuple[StatusPort, ...]:
        """Sticky status outputs (``sts_...``); cleared by reset only."""
        return ()

    @property
    def latency(self) -> int:
        """Cycles; each unit's docstring says from which beat to which."""
        raise NotImplementedError

    def figures(self) -> dict[str, int | float]:
        """Latency and throughput formulas evaluated for this configuration, for the manifest."""
        return {"latency": self.latency}

    def compute(self, job: Any) -> Any:
        """The result, bit-true: what the RTL must equal exactly."""
        raise NotImplementedError

    def inputs(self, job: Any) -> dict[str, Beats]:
        """The beats of each input stream for one job."""
        raise NotImplementedError

    def outputs(self, job: Any, result: Any) -> dict[str, Beats]:
        """The beats of each output stream that carry ``result`` of ``job``."""
        raise NotImplementedError

    def result(self, job: Any, outputs: Mapping[str, Beats]) -> Any:
        """Inverse of :meth:`outputs`."""
        raise NotImplementedError

    def cycles(self, *jobs: Any) -> int:
        """Clock cycles from the first accepted input beat to the last delivered output beat, both included, for jobs
        back to back with sources always valid and sinks always ready."""
        raise NotImplementedError


def _plain_type(hint: Any) -> type:
    """``int`` for ``int`` and for ``int | None``."""
    if isinstance(hint, types.UnionType):
        return next(t for t in typing.get_args(hint) if t is not types.NoneType)
    return hint


def _check_field(f: "dataclasses.Field[Any]", value: Any) -> None:
    meta = f.metadata
    if meta["choices"]:
        if value not in meta["choices"]:
            raise SpecError(f"{f.name} must be one of {', '.join(meta['choices'])}, not {told(value)}")
    elif meta["low"] is not None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise SpecError(f"{f.name} must be an integer, not {told(value)}")
        if not meta["low"] <= value <= meta["high"]:
            raise SpecError(f"{f.name} must be an integer between {meta['low']} and {meta['high']}, not {told(value)}")
    elif not isinstance(value, _plain_type(f.type)):
        raise SpecError(f"{f.name} must be of type {_plain_type(f.type).__name__}, not {told(value)}")


def _parse(name: str, value: Any, want: type) -> Any:
    if not isinstance(value, str) or want is str:
        return value
    if want is bool:
        if value not in ("true", "false"):
            raise SpecError(f"{name} must be true or false, not {told(value)}")
        return value == "true"
    try:
        return want(value)
    except ValueError:
        raise SpecError(f"{name} must be {'a number' if want is float else 'an integer'}, not {told(value)}") from None


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)
