"""The micro-kernel of a matrix product: a tile of ``ROWS`` x one or two vectors of sums, kept in registers.

Each step of its loop adds ``a[row] * b[lane]`` to all of them: it reads a number for each row and the vectors of b, and
multiplies each with each. That is how products come near the peak of a machine; here the rows of a may overlap in
memory, as the patches of an image do. All memory is given by pointers (see ``backends.cpu.memory``): counting
references to arrays would take as long as a small tile.
"""

from typing import NamedTuple

from llvmlite import binding, ir
from numba import config, types
from numba.extending import intrinsic

from ..backends.cpu.memory import element_pointer, lane_mask, masked_operation, vector_length, vector_pointer
from ..backends.cpu.simd import Vector, splat_lanes
from ..jit import device

_FEATURES = binding.get_host_cpu_features().flatten() if config.CPU_FEATURES is None else config.CPU_FEATURES

ROWS, VECTORS = (8, 2) if "+avx512f" in _FEATURES.split(",") else (6, 1)
"""Rows, and most vectors in each: with AVX-512 16 sums, 2 vectors and a number take 19 of 32 registers, with AVX2 12, 2
and 1 (of half the size) take 15 of 16."""


class Walk(NamedTuple):
    """Lengths of the two loops, and their steps in a and b, in elements."""

    outer: int
    inner: int
    a_outer: int
    a_inner: int
    """``write_products`` takes it as 1 and does not read it."""
    b_outer: int
    b_inner: int


@intrinsic(prefer_literal=True)
def _zeros(typingctx, memory, vectors):
    """A tile of sums of the dtype of ``memory``; ``vectors``, a constant, is the number in each row."""
    tile = types.UniTuple(Vector(memory.dtype), ROWS * vectors.literal_value)

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(memory, vectors), codegen


@intrinsic
def _entries(typingctx, table):
    """The first ``ROWS`` entries of a table, in registers."""
    entries = types.UniTuple(table.dtype, ROWS)

    def codegen(context, builder, signature, args):
        result = ir.Constant(context.get_value_type(entries), ir.Undefined)
        for r in range(ROWS):
            address = element_pointer(context, builder, table, args[0], context.get_constant(types.intp, r))
            result = builder.insert_value(result, builder.load(address), r)
        return result

    return entries(table), codegen


