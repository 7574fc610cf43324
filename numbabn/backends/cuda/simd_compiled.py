"""Vectors in the code that LLVM is given: see ``simd``."""

import operator

from llvmlite import ir
from numba.cuda import types
from numba.cuda.cudaimpl import lower as lower_for_cuda
from numba.cuda.extending import core_models, intrinsic, register_model, type_callable

from .policy import THREADS

BYTES = 16
SHARED = 3
"""LLVM's number of the address space that a block shares."""

INT16, INT32, INT64, FLOAT, DOUBLE = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()
SPAN = types.UniTuple(types.int64, 3)


class Packed(types.Type):
    """What memory holds: some lanes of a dtype, by its NumPy name, the dtype that is computed in, and whether rows
    of elements may begin and end within a vector."""

    def __init__(self, dtype, lanes, real, ragged):
        self.dtype = dtype
        self.lanes = lanes
        self.real = real
        self.ragged = ragged
        super().__init__(name=f"Packed({dtype} x {lanes} in {real}{', ragged' * ragged})")

    @property
    def vector(self):
        """What it is in registers."""
        return Vector(getattr(types, self.real), self.lanes)

    @property
    def storage(self):
        """LLVM's type for it: of the short dtypes two lanes in a word, or else memory would be read in pieces."""
        if self.dtype in ("float32", "float64"):
            return ir.VectorType(FLOAT if self.dtype == "float32" else DOUBLE, self.lanes)
        return ir.VectorType(INT32, self.lanes // 2) if self.lanes > 1 else ir.VectorType(INT16, 1)

    @property
    def single(self):
        """The same memory an element at a time."""
        return Packed(self.dtype, 1, self.real, False)

    @property
    def bytes(self):
        """Size, and alignment."""
        return {"float64": 8, "float32": 4}.get(self.dtype, 2) * self.lanes


class Vector(types.Type):
    """Some lanes of float32 or float64 in registers."""

    def __init__(self, dtype, lanes):
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"Vector({dtype} x {lanes})")


@register_model(Packed)
class PackedModel(core_models.PrimitiveModel):
    """LLVM's vector of what is stored."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.storage)


@register_model(Vector)
class VectorModel(core_models.PrimitiveModel):
    """LLVM's vector, which the compiler takes apart into registers."""

    def __init__(self, dmm, fe_type):
        element = DOUBLE if fe_type.dtype == types.float64 else FLOAT
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


def pointer_type(dtype, lanes, real, ragged):
    """The type of a pointer to vectors."""
    return types.CPointer(Packed(dtype, lanes, real, ragged))


@intrinsic
def load(typingctx, memory, offset):
    """The vector at ``memory[offset]``."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        return _load(builder, packed, *args)

    return packed.vector(memory, offset), codegen


@intrinsic
def store(typingctx, memory, offset, value):
    """Write a vector to ``memory[offset]``."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        _store(builder, packed, *args)
        return context.get_dummy_value()

    return types.void(memory, offset, value), codegen


@intrinsic
def load_within(typingctx, memory, offset, span, fill):
    """The vector at an offset; lanes that are not of the row ``span`` hold those of ``fill``.

    A span is ``(whole, first, stop)``: how many vectors lie in memory entirely, behind which no other lane is read;
    the row's first element, and the one behind its last. (Before, all lanes are read: a warp takes one way.)
    """
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        source, at, span, fill = args
        if not packed.ragged:
            return _load(builder, packed, source, at)
        whole, first, stop = (builder.extract_value(span, k) for k in range(3))
        with builder.if_else(builder.icmp_signed("<", at, whole)) as (before, behind):
            with before:
                vector, first_block = _load(builder, packed, source, at), builder.block
            with behind:
                pieces, second_block = _load_in_pieces(builder, packed, source, at, stop), builder.block
        loaded = builder.phi(vector.type)
        loaded.add_incoming(vector, first_block)
        loaded.add_incoming(pieces, second_block)
        lanes = zip(*(_elements(builder, vector) for vector in (loaded, fill)), strict=True)
        inside = _inside(builder, packed, *_edges(builder, packed, at, first, stop))
        return _vector(builder, [builder.select(one, *pair) for one, pair in zip(inside, lanes, strict=True)])

    return packed.vector(memory, types.int64, SPAN, fill), codegen


