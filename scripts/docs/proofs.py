"""``python -m scripts.docs.proofs [SUBJECT ...]``: what is proved, decided anew and written down in ``docs/formal.md``.

What came out is kept in ``docs/proofs.json``; claims that are in it are not decided again, so it must go after a change
of the hardware. All of them take half an hour on an idle machine, most of it ``orizuru`` and ``expert_cache``; named
subjects alone leave the page to the next run.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from scripts.docs.source import DOCS
from scripts.docs.verification import plain
from tb import formal
from tb.formal import vacuity
from tb.formal.__main__ import CLAIMS, select

FILE = DOCS / "proofs.json"
PAGE = DOCS / "formal.md"


@dataclass(frozen=True)
class Decided:
    """What came out for a claim: how, by what, how long it took; of a text's first size, how many mutants there were up
    to the first that was refuted."""

    result: str
    engine: str
    seconds: float
    mutants: int | None


def key(claim: formal.Claim) -> str:
    return f"{claim.subject}: {claim.text}: {claim.size}"


def firsts() -> set[str]:
    """Keys of the claims that stand for their text where mutants are tried."""
    return {key(c) for c in {(c.subject, c.text): c for c in reversed(CLAIMS)}.values()}


def kept() -> dict[str, Decided]:
    found = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    return {name: Decided(**fields) for name, fields in found.items()}


def decide(subjects: list[str]) -> None:
    """Raises what :func:`tb.formal.prove` does; ``AssertionError`` for a claim that refutes no mutant."""
    for claim in select(subjects):
        name, found = key(claim), kept()
        if name in found:
            continue
        proof = formal.prove(claim, again=True)
        found = kept()  # others may have added to it
        mutants = vacuity.refuted(claim) if name in firsts() else None
        assert mutants or name not in firsts(), f"{name}: refutes none of {vacuity.COUNT} mutants"
        found[name] = Decided(proof.result, proof.engine, round(proof.seconds, 1), mutants)
        rows = {key(c): asdict(found[key(c)]) for c in CLAIMS if key(c) in found}
        FILE.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {proof.result}, {proof.seconds:.2f} s, mutants: {mutants}", flush=True)


def page() -> str:
    """In Markdown."""
    found = kept()
    proved = sum(c.cycles is None for c in CLAIMS)
    return f"""\
# What is proved

{len(CLAIMS)} claims, {proved} of them for all inputs or for all time, {len(CLAIMS) - proved} for a stated number of
cycles from reset. `senbazuru formal` decides them again; `python -m scripts.docs.proofs` writes this page, for which
it has decided {len(found)}; the others are left to the tests (`make test-all`).

*For all inputs*: a circuit without state, by SAT. *Induction, n*: it holds from reset on, and what holds for n cycles
holds in the next one, from any state that fulfils the claim. *Bounded*: no counterexample within that many cycles from
reset; later ones are not looked at. Properties are circuits of assertions around the unit (`tb/formal`), each
against a second, naive definition; the engines are the SAT solver of Yosys and, for circuits that are too large for it,
the model checker of ABC. Sizes are those of the proof, small ones as a rule: nothing is said of others. Seconds are of
one run on a busy machine of two cores.

*Mutants*: that a claim says something. Of {vacuity.COUNT} units with one wrong bit each, made by Yosys' `mutate`, this
one was the first that the claim, at its first size, refutes (`tb/formal/vacuity.py`; some mutants are no fault at all).
Besides, the tests of each module of `tb/formal` hold deliberate faults in the hardware's source against its claims.

| subject | holds | size | how | engine | seconds | mutants |
|---|---|---|---|---|---|---|
{chr(10).join(_rows(found))}

{UNPROVED}"""


def _rows(found: dict[str, Decided]) -> Iterator[str]:
    said = ("", "")
    for claim in CLAIMS:
        subject, text = ("", "") if said == (claim.subject, claim.text) else (f"`{claim.subject}`", plain(claim.text))
        said = claim.subject, claim.text
        if d := found.get(key(claim)):
            how = d.result.removeprefix("proved ").removeprefix("by ")
            cells = [how, d.engine, f"{d.seconds:.1f}", str(d.mutants or "")]
        else:
            cells = [f"bounded, {claim.cycles} cycles" if claim.cycles else "claimed", claim.engine, "not decided", ""]
        yield f"| {' | '.join((subject, text, plain(claim.size), *cells))} |"


UNPROVED = """\
## Not proved

Blocks in which a wrong bit would be easy to miss and that no claim is about, and what holds them instead. Whole units
are simulated, but for `orizuru`, `dispatch`, `expert_cache` and `expert_table`, which are above.

- Floating point (`hdl/arith/floats.py`: rounding, conversion, add, multiply): all words of a width for its parts, all
  pairs of corners, random words against NumPy and ml_dtypes (`tb/test_floats.py`).
- SiLU (`hdl/arith/silu.py`): all of FP16 (`tb/test_silu.py`).
- FP16 and aligned products, other elements (`hdl/mixpe`: `align.py`, `baseline_fp.py`, `bitfusion.py`): every product
  up to 8 x 8 bits, all of INT4 x FP16 (`tb/test_mixpe_pe_matrix.py`); benches.
- Weight-stationary array, skew, feeder, collector (`hdl/mixpe`): benches, cycle counts equal to formulas.
- Ring of weights, gather, results, softmax (`hdl/moe`): benches of `expert_ffn`, `moe_ffn`, `gate`; deliberate faults.
- Residuals, outliers, merge (`hdl/kmeans`): bench of `kmeans_linear`, deliberate faults.
- Registers, sequencer, mailbox, the memory's turns (`hdl/soc`): benches with a memory and a host that watch AXI4, every
  error, deliberate faults.
- Serial line (`hdl/soc/uart.py`, `bridge.py`): a model of the line, wrong bit rates, random frames (`tb/test_uart.py`,
  `tb/test_uart_bridge.py`).
"""


if __name__ == "__main__":
    decide(sys.argv[1:])
    if not sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
