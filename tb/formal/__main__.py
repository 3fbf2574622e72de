"""``python -m tb.formal [SUBJECT ...]``: prove all claims, or those about the named subjects, and print the table.

Exit code 0: all hold; 1: some do not; 2: no such subject.
"""

import sys

from golden.spec import SpecError
from tb import formal
from tb.formal import (
    cache,
    cache_moves,
    cache_unit,
    cores,
    dispatch,
    kmeans,
    kmeans_function,
    moe,
    orizuru,
    prediction_table,
    prune,
    selectors,
    soc,
    stream,
    unpack,
)

RESIDENCY = (cache, cache_unit, cache_moves, prediction_table)
MODULES = (stream, cores, orizuru, selectors, kmeans, kmeans_function, dispatch, moe, *RESIDENCY, unpack, prune, soc)
CLAIMS = tuple(claim for module in MODULES for claim in module.CLAIMS)


def select(subjects: list[str]) -> list[formal.Claim]:
    """The claims about ``subjects`` (all when empty); ``SpecError`` for one that there is none about."""
    known = list(dict.fromkeys(c.subject for c in CLAIMS))
    for subject in subjects:
        if subject not in known:
            raise SpecError(f"subject must be one of {', '.join(known)}, not {subject!r}")
    return [c for c in CLAIMS if not subjects or c.subject in subjects]


def main(subjects: list[str]) -> int:
    try:
        claims = select(subjects)
    except SpecError as e:
        print(e, file=sys.stderr)
        return 2
    width = max(len(c.size) for c in claims)
    heading = ""
    failed = 0
    for claim in claims:
        if heading != (heading := f"{claim.subject}: {claim.text}"):
            print(f"\n{heading}")
        try:
            proof = formal.prove(claim, again=True)
            print(f"  {claim.size:{width}}  {proof.result}, {proof.engine}, {proof.seconds:.2f} s", flush=True)
        except (formal.Refuted, formal.Undecided) as e:
            failed += 1
            print(f"  {claim.size:{width}}  {type(e).__name__.upper()}\n{e}", flush=True)
    print(f"\n{len(claims) - failed} of {len(claims)} claims hold.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