@intrinsic
def store_within(typingctx, memory, offset, span, value):
    """Write those lanes of a vector that are of a row."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        target, at, span, vector = args
        if not packed.ragged:
            _store(builder, packed, target, at, vector)
            return context.get_dummy_value()
        low, high = _edges(builder, packed, at, *(builder.extract_value(span, k) for k in (1, 2)))
        full = builder.icmp_signed("==", builder.sub(high, low), INT32(packed.lanes))
        with builder.if_else(full) as (entire, partial):
            with entire:
                _store(builder, packed, target, at, vector)
            with partial:
                single, begin = _as_single(builder, packed, target), builder.mul(at, INT64(packed.lanes))
                written = zip(_elements(builder, vector), _inside(builder, packed, low, high), strict=True)
                for lane, (value, inside) in enumerate(written):
                    with builder.if_then(inside):
                        element = builder.add(begin, INT64(lane))
                        _store(builder, packed.single, single, element, _vector(builder, [value]))
        return context.get_dummy_value()

    return types.void(memory, types.int64, SPAN, value), codegen


@intrinsic
def within(typingctx, memory, offset, span):
    """How many lanes those are."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        if not packed.ragged:
            return INT32(packed.lanes)
        low, high = _edges(builder, packed, args[1], *(builder.extract_value(args[2], k) for k in (1, 2)))
        return builder.select(builder.icmp_signed("<", low, high), builder.sub(high, low), INT32(0))

    return types.int32(memory, types.int64, SPAN), codegen


@intrinsic
def element(typingctx, memory, index):
    """One element."""
    packed = memory.dtype

    def codegen(context, builder, signature, args):
        value = _load(builder, packed.single, _as_single(builder, packed, args[0]), args[1])
        return _elements(builder, value)[0]

    return packed.vector.dtype(memory, types.int64), codegen


@intrinsic
def vector_of(typingctx, memory, element):
    """The offset of the vector that an element is in."""
    lanes = memory.dtype.lanes

    def codegen(context, builder, signature, args):
        return builder.udiv(args[1], INT64(lanes))

    return types.int64(memory, types.int64), codegen


def _load(builder, packed, source, at):
    """A vector of what is computed in."""
    value = builder.load(builder.gep(source, [at]), align=packed.bytes)
    if packed.dtype in WIDENED:
        value = _vector(builder, [WIDENED[packed.dtype](builder, short) for short in _shorts(builder, value)])
    if packed.real == "float64" and packed.dtype != "float64":
        value = _vector(builder, [builder.fpext(lane, DOUBLE) for lane in _elements(builder, value)])
    return value


def _store(builder, packed, target, at, vector):
    """The inverse."""
    if packed.real == "float64" and packed.dtype != "float64":
        vector = _vector(builder, [builder.fptrunc(lane, FLOAT) for lane in _elements(builder, vector)])
    if packed.dtype in NARROWED:
        shorts = [NARROWED[packed.dtype](builder, lane) for lane in _elements(builder, vector)]
        vector = _vector(builder, _words(builder, shorts) if len(shorts) > 1 else shorts)
    builder.store(vector, builder.gep(target, [at]), align=packed.bytes)


def _load_in_pieces(builder, packed, source, at, stop):
    """A vector of which an element at a time is read, and none from ``stop`` on: in its place, the last before."""
    single, begin = _as_single(builder, packed, source), builder.mul(at, INT64(packed.lanes))
    last, found = builder.sub(stop, INT64(1)), []
    for lane in range(packed.lanes):
        element = builder.add(begin, INT64(lane))
        element = builder.select(builder.icmp_signed("<", element, last), element, last)
        found += _elements(builder, _load(builder, packed.single, single, element))
    return _vector(builder, found)


def _as_single(builder, packed, pointer):
    """A pointer to the same memory an element at a time."""
    return builder.bitcast(pointer, packed.single.storage.as_pointer())


