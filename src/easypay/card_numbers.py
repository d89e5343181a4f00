"""Card numbers: check them, name their brand, and find them where none may be.

Nothing here stores, prints or returns a whole card number.

A card number in a text is 13 to 19 digits of a known range with the right check digit, in whole
groups of digits, whatever groups stand before or after them. Between two groups there may be:

- one or two spaces, dashes or dots of any script: then the groups may have any size;
- any other single character that is not a letter, or a line break: then each group but the last
  must have four digits or more, as on a card; otherwise every list such as `1,2,3,4` would match.
  It does not match within a list: with three or more such groups beside it, separated alike;
- invisible characters such as a zero-width space: they separate nothing.

UUIDs, valid account numbers (IBAN) and dates are no card numbers, because of their own formats.
Every search is one pass: its time depends only on the length of the text.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Final

Span = tuple[int, int]

_BRANDS: Final = (
    (re.compile(r"4\d{12}(\d{3}){0,2}"), "visa"),
    (re.compile(r"(5[1-5]..|222[1-9]|22[3-9].|2[3-6]..|27[01].|2720)\d{12}"), "mastercard"),
    (re.compile(r"3[47]\d{13}"), "amex"),
    (re.compile(r"(6011\d\d|65\d{4}|64[4-9]\d{3})\d{10,13}"), "discover"),
    (re.compile(r"(352[89]|35[3-8]\d|3088)\d{12}"), "jcb"),
    (re.compile(r"30[0-59]\d{11,13}|3[689]\d{12}"), "diners"),
    (re.compile(r"62\d{14,17}"), "unionpay"),
)  # fmt: skip
_FIRST_DIGITS: Final = frozenset("23456")
_SHORTEST: Final = 13
_LONGEST: Final = 19
_SHORTEST_GROUP: Final = 4
_A_LIST: Final = 3
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_TWICE: Final = bytes.maketrans(b"0123456789", bytes(_DOUBLED))
"""Maps a digit character to what it counts for when doubled."""

# A quick check, which is enough for nearly every text: runs of digits with anything but letters
# between them. Then a closer one: loose gaps are removed, other single characters become blanks.
_LETTERS: Final = frozenset(range(65, 91)) | frozenset(range(97, 123))
_DIGITS: Final = frozenset(range(48, 58))
_ENDED: Final = bytes(byte if byte in _DIGITS else 32 for byte in range(256))
_NO_END: Final = bytes(byte for byte in range(128) if byte not in _DIGITS | _LETTERS)
_CLOSER: Final = bytes(
    byte if byte in _DIGITS else 120 if byte in _LETTERS else 32 for byte in range(256)
)
_LOOSE: Final = b" .-\r\x00"
_NO_DIGITS: Final = bytes(byte for byte in range(256) if byte not in _DIGITS)
_PERHAPS: Final = re.compile(
    rb"[0-9]{13}|[0-9]{4} [0-9]{4,}+ [0-9]|[0-9]{7} [0-9]|[0-9]{4} [0-9]{7}"
)

# The search reads one ASCII character for each character of a text, NUL for an invisible one.
_UNSEEN: Final = frozenset({"Cf", "Mn", "Me"})
_KINDS: Final = {"Zs": " ", "Pd": "-", "Zl": "\n", "Zp": "\n"}
_DASHES: Final = "\u2212\u30fc\uff70"  # a minus, and two Japanese long-vowel marks like dashes
_GROUP: Final = re.compile(r"[0-9](?:\x00*+[0-9])*+")
_GAP: Final = r"\x00*+(?:[ .-]\x00*+[ .-]?+|\r\n|[^0-9A-Za-z\x00])?+\x00*+"
_LOOSE_GAP: Final = re.compile(r"[ .\x00-]*")
_LONG_RUN: Final = re.compile(r"[0-9]{13,}")
# Thirteen digits or more, with at most one gap between any two of them.
_RUN: Final = re.compile(rf"[0-9](?:{_GAP}[0-9]){{12,}}+")
# Formats that are no card numbers. One random UUID in 2,000 contains something like one.
_UUID: Final = re.compile(
    r"(?<![0-9a-f])[0-9a-f]{8}(-?)[0-9a-f]{4}\1[1-8][0-9a-f]{3}\1[89ab][0-9a-f]{3}\1[0-9a-f]{12}"
    r"(?![0-9a-f])",
    re.IGNORECASE,
)
_IBAN: Final = re.compile(
    r"(?<![0-9A-Za-z])[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?(?![0-9A-Za-z])"
)
_DATE: Final = re.compile(
    r"(?<![0-9])(?:"
    r"(?:19|20)[0-9]{2}([-./])(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[1-9]|[12][0-9]|3[01])([-./])(?:0[1-9]|1[0-2])\2(?:19|20)[0-9]{2}"
    r")(?![0-9])"
)


def passes_luhn(digits: str) -> bool:
    """Whether the check digit of a card number is right (ISO/IEC 7812-1 annex B)."""
    values = digits.encode()
    single = values[-1::-2]
    return (sum(single) - 48 * len(single) + sum(values[-2::-2].translate(_TWICE))) % 10 == 0


def passes_aba(routing_number: str) -> bool:
    """Whether the check digit of a nine-digit routing number (ABA) is right: weights 3, 7, 1."""
    return sum(int(digit) * (3, 7, 1)[n % 3] for n, digit in enumerate(routing_number)) % 10 == 0


def brand_of(number: str) -> str | None:
    """Return visa, mastercard, amex, discover, jcb, diners or unionpay by number range, or None."""
    for pattern, brand in _BRANDS:
        if pattern.fullmatch(number):
            return brand
    return None


def contains_card_number(text: str) -> bool:
    """Whether a text contains a card number: a known range, length and check digit."""
    return bool(_card_numbers(text))


def hides_card_number(text: str) -> bool:
    """Whether any 13 to 19 consecutive digits of this short text could be a card number, whatever
    stands beside them. For text that people write, use `contains_card_number`."""
    return any(
        _is_card_number(run[0][start : start + length])
        for run in _LONG_RUN.finditer(text)
        for start in range(len(run[0]) - _SHORTEST + 1)
        for length in range(_SHORTEST, min(_LONGEST, len(run[0]) - start) + 1)
    )


def scrub(text: str) -> str:
    """Return the text with every card number in it masked to its last four digits."""
    found = _card_numbers(text)
    if not found:
        return text
    masked = _masked(text, found, last=4)
    # The last four digits may begin another card number with the digits after them.
    return _masked(text, found, last=0) if _card_numbers(masked) else masked


def quoted(text: str, limit: int = 64) -> str:
    """Return the beginning of a text as a refusal may show it. Only the beginning is searched."""
    widest = 3 * _LONGEST  # a card number that the limit cuts in two is masked, too
    return scrub(text[: limit + widest])[:limit]


def _is_card_number(digits: str) -> bool:
    return passes_luhn(digits) and brand_of(digits) is not None


def _masked(text: str, found: list[Span], *, last: int) -> str:
    parts: list[str] = []
    at = 0
    for start, end in found:
        parts += text[at:start], "****", text[end - last : end]
        at = end
    return "".join([*parts, text[at:]])


def _card_numbers(text: str) -> list[Span]:
    """Return where card numbers are, in order; overlapping ones are merged."""
    if not text.isascii():
        if sum(map(str.isdigit, text)) < _SHORTEST:
            return []
        text = text.translate(_plain)
    seen = text.encode()
    runs = seen.translate(_ENDED, _NO_END).split()
    if not runs or len(max(runs, key=len)) < _SHORTEST:
        return []  # nearly always
    if not _PERHAPS.search(seen.translate(_CLOSER, _LOOSE)):
        return []
    found = [span for run in _RUN.finditer(text) for span in _in_run(text, *run.span())]
    apart: list[Span] = []
    for start, end in _without_other_formats(text, found) if found else ():
        if apart and start < apart[-1][1]:
            apart[-1] = apart[-1][0], max(end, apart[-1][1])
        else:
            apart.append((start, end))
    return apart


class _Plain(dict[int, str]):
    """Maps each character to an ASCII character, for `str.translate`. Digits of other scripts count
    as digits, because people read them as such."""

    def __missing__(self, code: int) -> str:
        if len(self) > 4096:
            self.clear()
        made = self[code] = chr(code) if code < 128 else _kind(chr(code))
        return made


_plain: Final = _Plain()


def _kind(character: str) -> str:
    digit = unicodedata.digit(character, -1)
    if digit >= 0:
        return str(digit)
    category = unicodedata.category(character)
    if category in _UNSEEN:
        return "\x00"
    if character in _DASHES:
        return "-"
    return _KINDS.get(category, "x" if category[0] == "L" else "|")


def _in_run(plain: str, start: int, end: int) -> list[Span]:
    """Return the longest card number that begins at each group of a run, if there is one."""
    groups = _Groups(plain, [match.span() for match in _GROUP.finditer(plain, start, end)])
    found = []
    for first, (at, _) in enumerate(groups.spans):
        if plain[at] in _FIRST_DIGITS and (last := groups.card_from(first)) is not None:
            found.append((at, groups.spans[last][1]))
    return found


class _Groups:
    """The groups of digits of one run, with values that are computed once."""

    def __init__(self, plain: str, spans: list[Span]) -> None:
        self.spans = spans
        self._plain = plain
        sizes = [to - at - plain.count("\x00", at, to) for at, to in spans]
        self._ends = list(accumulate(sizes, initial=0))
        """How many digits there are before each group, and in total."""

    def card_from(self, first: int) -> int | None:
        """Return the last group of the longest card number that begins with this group."""
        begin = self._ends[first]
        longest = None
        for last in range(first, len(self.spans)):
            size = self._ends[last + 1] - begin
            if size > _LONGEST:
                break
            if (
                size >= _SHORTEST
                and self._passes_luhn(begin, begin + size)
                and brand_of(self._digits[begin : begin + size])
                and self._may_be_one(first, last)
            ):
                longest = last
        return longest

    @cached_property
    def _digits(self) -> str:
        run = self._plain[self.spans[0][0] : self.spans[-1][1]]
        return run.encode().translate(None, _NO_DIGITS).decode()

    @cached_property
    def _sums(self) -> tuple[list[int], list[int]]:
        """Running sums of the digits, every other one doubled, for an even or odd last place."""
        values = [int(digit) for digit in self._digits]
        even = [_DOUBLED[v] if n % 2 else v for n, v in enumerate(values)]
        odd = [v if n % 2 else _DOUBLED[v] for n, v in enumerate(values)]
        return list(accumulate(even, initial=0)), list(accumulate(odd, initial=0))

    def _passes_luhn(self, begin: int, end: int) -> bool:
        sums = self._sums[(end - 1) % 2]
        return (sums[end] - sums[begin]) % 10 == 0

    @cached_property
    def _gaps(self) -> list[str]:
        """The text between each group and the next."""
        return [self._plain[a:b] for (_, a), (b, _) in pairwise(self.spans)]

    def _is_long(self, group: int) -> bool:
        return self._ends[group + 1] - self._ends[group] >= _SHORTEST_GROUP

    def _may_be_one(self, first: int, last: int) -> bool:
        gaps = self._gaps[first:last]
        if all(_LOOSE_GAP.fullmatch(gap) for gap in gaps):
            return True
        if not all(map(self._is_long, range(first, last))):
            return False
        return len(set(gaps)) > 1 or self._beside(first, last, gaps[0]) < _A_LIST

    def _beside(self, first: int, last: int, gap: str) -> int:
        """Count the long groups before and after that are separated alike, up to _A_LIST."""
        many = 0
        while (
            many < _A_LIST and first and self._gaps[first - 1] == gap and self._is_long(first - 1)
        ):
            many, first = many + 1, first - 1
        ends = len(self._gaps)
        while (
            many < _A_LIST and last < ends and self._gaps[last] == gap and self._is_long(last + 1)
        ):
            many, last = many + 1, last + 1
        return many


def _without_other_formats(plain: str, found: list[Span]) -> list[Span]:
    """Remove those that lie in a UUID or an IBAN, or that contain a date."""
    uuids = _Places([match.span() for match in _UUID.finditer(plain)])
    ibans = _Places([span for match in _IBAN.finditer(plain) if (span := _iban(match)) is not None])
    dates = _Places([match.span() for match in _DATE.finditer(plain)])
    return [
        span
        for span in found
        if not uuids.one_around(*span) and not ibans.one_around(*span) and not dates.one_in(*span)
    ]


def _iban(match: re.Match[str]) -> Span | None:
    """Return where the valid account number is, without the words that may follow it."""
    start = match.start()
    text = match[0]
    while text:
        plain = text.replace(" ", "")
        # ISO 13616: rotated by four characters, with letters as numbers from 10, it is 1 modulo 97.
        if int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1:
            return start, start + len(text)
        text = text.rpartition(" ")[0]
    return None


class _Places:
    """Spans in order that do not overlap."""

    def __init__(self, spans: list[Span]) -> None:
        self._spans = spans
        self._starts = [start for start, _ in spans]

    def one_around(self, start: int, end: int) -> bool:
        before = bisect_right(self._starts, start) - 1
        return before >= 0 and end <= self._spans[before][1]

    def one_in(self, start: int, end: int) -> bool:
        after = bisect_left(self._starts, start)
        return after < len(self._spans) and self._spans[after][1] <= end
