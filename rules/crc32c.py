"""CRC-32C, the Castagnoli checksum that Secret Manager sends along (RFC 9260, appendix A).

The standard library has only CRC-32; the one package for it would be a run-time dependency for the
sake of a few bytes at start.
"""

from __future__ import annotations

_POLYNOMIAL = 0x82F63B78  # reflected


def _table_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(_table_entry(byte) for byte in range(256))


def crc32c(data: bytes) -> int:
    """0xE3069283 for b"123456789"."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