def _edges(builder, packed, at, first, stop):
    """The first lane of a vector that is among the elements, and the one behind the last, from 0 to all lanes."""
    begin, edges = builder.mul(at, INT64(packed.lanes)), []
    for element in (first, stop):
        lane = builder.sub(element, begin)
        lane = builder.select(builder.icmp_signed(">", lane, INT64(0)), lane, INT64(0))
        lane = builder.select(builder.icmp_signed("<", lane, INT64(packed.lanes)), lane, INT64(packed.lanes))
        edges.append(builder.trunc(lane, INT32))
    return edges


def _inside(builder, packed, low, high):
    """Whether each lane is between two edges."""
    for lane in range(packed.lanes):
        above, below = builder.icmp_signed(">=", INT32(lane), low), builder.icmp_signed("<", INT32(lane), high)
        yield builder.and_(above, below)


def _elements(builder, vector):
    """The lanes of an LLVM vector."""
    return [builder.extract_element(vector, ir.Constant(INT32, lane)) for lane in range(vector.type.count)]


def _vector(builder, elements):
    """An LLVM vector of some lanes."""
    vector = ir.Constant(ir.VectorType(elements[0].type, len(elements)), ir.Undefined)
    for lane, element in enumerate(elements):
        vector = builder.insert_element(vector, element, ir.Constant(INT32, lane))
    return vector


def _shorts(builder, value):
    """The 16-bit integers in what was loaded."""
    elements = _elements(builder, value)
    if value.type.element == INT16:
        return elements
    shifts = ir.Constant(INT32, 0), ir.Constant(INT32, 16)
    return [builder.trunc(builder.lshr(word, shift), INT16) for word in elements for shift in shifts]


def _words(builder, shorts):
    """Pairs of 16-bit integers as words."""
    wide = [builder.zext(short, INT32) for short in shorts]
    sixteen = ir.Constant(INT32, 16)
    return [builder.or_(low, builder.shl(high, sixteen)) for low, high in zip(wide[::2], wide[1::2], strict=True)]


def _from_float16(builder, short):
    return builder.fpext(builder.bitcast(short, ir.HalfType()), FLOAT)


def _from_bfloat16(builder, short):
    return builder.bitcast(builder.shl(builder.zext(short, INT32), ir.Constant(INT32, 16)), FLOAT)


def _to_float16(builder, value):
    return builder.bitcast(builder.fptrunc(value, ir.HalfType()), INT16)


def _to_bfloat16(builder, value):
    """Rounded to nearest, ties to even, by integer arithmetic; a NaN stays one."""
    bits = builder.bitcast(value, INT32)
    odd = builder.and_(builder.lshr(bits, ir.Constant(INT32, 16)), ir.Constant(INT32, 1))
    rounded = builder.add(bits, builder.add(odd, ir.Constant(INT32, 0x7FFF)))
    is_nan = builder.fcmp_unordered("uno", value, value)
    high = builder.select(is_nan, ir.Constant(INT32, 0x7FC00000), rounded)
    return builder.trunc(builder.lshr(high, ir.Constant(INT32, 16)), INT16)


WIDENED = {"float16": _from_float16, "bfloat16": _from_bfloat16}
NARROWED = {"float16": _to_float16, "bfloat16": _to_bfloat16}


@intrinsic
def lanes(typingctx, memory):
    """Elements in a vector: a constant to the compiler."""
    count = memory.dtype.lanes

    def codegen(context, builder, signature, args):
        return context.get_constant(types.int32, count)

    return types.int32(memory), codegen


@intrinsic
def splat(typingctx, memory, scalar):
    """A vector with ``scalar`` in every lane."""
    vector = memory.dtype.vector

    def codegen(context, builder, signature, args):
        return _vector(builder, [context.cast(builder, args[1], scalar, vector.dtype)] * vector.lanes)

    return vector(memory, scalar), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """``a * b + c``, rounded once."""

    def codegen(context, builder, signature, args):
        element = args[0].type.element
        name = "llvm.fma.f64" if element == DOUBLE else "llvm.fma.f32"
        function = builder.module.declare_intrinsic(name, (), ir.FunctionType(element, [element] * 3))
        lanes = zip(*(_elements(builder, arg) for arg in args), strict=True)
        return _vector(builder, [builder.call(function, values) for values in lanes])

    return a(a, a, a), codegen


