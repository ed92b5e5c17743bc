"""Device functions that the Triton kernels share: the order of tiles, loading and multiplying them, and scaling C."""

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


@triton.jit  # type: ignore[untyped-decorator]
def multiply_along_k(  # type: ignore[no-untyped-def]
    # Pointers: first element of A [M, K] and B [K, N].
    a_ptr,
    b_ptr,
    # Indices: 64-bit rows and columns of the tile of C, and where along K to begin and to end.
    m,
    n,
    first_k,
    end_k,
    # Sizes.
    M,
    N,
    K,
    # Strides, in elements.
    stride_am,
    stride_ak,
    stride_bk,
    stride_bn,
    # Meta.
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN_M: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    IMPRECISE_TERMS: tl.constexpr,
):
    """A @ B for one tile of C over a part of K that begins at a multiple of BLOCK_K; the loop that Triton pipelines.

    IMPRECISE_TERMS: how many fp8 products Hopper may sum before promotion; None for as many as there are.
    """
    m_inside = (m < M)[:, None]
    n_inside = (n < N)[None, :]
    k = tl.arange(0, BLOCK_K)
    from_k = first_k + k.to(tl.int64)
    a_tile = a_ptr + m[:, None] * stride_am + from_k[None, :] * stride_ak
    b_tile = b_ptr + from_k[:, None] * stride_bk + n[None, :] * stride_bn
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=ACCUMULATOR)
    for k_start in range(first_k, end_k, BLOCK_K):
        k_inside = k < K - k_start
        a = load_tile(a_tile, m_inside, k_inside[None, :], EVEN_M, EVEN_K)
        b = load_tile(b_tile, k_inside[:, None], n_inside, EVEN_K, EVEN_N)
        accumulator = tl.dot(
            a,
            b,
            accumulator,
            input_precision=INPUT_PRECISION,
            max_num_imprecise_acc=IMPRECISE_TERMS,
            out_dtype=ACCUMULATOR,
        )
        a_tile += BLOCK_K * stride_ak
        b_tile += BLOCK_K * stride_bk
    return accumulator


@triton.jit  # type: ignore[untyped-decorator]
def scaled(accumulator, scale_a_ptr, scale_b_ptr, batch, m, n, M, N, SCALING: tl.constexpr):  # type: ignore[no-untyped-def]
    """The accumulator times the dequantisation factors: one a tensor, or one a row of A and a column of B, or none.

    m, n: the row and column of its first element.
    """
    if SCALING == "tensor":
        return accumulator * (tl.load(scale_a_ptr) * tl.load(scale_b_ptr))
    elif SCALING == "row":
        rows = m + tl.arange(0, accumulator.shape[0])
        columns = n + tl.arange(0, accumulator.shape[1])
        scale_a = tl.load(scale_a_ptr + batch * M + rows, mask=rows < M, other=0.0)
        scale_b = tl.load(scale_b_ptr + batch * N + columns, mask=columns < N, other=0.0)
        return accumulator * scale_a[:, None] * scale_b[None, :]
    else:
        return accumulator
