"""Arithmetic in GF(2^61-1) and GF(2^31-1) on numpy arrays.

A Mersenne modulus p = 2^q - 1 needs no division: 2^q = 1, so the high bits of a number are
added to its low ones. Every array of elements holds values in [0, p); 61-bit elements are
little-endian uint64, 31-bit ones little-endian uint32 (half the bytes on the wire).

Nothing here is secret-dependent in its control flow, apart from `uniform`, which redraws the
words that fall outside the field (one in 2^q): it leaks how often, which says nothing about
the elements that are kept.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Elements: TypeAlias = npt.NDArray[Any]
"""Field elements: shape (n,), dtype of their field, each in [0, p)."""

FieldName = Literal["m61", "m31"]


class PrimeField(ABC):
    """One of the two fields. Arrays that go in and come out are flat `Elements`."""

    name: FieldName
    modulus: int
    bits: int
    dtype: np.dtype[Any]
    word_bytes: int

    @abstractmethod
    def reduce_once(self, values: Elements) -> Elements:
        """`values` in [0, 2p) reduced to [0, p), in place."""

    @abstractmethod
    def fold(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Any uint64 below 2^(2q) (or 2^64) reduced to [0, p), in place."""

    @abstractmethod
    def scale(self, values: Elements, constant: int) -> Elements:
        """`constant` times `values`, as a new array; `constant` is any integer."""

    @abstractmethod
    def multiply(self, left: Elements, right: Elements) -> Elements:
        """The products of two arrays, element by element, as a new array."""

    def add_into(self, total: Elements, other: Elements) -> None:
        """`total` becomes `total + other`; 2p fits the word, so one conditional step is enough."""
        total += other
        self.reduce_once(total)

    def add(self, left: Elements, right: Elements, out: Elements | None = None) -> Elements:
        """`left + right`, written to `out` where it is given."""
        return self.reduce_once(np.add(left, right, out=out))

    def negate(self, values: Elements) -> Elements:
        """The additive inverses, as a new array."""
        return self.reduce_once(self.dtype.type(self.modulus) - values)

    def in_range(self, values: Elements) -> bool:
        """Whether every element is below p; what a peer sends is not, until this says so."""
        return values.size == 0 or int(values.max()) < self.modulus

    def uniform(self, words: Elements, draw: Callable[[int], Elements]) -> Elements:
        """Random words turned into uniform elements, in place; exact, by rejection.

        The top bits are cleared; a word equal to p (the one pattern outside the field) is
        replaced by the next of `draw(count)` words until none is left.
        """
        words &= self.dtype.type(self.modulus)
        while words.size and int(words.max()) == self.modulus:
            outside = np.flatnonzero(words == self.dtype.type(self.modulus))
            words[outside] = draw(outside.size) & self.dtype.type(self.modulus)
        return words

    def from_integers(self, values: npt.NDArray[np.int64]) -> Elements:
        """Signed integers of magnitude at most (p-1)/2 as elements: v stands for v mod p.

        OverflowError if a magnitude is larger: it would wrap around silently.
        """
        half = self.modulus // 2
        if values.size and (int(values.max()) > half or int(values.min()) < -half):
            raise OverflowError(f"an integer beyond +-{half} does not fit {self.name}")
        return self.lift(values)

    def lift(self, values: npt.NDArray[np.int64]) -> Elements:
        """`from_integers` for values whose magnitude the caller has checked."""
        lifted = values >> np.int64(63)
        lifted &= np.int64(self.modulus)
        lifted += values
        return lifted.view("<u8").astype(self.dtype, copy=False)

    def to_integers(self, values: Elements) -> npt.NDArray[np.int64]:
        """Elements as signed integers in [-(p-1)/2, (p-1)/2], shape kept."""
        wide: npt.NDArray[np.int64] = values.astype("<u8", copy=False).view("<i8")
        above = wide >> np.int64(self.bits - 1)
        above *= np.int64(-self.modulus)
        above += wide
        return above

    def weigh(self, weights: Sequence[int], terms: Sequence[Elements]) -> Elements:
        """The sum of `weights[i] * terms[i]`, as a new array; weights are any integers.

        Where the weights are as small as those of three or four members are, it is one sum that
        is reduced once: a negative weight counts the inverse p - x.
        """
        small = [w - self.modulus if w > self.modulus // 2 else w for w in weights]
        if sum(map(abs, small)) * self.modulus >= 1 << min(64, 2 * self.bits):
            total = self.scale(terms[0], weights[0])
            for weight, term in zip(weights[1:], terms[1:], strict=True):
                self.add_into(total, self.scale(term, weight))
            return total
        offset = np.uint64(self.modulus * sum(-w for w in small if w < 0))
        wide = np.full(terms[0].size, offset, np.uint64)
        for weight, term in zip(small, terms, strict=True):
            part = term if abs(weight) == 1 else np.multiply(term, abs(weight), dtype=np.uint64)
            np.add(wide, part, out=wide) if weight > 0 else np.subtract(wide, part, out=wide)
        return self.fold(wide).astype(self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"GF(2^{self.bits}-1)"


class Mersenne61(PrimeField):
    """GF(2^61-1): the default. Sums of N terms of magnitude B need N B < 2^60."""

    name = "m61"
    bits = 61
    modulus = (1 << 61) - 1
    dtype = np.dtype("<u8")
    word_bytes = 8

    _P: Final = np.uint64((1 << 61) - 1)

    def reduce_once(self, values: Elements) -> Elements:
        # x - p wraps around to a huge number exactly where x < p: the minimum picks the right one.
        return np.minimum(values, values - self._P, out=values)

    def fold(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        high = values >> np.uint64(61)
        values &= self._P
        values += high
        np.minimum(values, values - self._P, out=values)
        return values

    def scale(self, values: Elements, constant: int) -> Elements:
        factor = constant % self.modulus
        if factor < 8:  # 8 p < 2^64
            return self.fold(values * np.uint64(factor))
        if self.modulus - factor < 8:
            return self.negate(self.fold(values * np.uint64(self.modulus - factor)))
        low, high = np.uint64(factor & 0xFFFF_FFFF), np.uint64(factor >> 32)
        return self._limbs(values, low, high)

    def multiply(self, left: Elements, right: Elements) -> Elements:
        return self._limbs(left, right & np.uint64(0xFFFF_FFFF), right >> np.uint64(32))

    def _limbs(self, values: Elements, low: Any, high: Any) -> Elements:
        """`values` times `low + 2^32 high`, with low < 2^32 and high < 2^29.

        The three partial products are below 2^64, 2^62 and 2^58; 2^61 = 1 moves the middle one
        (times 2^32) and the highest (times 2^64 = 2^3) back under the modulus.
        """
        bottom, top = values & np.uint64(0xFFFF_FFFF), values >> np.uint64(32)
        middle = bottom * high
        middle += top * low
        product = self.fold(bottom * low)
        product += self.fold(
            (middle >> np.uint64(29)) + ((middle & np.uint64((1 << 29) - 1)) << np.uint64(32))
        )
        product += self.fold((top * high) << np.uint64(3))
        return self.fold(product)


class Mersenne31(PrimeField):
    """GF(2^31-1): the compact lane, half the bytes. Sums of N terms of magnitude B: N B < 2^30."""

    name = "m31"
    bits = 31
    modulus = (1 << 31) - 1
    dtype = np.dtype("<u4")
    word_bytes = 4

    _P: Final = np.uint32((1 << 31) - 1)

    def reduce_once(self, values: Elements) -> Elements:
        return np.minimum(values, values - self._P, out=values)

    def fold(self, values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        wide = np.uint64(self.modulus)
        for _ in range(2):  # 2^62 -> 2^32 -> 2^31 + 1
            high = values >> np.uint64(31)
            values &= wide
            values += high
        np.minimum(values, values - wide, out=values)
        return values

    def scale(self, values: Elements, constant: int) -> Elements:
        wide = values.astype(np.uint64)
        wide *= np.uint64(constant % self.modulus)
        return self.fold(wide).astype(self.dtype)

    def multiply(self, left: Elements, right: Elements) -> Elements:
        wide = left.astype(np.uint64)
        wide *= right
        return self.fold(wide).astype(self.dtype)

    def weigh(self, weights: Sequence[int], terms: Sequence[Elements]) -> Elements:
        """As in the base, but for weights of one or two by additions in 32 bits: half the bytes."""
        small = [w - self.modulus if w > self.modulus // 2 else w for w in weights]
        if max(map(abs, small)) > 2:
            return super().weigh(weights, terms)
        total = np.zeros(terms[0].size, self.dtype)
        for weight, term in zip(small, terms, strict=True):
            signed = self.negate(term) if weight < 0 else term
            for _ in range(abs(weight)):
                self.add_into(total, signed)
        return total


M61: Final = Mersenne61()
M31: Final = Mersenne31()

_FIELDS: Final[dict[str, PrimeField]] = {"m61": M61, "m31": M31}


def field_named(name: str) -> PrimeField:
    """The field called `name` ("m61" or "m31"); ValueError if there is none."""
    try:
        return _FIELDS[name]
    except KeyError:
        raise ValueError(f"there is no field {name!r}, but m61 and m31") from None