@intrinsic
def relu(typingctx, value):
    """``max(value, 0)``; NaN stays NaN."""

    def codegen(context, builder, signature, args):
        zero = ir.Constant(args[0].type, [0.0] * value.lanes)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])

    return value(value), codegen


@intrinsic
def where_active(typingctx, gradient, value):
    """``gradient`` where ReLU let ``value`` through (or it is NaN), else 0."""

    def codegen(context, builder, signature, args):
        zero = ir.Constant(args[0].type, [0.0] * gradient.lanes)
        return builder.select(builder.fcmp_ordered("<=", args[1], zero), zero, args[0])

    return gradient(gradient, gradient), codegen


@intrinsic
def total(typingctx, value):
    """Sum of the lanes, halves folded onto each other."""

    def codegen(context, builder, signature, args):
        terms = _elements(builder, args[0])
        while len(terms) > 1:
            half = len(terms) // 2
            terms = [builder.fadd(terms[lane], terms[lane + half]) for lane in range(half)]
        return terms[0]

    return value.dtype(value), codegen


def _operator(symbols, instruction):
    """Let ``a <symbol> b`` of two equal vectors be one LLVM instruction."""

    def typer(context):
        return lambda a, b: a if isinstance(a, Vector) and a == b else None

    def lowering(context, builder, signature, args):
        return getattr(builder, instruction)(*args)

    for symbol in symbols:
        type_callable(symbol)(typer)
        lower_for_cuda(symbol, Vector, Vector)(lowering)


_operator((operator.add, operator.iadd), "fadd")
_operator((operator.sub, operator.isub), "fsub")
_operator((operator.mul, operator.imul), "fmul")


@intrinsic
def cast(typingctx, numbers, value):
    """A number of the dtype of ``numbers``."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[1], value, numbers.dtype)

    return numbers.dtype(numbers, value), codegen


@intrinsic
def gather(typingctx, memory, numbers, start):
    """A vector like those of ``memory`` from consecutive numbers."""
    vector = memory.dtype.vector

    def codegen(context, builder, signature, args):
        index = [builder.add(args[2], args[2].type(lane)) for lane in range(vector.lanes)]
        return _vector(builder, [builder.load(builder.gep(args[1], [i])) for i in index])

    return vector(memory, numbers, start), codegen


@intrinsic
def scatter(typingctx, numbers, start, step, value):
    """Write the lanes of a vector ``step`` apart."""

    def codegen(context, builder, signature, args):
        index = context.cast(builder, args[1], start, types.int64)
        distance = context.cast(builder, args[2], step, types.int64)
        for element in _elements(builder, args[3]):
            builder.store(element, builder.gep(args[0], [index]))
            index = builder.add(index, distance)
        return context.get_dummy_value()

    return types.void(numbers, start, step, value), codegen


@intrinsic
def shared(typingctx, memory, rows):
    """Memory that a block shares: a literal number of rows, each of a number for every thread and lane."""
    vector = memory.dtype.vector if isinstance(memory.dtype, Packed) else Vector(memory.dtype, 1)
    if not isinstance(rows, types.IntegerLiteral):
        return None

    def codegen(context, builder, signature, args):
        element = context.get_value_type(vector.dtype)
        array = ir.ArrayType(element, rows.literal_value * THREADS * vector.lanes)
        name = builder.module.get_unique_name("shared")
        block = ir.GlobalVariable(builder.module, array, name, addrspace=SHARED)
        block.linkage, block.initializer, block.align = "internal", ir.Constant(array, ir.Undefined), BYTES
        return builder.addrspacecast(builder.gep(block, [ir.Constant(INT32, 0)] * 2), element.as_pointer())

    return types.CPointer(vector.dtype)(memory, rows), codegen
