"""Sweeps over a unit's configurations: what they compute well against what they cost.

``study`` says what a unit's sweep is, ``sweep`` makes measurements in other processes and keeps them, ``pareto`` and
``plot`` show them. One module per unit (``mixpe``) has all that is the unit's own: an entry here and
``senbazuru explore UNIT`` does the rest.
"""

from scripts.explore import mixpe
from scripts.explore.study import Study

STUDIES: dict[str, Study] = {"mixpe": mixpe.STUDY}
