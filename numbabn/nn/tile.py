"""A tile of sums in registers, to which a loop adds products: what convolutions are made of.

A tile is ``ROWS`` rows of one or two vectors. Each step of the loop adds ``a[row] * b[lane]`` for all of them: it reads
a number for each row and the vectors of b, and multiplies each with each. That is how matrix products come near the
peak of a machine; here the rows of a may overlap in memory, as the patches of an image do.
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
    """How two nested loops walk through a and b: their lengths, and the steps between elements."""

    outer: int
    inner: int
    a_outer: int
    a_step: int
    """Between the tile's rows (``write_products``) or of the inner loop (``add_products``); the other one is 1."""
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
def _add_products(typingctx, tile, a, at, row, b, from_):
    """The tile with ``a[at + r * row] * b[from_ + lane]`` added to each lane of each row r."""
    vectors = tile.count // ROWS

    def codegen(context, builder, signature, args):
        sums, a_value, at, row, b_value, from_ = args
        lanes, bits = tile.dtype.lanes, tile.dtype.dtype.bitwidth
        vector = context.get_value_type(tile.dtype)
        function_type = ir.FunctionType(vector, [vector] * 3)
        fma = builder.module.declare_intrinsic(f"llvm.fmuladd.v{lanes}f{bits}", (), function_type)
        factors = []
        for v in range(vectors):
            address = vector_pointer(context, builder, b, b_value, builder.add(from_, from_.type(v * lanes)), vector)
            factors.append(builder.load(address, align=bits // 8))
        for r in range(ROWS):
            offset = builder.add(at, builder.mul(row, row.type(r)))
            number = splat_lanes(builder, builder.load(element_pointer(context, builder, a, a_value, offset)), vector)
            for v, factor in enumerate(factors, r * vectors):
                total = builder.call(fma, [number, factor, builder.extract_value(sums, v)])
                sums = builder.insert_value(sums, total, v)
        return sums

    return tile(tile, a, types.intp, types.intp, b, types.intp), codegen


@intrinsic(prefer_literal=True)
def _put(typingctx, tile, memory, at, row, rows, columns, add):
    """Write the first ``rows`` rows and ``columns`` lanes to ``memory[at + r * row + lane]``, or add them to it.

    ``add`` is a constant, 0 or 1.
    """
    vectors = tile.count // ROWS

    def codegen(context, builder, signature, args):
        sums, value, at, row, rows, columns, _ = args
        for index in range(tile.count):
            r, first = index // vectors, index % vectors * tile.dtype.lanes
            offset = builder.add(builder.add(at, builder.mul(row, row.type(r))), at.type(first))
            inside = builder.and_(
                builder.icmp_signed("<", rows.type(r), rows), builder.icmp_signed("<", columns.type(first), columns)
            )
            with builder.if_then(inside, likely=True):
                count = builder.sub(columns, columns.type(first))
                put_vector(context, builder, builder.extract_value(sums, index), memory, value, offset, count)
        return context.get_dummy_value()

    def put_vector(context, builder, vector, memory, value, offset, count):
        address = vector_pointer(context, builder, memory, value, offset, vector.type)
        alignment, mask = lane_mask(builder, memory, count)
        if add.literal_value:
            zero = ir.Constant(vector.type, None)
            before = masked_operation(builder, "load", vector.type, [address, alignment, mask, zero])
            vector = builder.fadd(before, vector)
        masked_operation(builder, "store", ir.VoidType(), [vector, address, alignment, mask])

    arguments = (tile, memory, *[types.intp] * 4, add)
    return types.void(*arguments), codegen


def _tile_products(vectors, add):
    """A function that sums the products of one tile, ``vectors`` wide, and writes the sums or adds them.

    Of the steps in a, one is the constant 1: with two unknown ones, LLVM forms the addresses of the rows one after the
    other, each waiting for the last, which halves the speed.
    """

    @device
    def tile_products(target, at, row, rows, columns, a, a_at, b, b_at, walk):
        a_row, a_inner = (1, walk.a_step) if add else (walk.a_step, 1)
        tile = _zeros(target, vectors)
        for i in range(walk.outer):
            a_line, b_line = a_at + i * walk.a_outer, b_at + i * walk.b_outer
            for k in range(walk.inner):
                tile = _add_products(tile, a, a_line + k * a_inner, a_row, b, b_line + k * walk.b_inner)
        _put(tile, target, at, row, rows, columns, add)

    return tile_products


_write_one, _write_more = _tile_products(1, 0), _tile_products(VECTORS, 0)
_add_one, _add_more = _tile_products(1, 1), _tile_products(VECTORS, 1)


@device
def write_products(target, at, row, rows, columns, a, a_at, b, b_at, walk):
    """Write ``target[at + r * row + c] = sum(a[a_at + r * a_step + k] * b[b_at + k * b_inner + c])``.

    The sum is over ``k`` of the inner loop, and over the outer one. There are ``rows`` r, of which a tile's are taken,
    and ``columns`` c, as many as a tile has lanes at most; beyond them a and b are read, and may hold anything.
    """
    if columns > vector_length(target):
        _write_more(target, at, row, rows, columns, a, a_at, b, b_at, walk)
    else:
        _write_one(target, at, row, rows, columns, a, a_at, b, b_at, walk)


@device
def add_products(target, at, row, rows, columns, a, a_at, b, b_at, walk):
    """Add to ``target[at + r * row + c]`` the ``sum(a[a_at + r + k * a_step] * b[b_at + k * b_inner + c])``."""
    if columns > vector_length(target):
        _add_more(target, at, row, rows, columns, a, a_at, b, b_at, walk)
    else:
        _add_one(target, at, row, rows, columns, a, a_at, b, b_at, walk)
