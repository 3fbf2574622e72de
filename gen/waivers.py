"""The lint waivers of all products: patterns, each with the reason why it is right to look away."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Waiver:
    """One rule of Verilator, narrowed to the messages that match (``*`` stands for any text)."""

    rule: str
    match: str
    reason: str


WAIVERS = (
    Waiver("DECLFILENAME", "*", "a product is one file that holds all its modules"),
    Waiver("PROCASSINIT", "*", "registers have the same value at power-up as after reset"),
    Waiver("UNUSEDSIGNAL", "Signal is not used: '_*", "a nameless value: an output that is left open"),
    Waiver(
        "UNUSEDSIGNAL", "Bits of signal are not used*", "pad bits of tdata, and the carry of a sum cut to its width"
    ),
    Waiver("UNUSEDSIGNAL", "*'clk'*", "every kind of block has a clock port, used or not"),
    Waiver("UNUSEDSIGNAL", "*'rst'*", "every kind of block has a reset port, used or not"),
    Waiver("VARHIDDEN", "Declaration of signal hides*: '?'*", "multiplexers are functions of a, b and s"),
    Waiver("WIDTHEXPAND", "*SIGNED*generates*", "$signed operands are extended with their sign, as meant"),
    Waiver("WIDTHEXPAND", "*CONST*generates*", "constants are written without their leading zeros"),
)


def vlt(file: str) -> str:
    """The waivers as a Verilator control file for the Verilog file of that name."""
    lines = ["`verilator_config"]
    for w in WAIVERS:
        match = "" if w.match == "*" else f' -match "{w.match}"'
        lines += [f"// {w.reason}", f'lint_off -rule {w.rule} -file "*{file}"{match}']
    return "\n".join(lines) + "\n"
