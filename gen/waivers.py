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
    Waiver("PINCONNECTEMPTY", "*", "an output that is not needed here is left open, and shown to be"),
    Waiver(
        "UNUSEDSIGNAL", "Bits of signal are not used*", "pad bits of tdata, and the carry of a sum cut to its width"
    ),
    Waiver(
        "UNUSEDSIGNAL", "Signal is not used*", "a cut carry, or an inner port that this configuration does not need"
    ),
    Waiver("VARHIDDEN", "Declaration of signal hides*: '?'*", "multiplexers are functions of a, b and s"),
    Waiver("CASEOVERLAP", "*", "the selector of a multiplexer is one-hot"),
    Waiver(
        "WIDTHEXPAND", "Operator * expects*", "operands grow to the width of the result, by their sign where $signed"
    ),
    Waiver("CMPCONST", "*", "a counter that a small configuration leaves one bit is compared as wide ones are"),
    Waiver("WIDTHTRUNC", "*Assign RHS's SHIFTR generates*", "one word of many is chosen by shifting it to the bottom"),
)


def vlt(file: str) -> str:
    """The waivers as a Verilator control file for the Verilog file of that name."""
    lines = ["`verilator_config"]
    for w in WAIVERS:
        match = "" if w.match == "*" else f' -match "{w.match}"'
        lines += [f"// {w.reason}", f'lint_off -rule {w.rule} -file "*{file}"{match}']
    return "\n".join(lines) + "\n"
