"""Watts where none were measured: board power by how busy the chip is, wide enough for what is not known.

A fifth of the limit when idle in a launch, all of it when tensor cores or DRAM are full, linear between. Of the two
public tables with watts (github.com/ai-dynamo/aiconfigurator, vllm 0.22.0, bf16, 35,742 shapes each), the least is
0.24 of the limit on the B200 and 0.19 on the GB200; over all shapes the law is off by 31 % and 46 % in the mean, and
e^±1.2 holds 95 % of both.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from flopwatt.analysis.calibrate import intervals
from flopwatt.analysis.calibrate.features import FEATURES
from flopwatt.analysis.calibrate.forest import Forest, Tree
from flopwatt.analysis.calibrate.power import BUSY_COLUMN
from flopwatt.analysis.calibrate.records import Fitted, Quantity, Residual

LEAST_SHARE: Final = 0.2
"""Of the limit: a board at work on next to nothing."""

POWER_HALF: Final = 1.2
STEPS: Final = 24
"""Leaves of the staircase that stands for the line: one is 3 % of the limit."""


def with_watts(fitted: Fitted) -> Fitted:
    """The same with power and energy by the law where it has none and its limit is known."""
    if fitted.power is not None or fitted.limit_w is None:
        return fitted
    columns = FEATURES + 2 * len(fitted.time.residual.transfers)
    law = Residual(trees=Forest(trees=(_staircase(columns + BUSY_COLUMN),)))
    return msgspec.structs.replace(
        fitted,
        power=Quantity(residual=law, interval=intervals.unknown(POWER_HALF, growth=0.0)),
        energy_interval=intervals.unknown(float(np.hypot(POWER_HALF, intervals.UNKNOWN_HALF))),
    )


def _staircase(column: int) -> Tree:
    """ln(power / limit) over ln(compute + memory utilisation), as one tree: a chain of questions from idle upwards."""
    edges = np.arange(1, STEPS) / STEPS
    middles = (np.arange(STEPS) + 0.5) / STEPS
    shares = LEAST_SHARE + (1 - LEAST_SHARE) * middles
    nodes = STEPS - 1
    return Tree(
        feature=(column,) * nodes,
        threshold=tuple(np.log(edges).tolist()),
        left=tuple(~node for node in range(nodes)),
        right=(*range(1, nodes), ~nodes),
        value=tuple(np.log(shares).tolist()),
    )
