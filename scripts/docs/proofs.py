"""``python -m scripts.docs.proofs [SUBJECT ...]``: what is proved, as one table in ``docs/formal.md``.

Each claim is decided anew, and what came out is kept in ``docs/proofs.json``; claims that are in it are not decided
again, so it must go after a change of the hardware. All of them take half an hour on an idle machine.
"""

import json
import sys
from typing import Any

from scripts.docs.source import DOCS
from tb import formal
from tb.formal.__main__ import CLAIMS, select

FILE = DOCS / "proofs.json"
PAGE = DOCS / "formal.md"

Decided = dict[str, Any]


def key(claim: formal.Claim) -> str:
    return f"{claim.subject} | {claim.text} | {claim.size}"


def kept() -> dict[str, Decided]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def decide(subjects: list[str]) -> None:
    for claim in select(subjects):
        found = kept()
        if key(claim) not in found:
            proof = formal.prove(claim, again=True)
            found |= {key(claim): {"result": proof.result, "engine": proof.engine, "seconds": round(proof.seconds, 2)}}
            order = {key(c): found[key(c)] for c in CLAIMS if key(c) in found}
            FILE.write_text(json.dumps(order, indent=1) + "\n", encoding="utf-8")
            print(f"{key(claim)}: {proof.result}, {proof.seconds:.2f} s", flush=True)


if __name__ == "__main__":
    decide(sys.argv[1:])
