"""Reading memory as the processor can and Python cannot: many bytes at a time, ahead of need, and bit by bit."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def load64(typing_context, pointer, index):
    """The eight bytes from ``pointer[index]`` on as an unsigned number, at any alignment; the first is the lowest."""

    def generate(context, builder, signature, arguments):
        address = builder.gep(arguments[0], [arguments[1]])
        return builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(types.CPointer(types.uint8), types.int64), generate


@intrinsic
def prefetch(typing_context, pointer, index):
    """Ask for the cache line of ``pointer[index]``; costs nothing when it is there."""

    def generate(context, builder, signature, arguments):
        address = builder.gep(arguments[0], [arguments[1]])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        signature = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
        read, keep, data = number(0), number(3), number(1)
        builder.call(function, [builder.bitcast(address, byte), read, keep, data])
        return context.get_dummy_value()

    return types.void(pointer, types.int64), generate


@intrinsic
def store64(typing_context, pointer, index, word):
    """Write two 32-bit numbers at once: the low half of ``word`` to ``pointer[index]``, the high half behind it."""

    def generate(context, builder, signature, arguments):
        address = builder.gep(arguments[0], [arguments[1]])
        builder.store(arguments[2], builder.bitcast(address, ir.IntType(64).as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.CPointer(types.uint32), types.int64, types.uint64), generate


@intrinsic
def trailing_zeros(typing_context, word):
    """How many of the low bits of a 64-bit word are zero; 64 for none set."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], cgutils.false_bit)

    return types.int64(types.uint64), generate


@intrinsic
def bytes_between(typing_context, pointer, index, first, count):
    """A bit for each of the 64 bytes from ``pointer[index]`` on: is it one of the ``count`` values from ``first``?"""

    def generate(context, builder, signature, arguments):
        vector = ir.VectorType(ir.IntType(8), 64)
        address = builder.gep(arguments[0], [arguments[1]])
        loaded = builder.load(builder.bitcast(address, vector.as_pointer()), align=1)
        low, span = (_everywhere(builder, vector, builder.trunc(number, ir.IntType(8))) for number in arguments[2:])
        inside = builder.icmp_unsigned("<", builder.sub(loaded, low), span)
        return builder.bitcast(inside, ir.IntType(64))

    return types.uint64(types.CPointer(types.uint8), types.int64, types.int64, types.int64), generate


def _everywhere(builder, vector, number):
    """A vector of one number."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


@intrinsic
def leading_zeros(typing_context, word):
    """How many of the high bits of a 64-bit word are zero; 64 for none set."""

    def generate(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], cgutils.false_bit)

    return types.int64(types.uint64), generate


@intrinsic
def lowest32(typing_context, pointer):
    """The lowest of 32 numbers."""

    def generate(context, builder, signature, arguments):
        vector, number = ir.VectorType(ir.IntType(32), 32), ir.IntType(32)
        loaded = builder.load(builder.bitcast(arguments[0], vector.as_pointer()), align=4)
        function_type = ir.FunctionType(number, [vector])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.vector.reduce.umin.v32i32")
        return builder.call(function, [loaded])

    return types.uint32(types.CPointer(types.uint32)), generate
