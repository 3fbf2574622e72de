"""``UNIT`` and ``CONFIG`` on a command line: ``--preset``, ``--config`` and ``--set``, later ones over earlier ones."""

import argparse
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from gen.registry import Unit, set_layer, toml_layer, unit
from golden.spec import UnitSpec


class _Layer(argparse.Action):
    """Appends ``(option, text)`` to ``layers``, so that the order across options is kept."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        texts = [values] if isinstance(values, str) else list(values or ())
        layers = [*getattr(namespace, "layers", ()), *((self.dest, text) for text in texts)]
        namespace.layers = layers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """UNIT and CONFIG."""
    parser.add_argument("unit", metavar="UNIT", help="see senbazuru list")
    add_layers(parser)


def add_layers(parser: argparse.ArgumentParser) -> None:
    """CONFIG alone, for a command whose unit is fixed."""
    group = parser.add_argument_group("configuration", "later ones over earlier ones")
    add = functools.partial(group.add_argument, action=_Layer, default=argparse.SUPPRESS)
    add("--preset", metavar="NAME", help="a named configuration of the unit")
    add("--config", metavar="FILE.toml", help="parameters from a TOML file")
    add("--set", metavar="key=value", nargs="+", help="single parameters")


def to_hundred(text: str) -> float:
    """The type of an argument that is a number, 0 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 100, not {text!r}")
    return value


def natural(text: str) -> int:
    """An integer from 0 to 2**32 - 1, for ``type=`` of an argument."""
    if not text.isdecimal() or int(text) >= 1 << 32:
        raise argparse.ArgumentTypeError(f"must be an integer between 0 and {(1 << 32) - 1}, not {text!r}")
    return int(text)


def configured(args: argparse.Namespace, chosen: Unit | None = None) -> UnitSpec:
    """The specification that the arguments describe; :class:`golden.spec.SpecError` for bad ones."""
    chosen = chosen or unit(args.unit)
    return chosen.configure(layers=settings(args, chosen))


def settings(args: argparse.Namespace, chosen: Unit) -> list[Mapping[str, Any]]:
    """What the arguments set, option by option."""
    read = {"preset": chosen.preset, "config": toml_layer, "set": set_layer}
    return [read[option](text) for option, text in getattr(args, "layers", ())]
