"""How large a line of the unit ``lutgemm`` will be, before it is made: what ``reducer=auto`` compares.

LUTs of up to six inputs, of one line with its units, bins and weighted sum; the table is left out, which all lines
share. Fitted to syntheses with sums of up to 4,096; ``docs/kmeans.md`` says how far off it is elsewhere. ``python -m
scripts.kmeans_cost`` measures what it can be held against.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from golden.kmeans.lutgemm import LutGemmSpec

ADD = 1.73
"""Per bit of a table entry: the tree of adders."""

CHOOSE = {1: 1, 2: 1, 3: 3, 4: 6}
"""Per bit of a table entry: the multiplexer of a row, by bits of a weight's index."""

COUNT = 2.5
"""Per code and counter."""

KEEP = 10
"""Per counter: two sums and their adder."""

ADD_CENTROID = 18.5
"""Per code and bucket."""

MULTIPLY = 2.3
"""Per bit of a bin and bit of its factor."""

ERROR = 0.15
"""Of the estimates."""


def luts(spec: "LutGemmSpec") -> float:
    """Estimate for one line."""
    if spec.reducer == "direct":
        return spec.codes * spec.entry_bits * (ADD + CHOOSE[spec.weight_bits])
    each = COUNT * spec.codes + KEEP if spec.reducer == "histogram" else ADD_CENTROID * spec.codes
    return spec.bins * each + MULTIPLY * spec.per_cycle * spec.bin_width * spec.factor_bits
