"""tf.train.Examples as no writer writes them, but as the wire format allows."""

from __future__ import annotations

from collections.abc import Callable
from random import Random


def varint(value: int, padding: int = 0) -> bytes:
    """A number in two's complement of 64 bits, with more bytes than it needs."""
    value %= 1 << 64
    digits = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    digits += [0] * min(padding, 10 - len(digits))
    return bytes([digit | 0x80 for digit in digits[:-1]] + digits[-1:])


def delimited(number: int, payload: bytes, padding: int = 0) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload), padding) + payload


class WireWriter:
    """Random Examples: messages in pieces, keys twice or behind their value, lists of several kinds in one Feature,
    fields that the messages do not have, numbers longer than they must be. Only map entries have no fields that do
    not belong there: Python's protobuf drops such entries.
    """

    def __init__(self, random: Random) -> None:
        self.random = random

    def example(self) -> bytes:
        return self.repeated(lambda: self.delimited(1, self.features()), 1, 2)

    def features(self) -> bytes:
        return self.repeated(lambda: self.delimited(1, self.entry()), 0, 4)

    def entry(self) -> bytes:
        key = delimited(1, self.random.choice(["a", "a", "ключ", "", "other"]).encode())
        value = delimited(2, self.feature())
        return b"".join(self.random.choice([[key, value]] * 3 + [[value, key], [key, value, key], [key], [value], []]))

    def feature(self) -> bytes:
        return self.repeated(self.list, 0 if self.rarely() else 1, 3 if self.rarely() else 1)

    def list(self) -> bytes:
        kind = self.random.choice([self.bytes_value, self.float_values, self.int64_values])
        number = {self.bytes_value: 1, self.float_values: 2, self.int64_values: 3}[kind]
        return self.delimited(number, self.repeated(kind, 0, 3))

    def bytes_value(self) -> bytes:
        return self.delimited(1, self.octets(9))

    def float_values(self) -> bytes:
        count = self.random.randint(0, 3)
        return b"\x0d" + self.octets(4, 4) if self.rarely() else self.delimited(1, self.octets(4 * count, 4 * count))

    def int64_values(self) -> bytes:
        if self.rarely():
            return b"\x08" + self.number()
        return self.delimited(1, b"".join(self.number() for _ in range(self.random.randint(0, 4))))

    def number(self) -> bytes:
        return varint(self.random.getrandbits(self.random.choice([7, 14, 64])), self.padding())

    def other_field(self) -> bytes:
        number = self.random.randint(1, 40) << 3
        return self.random.choice(
            [
                varint(number) + self.number(),
                varint(number | 1) + self.octets(8, 8),
                varint(number | 5) + self.octets(4, 4),
                delimited(self.random.randint(4, 40), self.octets(9)),
            ]
        )

    def repeated(self, piece: Callable[[], bytes], least: int, most: int) -> bytes:
        pieces = [piece() for _ in range(self.random.randint(least, most))]
        if self.rarely():
            pieces.insert(self.random.randint(0, len(pieces)), self.other_field())
        return b"".join(pieces)

    def delimited(self, number: int, payload: bytes) -> bytes:
        return delimited(number, payload, min(self.padding(), 2))

    def octets(self, most: int, least: int = 0) -> bytes:
        return self.random.randbytes(self.random.randint(least, most))

    def padding(self) -> int:
        return self.random.randint(1, 9) if self.rarely() else 0

    def rarely(self) -> bool:
        return self.random.random() < 0.2
