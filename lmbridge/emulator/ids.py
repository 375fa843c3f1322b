"""Identifiers that look random and are the same in every run."""

from __future__ import annotations

import hashlib
import itertools
import string

_BASE36 = string.digits + string.ascii_lowercase


class Ids:
    """A series of identifiers."""

    def __init__(self) -> None:
        self._serial = itertools.count(1)

    def hexadecimal(self, length: int) -> str:
        """Return hexadecimal digits."""
        return hashlib.sha256(f"id {next(self._serial)}".encode()).hexdigest()[:length]

    def base36(self, length: int) -> str:
        """Return digits and lower-case letters."""
        number = int(self.hexadecimal(64), 16)
        digits = []
        for _ in range(length):
            number, digit = divmod(number, 36)
            digits.append(_BASE36[digit])
        return "".join(digits)
