"""The compiled loop of `window_search.py`. Importing it needs Numba.

Cosines are dot products of the query's cells with rows of keys. Numba's own loops reach half of
what the processor can do, because their sums go through memory. So the innermost loop is written as
instructions on vectors, `dots`: it holds the sums of `ROWS` cells with `VECTORS * LANES` keys in
registers. LLVM makes machine code of it for any processor.
"""

import numpy as np
from llvmlite import ir
from numba import njit as numba_njit
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Cells of the query, one below the other, that are multiplied with the same keys.
ROWS = 4
VECTORS, LANES = 2, 8
KEYS = VECTORS * LANES


def njit(**options):
    """Do what Numba's `njit` does, and keep the machine code on disk if there is a place for it."""

    def compiled(function):
        try:
            return numba_njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:
            # Neither the package's folder nor the user's can be written to.
            return numba_njit(nogil=True, **options)(function)

    return compiled


@intrinsic
def dots(typing, query, cell, keys, key, stride, channels, sums, place, width):
    """Write the dot products of `ROWS` cells with `KEYS` keys.

    sums[place + row * width + i] = sum over c of
        query[cell + row * channels + c] * keys[key + c * stride + i]

    Args:
        query, keys, sums: Contiguous float32 arrays of one dimension.
        cell, key, place: Where to begin in them.
        stride, channels, width: Lengths of their rows.
    """
    signature = types.void(
        query, *[types.intp] * 1, keys, *[types.intp] * 3, sums, *[types.intp] * 2
    )
    vector, index = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)
    splat = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    undefined = ir.Constant(vector, ir.Undefined)

    def generate(context, builder, signature, arguments):
        def pointer(array: int, offset):
            data = context.make_array(signature.args[array])(
                context, builder, arguments[array]
            ).data
            return builder.gep(data, [offset])

        def at(base, *offset):
            return builder.bitcast(builder.gep(base, list(offset)), vector.as_pointer())

        _, cell, _, key, stride, channels, _, place, width = arguments
        query, keys, sums = pointer(0, cell), pointer(2, key), pointer(6, place)
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{LANES}f32"
        )
        before, loop = builder.block, builder.append_basic_block("dots")
        after = builder.append_basic_block("dots.end")
        builder.branch(loop)
        builder.position_at_end(loop)
        channel = builder.phi(index)
        channel.add_incoming(index(0), before)
        sum_of = {(r, v): builder.phi(vector) for r in range(ROWS) for v in range(VECTORS)}
        row_of_keys = builder.gep(keys, [builder.mul(channel, stride)])
        loaded = [builder.load(at(row_of_keys, index(v * LANES)), align=4) for v in range(VECTORS)]
        for r in range(ROWS):
            number = builder.add(channel, builder.mul(index(r), channels))
            value = builder.load(builder.gep(query, [number]))
            first = builder.insert_element(undefined, value, ir.IntType(32)(0))
            everywhere = builder.shuffle_vector(first, undefined, splat)
            for v in range(VECTORS):
                total = builder.call(multiply_add, [everywhere, loaded[v], sum_of[r, v]])
                sum_of[r, v].add_incoming(ir.Constant(vector, [0.0] * LANES), before)
                sum_of[r, v].add_incoming(total, loop)
        following = builder.add(channel, index(1))
        channel.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, channels), loop, after)
        builder.position_at_end(after)
        for (r, v), phi in sum_of.items():
            to = builder.add(builder.mul(index(r), width), index(v * LANES))
            builder.store(phi.incomings[1][0], at(sums, to), align=4)
        return context.get_dummy_value()

    return signature, generate


@njit(fastmath={"nnan", "nsz", "reassoc"})
def highest(values, start, stop):
    """Return the highest of values[start:stop]; -inf if there are none."""
    found = np.float32(-np.inf)
    for i in range(start, stop):
        found = max(found, values[np.uintp(i)])
    return found


@njit()
def insert(value, number, values, numbers):
    """Put a value among values (k,), which fall, in place of the lowest."""
    place = len(values) - 1
    while place > 0 and values[place - 1] < value:
        values[place], numbers[place] = values[place - 1], numbers[place - 1]
        place -= 1
    values[place], numbers[place] = value, number


@njit()
def keep_best(sums, offset, left, right, first, cosines, numbers):
    """Put the cosines of a row of keys, from column `left` to `right`, among the matches (k,)."""
    if highest(sums, offset + left, offset + right) <= cosines[-1]:
        return
    for x in range(left, right):
        if sums[offset + x] > cosines[-1]:
            insert(sums[offset + x], first + x, cosines, numbers)


@njit()
def search_runs(runs, query, keys, reach, first, cosines, numbers):
    """Search one frame for runs of cells, and put what is better among the matches.

    Args:
        runs: (n, 6) int64. Each is a block of cells: y, x, rows (up to `ROWS`), columns, and the
            shift (dy, dx) of their windows.
        query: (h, w, C) float32.
        keys: (h, C, w') float32 of the frame, w' >= w a multiple of `KEYS`.
        reach: (2 radius + 1,) int64, the columns that a window reaches to each side in each row.
        first: Number of the frame's first cell.
        cosines, numbers: (h, w, k) float32 and int64, the matches so far.
    """
    height, width, channels = query.shape
    stride, radius = keys.shape[2], len(reach) // 2
    across = min(stride, (2 * radius + KEYS) // KEYS * KEYS)  # keys of a row
    flat_keys = keys.reshape(-1)
    flat_cells = np.zeros(width * ROWS * channels, np.float32)
    cells = flat_cells.reshape(width, ROWS, channels)
    sums = np.empty(ROWS * across, np.float32)
    for y, x, rows, columns, dy, dx in runs:
        for column in range(columns):
            for row in range(rows):
                cells[column, row] = query[y + row, x + column]
        top, bottom = max(0, y + dy - radius), min(height, y + dy + rows + radius)
        # From the middle outwards: what is best is found soon, and little is put in its place.
        for step in range(2 * (radius + ROWS)):
            key_y = y + dy + rows // 2 + (step + 1) // 2 * (1 if step % 2 else -1)
            if not top <= key_y < bottom:
                continue
            for column in range(columns):
                centre = x + column + dx
                start = min(max(centre - radius, 0), stride - across)
                cell, key = column * ROWS * channels, key_y * channels * stride + start
                for part in range(0, across, KEYS):
                    dots(  # pyright: ignore[reportCallIssue]
                        *(flat_cells, cell, flat_keys, key + part, stride, channels),
                        *(sums, part, across),
                    )
                for row in range(rows):
                    vertical = key_y - y - row - dy + radius
                    if not 0 <= vertical < len(reach):
                        continue
                    left = max(0, centre - reach[vertical])
                    right = min(width, centre + reach[vertical] + 1)
                    keep_best(
                        *(sums, row * across - start, left, right, first + key_y * width),
                        *(cosines[y + row, x + column], numbers[y + row, x + column]),
                    )
