"""Memory in which reading or writing past an array is told: a page beside it that must not be touched, and bytes around
it that nothing should write to."""

import ctypes
import mmap
import weakref

import numpy as np

C = ctypes.CDLL(None)
C.mmap.restype = ctypes.c_void_p
C.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
C.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
C.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t
MAP_32BIT = 0x40

CANARY = 256
"""Bytes before an array that nothing should write to."""

PAGES = weakref.WeakSet()
"""All that there are."""


class Pages:
    """Memory at multiples of 16 bytes, up to less than 16 bytes before a page that must not be touched.

    At first every bit of it is set, and of the bytes around it. (Elements of a vector that is not all there, a card
    could read without harm.)
    """

    def __init__(self, size, low=False):
        whole = (1 - (-size // mmap.PAGESIZE)) * mmap.PAGESIZE  # a page or more before the array
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (MAP_32BIT if low else 0)
        begin = C.mmap(None, whole + mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        assert begin not in (None, 2**64 - 1), "no memory is left"
        C.mprotect(begin + whole, mmap.PAGESIZE, 0)
        weakref.finalize(self, C.munmap, begin, whole + mmap.PAGESIZE)
        self.address = begin + (whole - size) // 16 * 16
        first = self.address - begin
        before, self.bytes, after = np.split(bytes_at(begin, whole), [first, first + size])
        self.bytes[:], before[-CANARY:], after[:] = 0xFF, 0xFF, 0xFF
        self.around = before[-CANARY:], after
        PAGES.add(self)


def bytes_at(address, size):
    """Some bytes of memory, as an array."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
