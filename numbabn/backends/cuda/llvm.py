"""What memory and registers hold, as Numba's types, and the LLVM code that moves the one to the other."""

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import core_models, register_model

from .memory import BYTES

GLOBAL, SHARED = 1, 3
"""LLVM's numbers of address spaces: of the device, and what a block shares."""

SPAN = types.UniTuple(types.int64, 4)
"""Of ``simd.load_within``."""

CHIP_SYMBOL = "numbabn_on_chip"
"""The memory that a block shares whose size the launch tells."""

INT16, INT32, INT64, FLOAT, DOUBLE = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()


class Packed(types.Type):
    """What memory holds: some lanes of a dtype, by its NumPy name, the dtype that is computed in, whether rows of
    elements may begin and end within a vector, and whether the memory is on chip."""

    def __init__(self, dtype, lanes, real, ragged, on_chip=False):
        self.dtype = dtype
        self.lanes = lanes
        self.real = real
        self.ragged = ragged
        self.on_chip = on_chip
        super().__init__(name=f"Packed({dtype} x {lanes} in {real}{', ragged' * ragged}{', on chip' * on_chip})")

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


def fetch(builder, packed, target, source):
    """Copy a vector to memory that a block shares: 4 bytes and more on their own way, past the registers."""
    if packed.bytes < 4:
        builder.store(builder.load(source, align=packed.bytes), target, align=packed.bytes)
        return
    pointee, cached = source.type.pointee, "cg" if packed.bytes == BYTES else "ca"
    target = builder.ptrtoint(builder.addrspacecast(target, pointee.as_pointer(SHARED)), INT32)
    source = builder.ptrtoint(builder.addrspacecast(source, pointee.as_pointer(GLOBAL)), INT64)
    text = f"cp.async.{cached}.shared.global [$0], [$1], {packed.bytes};"
    kind = ir.FunctionType(ir.VoidType(), [INT32, INT64])
    builder.call(ir.InlineAsm(kind, text, "r,l,~{memory}", side_effect=True), [target, source])


def loaded(builder, packed, source, at):
    """A vector as memory holds it."""
    return builder.load(builder.gep(source, [at]), align=packed.bytes)


def loaded_in_pieces(builder, packed, source, at, stop):
    """As ``loaded``, an element at a time, and none from ``stop`` on: in its place the last before."""
    single, begin = as_single(builder, packed, source), builder.mul(at, INT64(packed.lanes))
    last, found = builder.sub(stop, INT64(1)), []
    for lane in range(packed.lanes):
        element = builder.add(begin, INT64(lane))
        element = builder.select(builder.icmp_signed("<", element, last), element, last)
        found += lanes_of(builder, loaded(builder, packed.single, single, element))
    return joined(builder, _words(builder, found) if packed.dtype in WIDENED else found)


def widened(builder, packed, value):
    """A vector that was loaded, in the dtype that is computed in."""
    if packed.dtype in WIDENED:
        value = joined(builder, [WIDENED[packed.dtype](builder, short) for short in _shorts(builder, value)])
    if packed.real == "float64" and packed.dtype != "float64":
        value = joined(builder, [builder.fpext(lane, DOUBLE) for lane in lanes_of(builder, value)])
    return value


def read(builder, packed, source, at):
    """A vector from memory, in the dtype that is computed in."""
    return widened(builder, packed, loaded(builder, packed, source, at))


def write(builder, packed, target, at, vector):
    """The inverse of ``read``."""
    if packed.real == "float64" and packed.dtype != "float64":
        vector = joined(builder, [builder.fptrunc(lane, FLOAT) for lane in lanes_of(builder, vector)])
    if packed.dtype in NARROWED:
        shorts = [NARROWED[packed.dtype](builder, lane) for lane in lanes_of(builder, vector)]
        vector = joined(builder, _words(builder, shorts) if len(shorts) > 1 else shorts)
    builder.store(vector, builder.gep(target, [at]), align=packed.bytes)


def as_single(builder, packed, pointer):
    """A pointer to the same memory an element at a time."""
    return builder.bitcast(pointer, packed.single.storage.as_pointer())


def edges_of(builder, packed, at, span):
    """The first lane of a vector that is of a row, and the one after the last, from 0 to all lanes."""
    begin, edges = builder.mul(at, INT64(packed.lanes)), []
    for k in (1, 2):
        lane = builder.sub(builder.extract_value(span, k), begin)
        lane = builder.select(builder.icmp_signed(">", lane, INT64(0)), lane, INT64(0))
        lane = builder.select(builder.icmp_signed("<", lane, INT64(packed.lanes)), lane, INT64(packed.lanes))
        edges.append(builder.trunc(lane, INT32))
    return edges


def lanes_inside(builder, packed, low, high):
    """Whether each lane is between two edges."""
    for lane in range(packed.lanes):
        above, below = builder.icmp_signed(">=", INT32(lane), low), builder.icmp_signed("<", INT32(lane), high)
        yield builder.and_(above, below)


def lanes_of(builder, vector):
    """The lanes of an LLVM vector."""
    return [builder.extract_element(vector, ir.Constant(INT32, lane)) for lane in range(vector.type.count)]


def joined(builder, elements):
    """An LLVM vector of some lanes."""
    vector = ir.Constant(ir.VectorType(elements[0].type, len(elements)), ir.Undefined)
    for lane, element in enumerate(elements):
        vector = builder.insert_element(vector, element, ir.Constant(INT32, lane))
    return vector


def _shorts(builder, value):
    """The 16-bit integers in what was loaded."""
    elements = lanes_of(builder, value)
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


def consecutive(builder, packed, start, stop):
    """Places from ``start`` on, one for each lane; in ragged memory none before 0, and none from ``stop`` on."""
    zero, last = INT64(0), builder.sub(stop, INT64(1))
    for lane in range(packed.lanes):
        place = builder.add(start, INT64(lane))
        if packed.ragged:
            place = builder.select(builder.icmp_signed("<", place, zero), zero, place)
            place = builder.select(builder.icmp_signed("<", place, last), place, last)
        yield place
