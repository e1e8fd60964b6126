"""The time of a plain read of given memory, by the readers of `blockmoe bench` (reader.cpp)."""

import ctypes
import pathlib


class Reader:
    def __init__(self, library: pathlib.Path) -> None:
        self._read_us = ctypes.CDLL(str(library)).blockmoe_read_us

    def microseconds(self, ranges: list[tuple[int, int]], warmup: int, runs: int) -> float:
        """Median of a launch that reads the ranges (address, bytes) of the current device."""
        count = len(ranges)
        data = (ctypes.c_void_p * count)(*(address for address, _ in ranges))
        sizes = (ctypes.c_int64 * count)(*(size for _, size in ranges))
        figures = (ctypes.c_double * 3)()
        message = ctypes.create_string_buffer(512)
        counts = (ctypes.c_int32(count), ctypes.c_int32(warmup), ctypes.c_int32(runs))
        if self._read_us(data, sizes, *counts, figures, message, ctypes.c_int32(len(message))):
            raise RuntimeError(f"floor: {message.value.decode()}")
        return figures[0]
