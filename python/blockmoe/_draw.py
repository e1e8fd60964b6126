"""Logits and biases of drawn workloads: the bytes that the program `blockmoe` draws (src/workload/draw.h, which says how), in NumPy."""

from typing import Any

import numpy as np

LOGITS, BIAS = 1, 2  # the streams' numbers
BIAS_DEVIATION = np.float32(0.01)

_SEGMENTS, _OCTAVES = 64, 26
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)


def normals(count: int, seed: int, stream: int) -> Any:
    """The first `count` normal numbers of a stream, f32."""
    draws = _words((count + 3) // 4, seed, stream).reshape(-1)[:count]
    tail = draws & np.uint32(0x7FFFFFFF)
    log2 = np.frexp(tail.astype(np.float64))[1] - 1
    octave = np.where(tail < _SEGMENTS, 0, log2 - 5).astype(np.uint32)
    shift = np.maximum(octave, np.uint32(1)) - np.uint32(1)
    segment = np.where(octave == 0, tail, octave * np.uint32(_SEGMENTS) + (tail >> shift) - np.uint32(_SEGMENTS))
    within = (tail & ((np.uint32(1) << shift) - np.uint32(1))).astype(np.float32) * np.exp2(-shift.astype(np.float32))
    table = normal_table()
    begin = table[segment]
    magnitude = begin + within * (table[segment + 1] - begin)
    return (magnitude.view(np.uint32) | (draws & np.uint32(0x80000000))).view(np.float32)


def bf16_bits(values: Any) -> Any:
    """Finite f32 rounded to the nearest bf16, ties to even, as uint16."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def _words(blocks: int, seed: int, stream: int) -> Any:
    """Philox4x32-10's words [blocks, 4]."""
    block: Any = np.arange(blocks, dtype=np.uint64)
    a, b = block & _LOW, block >> _WORD
    c, d = np.full_like(block, stream), np.zeros_like(block)
    key0, key1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
        a, b = (product1 >> _WORD) ^ b ^ np.uint64(key0), product1 & _LOW
        c, d = (product0 >> _WORD) ^ d ^ np.uint64(key1), product0 & _LOW
        key0, key1 = (key0 + 0x9E3779B9) & 0xFFFFFFFF, (key1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([a, b, c, d], axis=1).astype(np.uint32)


_table: Any = None


def normal_table() -> Any:
    """The quantile at the beginning of each segment of tail probability, f32; additions, multiplications and divisions alone."""
    global _table
    if _table is None:
        nodes = _SEGMENTS * _OCTAVES
        values = [0.0] * (nodes + 1)
        for node in reversed(range(nodes)):
            octave = node // _SEGMENTS
            first = (_SEGMENTS + node % _SEGMENTS) << (octave - 1) if octave else node
            values[node] = _quantile((first + 0.5) / 4294967296.0, values[node + 1])
        _table = np.array(values, np.float64).astype(np.float32)
    return _table


def _quantile(p: float, near: float) -> float:
    z = near
    for _ in range(12):
        z = z + (_tail_of(z) - p) / _density(z)
    return z


def _tail_of(z: float) -> float:
    """The probability beyond z >= 0: a series below 2.5, a continued fraction above."""
    if z < 2.5:
        term = total = z
        for n in range(3, 81, 2):
            term = term * z * z / n
            total = total + term
        return 0.5 - _density(z) * total
    fraction = z
    for n in range(120, 0, -1):
        fraction = z + n / fraction
    return _density(z) / fraction


def _density(z: float) -> float:
    return 0.3989422804014326779 * _exp_minus(z * z / 2)


def _exp_minus(x: float) -> float:
    small = x / 1024
    total = 1.0
    for n in range(8, 0, -1):
        total = 1 - small / n * total
    for _ in range(10):
        total = total * total
    return total
