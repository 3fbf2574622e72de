"""The text pass between Yosys and the product: plain names, ports in declared order, one declaration per port.

Yosys writes names that need escapes (``\\pe.core ``, ``\\$12 ``) and module headers without directions. What comes out
here has plain identifiers only: a name loses what is not a letter, digit or underscore, and gets a number where it
would clash; a nameless value becomes ``_1``, ``_2``, ...
"""

import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

_ESCAPED = re.compile(r"\\\S+ ")
_ID = r"(?:\\\S+ |[A-Za-z_][\w$]*)"
_MODULE = re.compile(rf"^module ({_ID})\s*\((.*?)\);\n(.*?)^endmodule\n", re.MULTILINE | re.DOTALL)
_PORT = re.compile(rf"^  (input|output) ((?:\[\d+:0\] )?)({_ID});\n  (wire|reg) \2\3( = [^;]+)?;\n", re.MULTILINE)
_INSTANCE = re.compile(rf"^  ({_ID})\s*({_ID})\s*\(\n((?:    \..*\n)*)  \);\n", re.MULTILINE)
_CONNECTION = re.compile(rf"^    \.({_ID})\s*\(", re.MULTILINE)
_NET = re.compile(r"^(    \.\w+)\((\w+)\)", re.MULTILINE)
_WIRE = re.compile(r"^  wire ((?:\[\d+:0\] )?)(\w+);\n", re.MULTILINE)
_FUNCTION = re.compile(r"^  function (?:\[\d+:0\] )?(_\d+);", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^ *\(\* init = .* \*\)\n", re.MULTILINE)


class Names:
    """Plain, distinct names for the escaped identifiers of one name space."""

    def __init__(self, text: str = ""):
        self._taken = set(re.findall(r"(?<!\.)\b[A-Za-z_]\w*", _ESCAPED.sub(" ", text)))
        self._given: dict[str, str] = {}

    def __getitem__(self, written: str) -> str:
        if not written.startswith("\\"):
            return written
        if written not in self._given:
            self._given[written] = self._invent(written[1:-1])
            self._taken.add(self._given[written])
        return self._given[written]

    def apply(self, text: str) -> str:
        return _ESCAPED.sub(lambda m: self[m[0]], text)

    def _invent(self, name: str) -> str:
        stem, dollar, _ = name.partition("$")
        base = re.sub(r"\W+", "_", stem).strip("_")
        if base[:1].isdigit():
            base = f"_{base}"
        if base == name:  # escaped though plain: a word that Verilog reserves
            base += "_"
        if base and not dollar and base not in self._taken:
            return base
        number = 1
        while f"{base}_{number}" in self._taken:
            number += 1
        return f"{base}_{number}"


def tidy(verilog: str, order: Mapping[str, Sequence[str]]) -> list[str]:
    """The modules of Yosys' text, sorted by name. ``order`` lists the ports of the modules that declare an order; the
    others get clock and reset, inputs, outputs, each by name."""
    found = sorted(_MODULE.findall(verilog), key=lambda m: m[0].strip("\\ "))
    modules = Names(" ".join(name for name, _, _ in found))
    scopes = {name: Names(body) for name, _, body in found}
    return [_module(modules, scopes, order.get(name), name, body) for name, _, body in found]


def _module(modules: Names, scopes: Mapping[str, Names], order: Sequence[str] | None, name: str, body: str) -> str:
    scope = scopes[name]

    def instance(m: re.Match[str]) -> str:
        ports = scopes.get(m[1], Names())
        connections = _CONNECTION.sub(lambda c: f"    .{ports[c[1]]}(", m[3])
        return f"  {modules[m[1]]} {scope[m[2]]} (\n{connections}  );\n"

    body = _tidy_wires(scope.apply(_INSTANCE.sub(instance, _ATTRIBUTE.sub("", body))))
    for function in _FUNCTION.findall(body):  # or it would hide the wire of that name in a module above
        body = re.sub(rf"\b{function}\b", f"mux{function}", body)
    ports = {m[3]: m for m in _PORT.finditer(body)}
    if order is not None:
        order = [p if p in ports else scope[f"\\{p} "] for p in order]
    else:
        order = sorted(ports, key=lambda p: (p not in ("clk", "rst"), ports[p][1], p))
    width = max(len(m[2]) for m in ports.values())
    lines = [f"  {m[1]:6} {m[4]:4} {m[2]:>{width}}{m[3]}{m[5] or ''}" for m in (ports[p] for p in order)]
    header = ",\n".join(lines)
    return f"module {modules[name]} (\n{header}\n);\n{_PORT.sub('', body)}endmodule\n"


def _tidy_wires(body: str) -> str:
    """Leave an output open where its wire goes nowhere else, and declare the other wires together, by width."""
    uses = Counter(re.findall(r"[A-Za-z_]\w*", re.sub(r"\.\w+\(", "(", body)))
    connected = {m[2] for m in _NET.finditer(body)}
    by_width: dict[str, list[str]] = {}
    dangling = set()
    ports = {m[3] for m in _PORT.finditer(body)}
    for m in _WIRE.finditer(body):
        if m[2] in connected and uses[m[2]] == 2:
            dangling.add(m[2])
        elif m[2] not in ports:
            by_width.setdefault(m[1], []).append(m[2])
    body = _NET.sub(lambda m: f"{m[1]}()" if m[2] in dangling else m[0], body)
    body = _WIRE.sub(lambda m: m[0] if m[2] in ports else "", body)
    wires = [
        textwrap.fill(f"wire {width}{', '.join(names)};", 120, initial_indent="  ", subsequent_indent="    ")
        for width, names in by_width.items()
    ]
    return "".join(f"{w}\n" for w in wires) + body