@intrinsic
def _add_products(typingctx, tile, a, rows, a_at, b, b_at):
    """The tile with ``a[rows[r] + a_at] * b[b_at + lane]`` added to each lane of each row r; rows of None are r."""
    vectors = tile.count // ROWS

    def codegen(context, builder, signature, args):
        sums, a_value, rows_value, a_at, b_value, b_at = args
        lanes, bits = tile.dtype.lanes, tile.dtype.dtype.bitwidth
        vector = context.get_value_type(tile.dtype)
        function_type = ir.FunctionType(vector, [vector] * 3)
        fma = builder.module.declare_intrinsic(f"llvm.fmuladd.v{lanes}f{bits}", (), function_type)
        factors = []
        for v in range(vectors):
            address = vector_pointer(context, builder, b, b_value, builder.add(b_at, b_at.type(v * lanes)), vector)
            factors.append(builder.load(address, align=bits // 8))
        for r in range(ROWS):
            row = a_at.type(r) if rows == types.none else builder.extract_value(rows_value, r)
            address = element_pointer(context, builder, a, a_value, builder.add(a_at, row))
            number = splat_lanes(builder, builder.load(address), vector)
            for v, factor in enumerate(factors, r * vectors):
                total = builder.call(fma, [number, factor, builder.extract_value(sums, v)])
                sums = builder.insert_value(sums, total, v)
        return sums

    return tile(tile, a, rows, types.intp, b, types.intp), codegen


@intrinsic(prefer_literal=True)
def _put(typingctx, tile, memory, rows, at, count, columns, add):
    """Write ``columns`` lanes of the first ``count`` rows to ``memory[at + rows[r] + lane]``, or add them to it.

    ``rows`` is a tuple, or the step from each row to the next; ``add`` is a constant, 0 or 1.
    """
    vectors = tile.count // ROWS

    def codegen(context, builder, signature, args):
        sums, value, rows_value, at, count, columns, _ = args
        for index in range(tile.count):
            r, first = index // vectors, index % vectors * tile.dtype.lanes
            inside = builder.and_(
                builder.icmp_signed("<", count.type(r), count), builder.icmp_signed("<", columns.type(first), columns)
            )
            with builder.if_then(inside, likely=True):
                stepped = isinstance(rows, types.Integer)
                row = builder.mul(rows_value, at.type(r)) if stepped else builder.extract_value(rows_value, r)
                offset = builder.add(builder.add(at, row), at.type(first))
                left = builder.sub(columns, columns.type(first))
                put_vector(context, builder, builder.extract_value(sums, index), value, offset, left)
        return context.get_dummy_value()

    def put_vector(context, builder, vector, value, offset, count):
        address = vector_pointer(context, builder, memory, value, offset, vector.type)
        alignment, mask = lane_mask(builder, memory, count)
        if add.literal_value:
            zero = ir.Constant(vector.type, None)
            before = masked_operation(builder, "load", vector.type, [address, alignment, mask, zero])
            vector = builder.fadd(before, vector)
        masked_operation(builder, "store", ir.VoidType(), [vector, address, alignment, mask])

    return types.void(tile, memory, rows, *[types.intp] * 3, add), codegen


def _writing(vectors):
    """The function behind ``write_products``, for a tile ``vectors`` wide."""

    @device
    def write(target, at, to, count, columns, a, seen, b, b_at, walk):
        rows, tile = _entries(seen), _zeros(target, vectors)
        for i in range(walk.outer):
            a_line, b_line = i * walk.a_outer, b_at + i * walk.b_outer
            for k in range(walk.inner):
                tile = _add_products(tile, a, rows, a_line + k, b, b_line + k * walk.b_inner)
        _put(tile, target, _entries(to), at, count, columns, 0)

    return write


def _adding(vectors):
    """The function behind ``add_products``."""

    @device
    def add(target, at, row, count, columns, a, a_at, b, b_at, walk):
        tile = _zeros(target, vectors)
        for i in range(walk.outer):
            a_line, b_line = a_at + i * walk.a_outer, b_at + i * walk.b_outer
            for k in range(walk.inner):
                tile = _add_products(tile, a, None, a_line + k * walk.a_inner, b, b_line + k * walk.b_inner)
        _put(tile, target, row, at, count, columns, 1)

    return add


_write_one, _write_more = _writing(1), _writing(VECTORS)
_add_one, _add_more = _adding(1), _adding(VECTORS)


@device
def write_products(target, at, to, count, columns, a, seen, b, b_at, walk):
    """``target[at + to[r] + c] = sum(a[seen[r] + i * a_outer + k] * b[b_at + i * b_outer + k * b_inner + c] for i, k)``

    i counts the outer loop, k the inner one. Of the tile, ``count`` rows and ``columns`` lanes are written. Both tables
    have an entry for each row, and a and b are read for all; they may hold anything there.
    """
    if columns > vector_length(target):
        _write_more(target, at, to, count, columns, a, seen, b, b_at, walk)
    else:
        _write_one(target, at, to, count, columns, a, seen, b, b_at, walk)


@device
def add_products(target, at, row, count, columns, a, a_at, b, b_at, walk):
    """The same for ``target[at + r * row + c] += ...``, with ``a[a_at + r + i * a_outer + k * a_inner]``."""
    if columns > vector_length(target):
        _add_more(target, at, row, count, columns, a, a_at, b, b_at, walk)
    else:
        _add_one(target, at, row, count, columns, a, a_at, b, b_at, walk)
