"""Device functions that the Triton kernels share: which tile of C a program works on, and loading one of A or B."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def grouped_tile(tile, tiles_m, tiles_n, GROUP_M: tl.constexpr):  # type: ignore[no-untyped-def]
    """Row and column of the `tile`-th tile of C, in tiles, in the order that `tile_order` models.

    GROUP_M rows of tiles are walked column by column, so that tiles under way together share A and B in L2.
    """
    tiles_in_group = GROUP_M * tiles_n
    first_m = (tile // tiles_in_group) * GROUP_M
    group_m = min(tiles_m - first_m, GROUP_M)
    return first_m + (tile % tiles_in_group) % group_m, (tile % tiles_in_group) // group_m


@triton.jit  # type: ignore[untyped-decorator]
def load_tile(pointers, rows_inside, columns_inside, EVEN_ROWS: tl.constexpr, EVEN_COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """A tile, zero where it hangs over an edge that is not known to be even."""
    if EVEN_ROWS and EVEN_COLUMNS:
        return tl.load(pointers)
    elif EVEN_ROWS:
        return tl.load(pointers, mask=columns_inside, other=0.0)
    elif EVEN_COLUMNS:
        return tl.load(pointers, mask=rows_inside, other=0.0)
    else:
        return tl.load(pointers, mask=rows_inside & columns_inside, other=0.0)
