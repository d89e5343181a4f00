"""Card numbers: is it one, whose is it, and is there one where none may be.

Nothing here keeps, prints or returns a whole card number except `scrub`'s input to its caller.

What counts as a card number in a text: 13 to 19 digits of a known range with the right check digit,
in whole groups of digits, whatever groups stand before or after them. What may part two groups:

- one or two spaces, dashes or dots of any script: then the groups may have any size;
- any other single character that is no letter, or a line's end: then the groups must be those of a
  card, four digits or more in each but the last, or every list such as `1,2,3,4` would be one. Nor
  is it one in the midst of a list: with three such numbers or more beside it, parted alike;
- what nobody sees, such as a zero-width space: it parts nothing at all.

What carries a mark of its own is none: UUIDs, account numbers (IBAN) that check out, and dates.
Every search is one pass: its time grows with the length of the text and with nothing else.
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
"""A digit, as a character, into the number it counts for when doubled."""

# The quick look, with which nearly every text is done: runs of digits, whatever but letters is
# between. Then a closer one: a blank for each single character, nothing for looser gaps.
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

# A text as the search reads it: one ASCII character for each of its own, NUL for what nobody sees.
_UNSEEN: Final = frozenset({"Cf", "Mn", "Me"})
_KINDS: Final = {"Zs": " ", "Pd": "-", "Zl": "\n", "Zp": "\n"}
_DASHES: Final = "\u2212\u30fc\uff70"  # a minus, and two long vowels that Japanese writes as dashes
_GROUP: Final = re.compile(r"[0-9](?:\x00*+[0-9])*+")
_GAP: Final = r"\x00*+(?:[ .-]\x00*+[ .-]?+|\r\n|[^0-9A-Za-z\x00])?+\x00*+"
_LOOSE_GAP: Final = re.compile(r"[ .\x00-]*")
_LONG_RUN: Final = re.compile(r"[0-9]{13,}")
# Thirteen digits or more, with at most one gap between any two of them.
_RUN: Final = re.compile(rf"[0-9](?:{_GAP}[0-9]){{12,}}+")
# What has a mark of its own. A random UUID holds something like a card number once in 2,000.
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
    """ISO/IEC 7812-1 annex B: the check digit of a card number."""
    values = digits.encode()
    kept = values[-1::-2]
    return (sum(kept) - 48 * len(kept) + sum(values[-2::-2].translate(_TWICE))) % 10 == 0


def passes_aba(routing_number: str) -> bool:
    """The check digit of a bank's nine-digit routing number (ABA): weights 3, 7 and 1."""
    return sum(int(digit) * (3, 7, 1)[n % 3] for n, digit in enumerate(routing_number)) % 10 == 0


def brand_of(number: str) -> str | None:
    """visa, mastercard, amex, discover, jcb, diners or unionpay, by number range; else None."""
    for pattern, brand in _BRANDS:
        if pattern.fullmatch(number):
            return brand
    return None


def contains_card_number(text: str) -> bool:
    """Does the text hold something that is a card number: known range, length and check digit?"""
    return bool(_card_numbers(text))


def hides_card_number(text: str) -> bool:
    """Could any thirteen to nineteen digits in a row of this short text be a card number? What
    stands beside them does not matter, as it does where people write numbers."""
    return any(
        _is_card_number(run[0][start : start + length])
        for run in _LONG_RUN.finditer(text)
        for start in range(len(run[0]) - _SHORTEST + 1)
        for length in range(_SHORTEST, min(_LONGEST, len(run[0]) - start) + 1)
    )


def scrub(text: str) -> str:
    """The text with every card number in it masked to its last four digits."""
    found = _card_numbers(text)
    if not found:
        return text
    masked = _masked(text, found, last=4)
    # The last four digits may begin another card number together with what follows them.
    return _masked(text, found, last=0) if _card_numbers(masked) else masked


def quoted(text: str, limit: int = 64) -> str:
    """The beginning of a text as a refusal may show it: not all of it is even looked at."""
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
    """Where card numbers stand, in order; those that overlap are one."""
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
    for start, end in _without_marked(text, found) if found else ():
        if apart and start < apart[-1][1]:
            apart[-1] = apart[-1][0], max(end, apart[-1][1])
        else:
            apart.append((start, end))
    return apart


class _Plain(dict[int, str]):
    """Which ASCII character stands for another, as `str.translate` asks: other scripts' digits are
    digits to whoever reads them."""

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
    """The longest card number from each group of a run, where there is one."""
    groups = _Groups(plain, [match.span() for match in _GROUP.finditer(plain, start, end)])
    found = []
    for first, (at, _) in enumerate(groups.spans):
        if plain[at] in _FIRST_DIGITS and (last := groups.card_from(first)) is not None:
            found.append((at, groups.spans[last][1]))
    return found


class _Groups:
    """The groups of digits of one run, and what is asked about them, each thing counted once."""

    def __init__(self, plain: str, spans: list[Span]) -> None:
        self.spans = spans
        self._plain = plain
        sizes = [to - at - plain.count("\x00", at, to) for at, to in spans]
        self._ends = list(accumulate(sizes, initial=0))
        """How many digits stand before each group, and in all."""

    def card_from(self, first: int) -> int | None:
        """The last group of the longest card number that begins with this one."""
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
        """Sums of the digits so far, every other one doubled, for either kind of last place."""
        values = [int(digit) for digit in self._digits]
        even = [_DOUBLED[v] if n % 2 else v for n, v in enumerate(values)]
        odd = [v if n % 2 else _DOUBLED[v] for n, v in enumerate(values)]
        return list(accumulate(even, initial=0)), list(accumulate(odd, initial=0))

    def _passes_luhn(self, begin: int, end: int) -> bool:
        sums = self._sums[(end - 1) % 2]
        return (sums[end] - sums[begin]) % 10 == 0

    @cached_property
    def _gaps(self) -> list[str]:
        """What stands between a group and the next."""
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
        """How many more numbers stand before and after, parted alike; as many as make a list."""
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


def _without_marked(plain: str, found: list[Span]) -> list[Span]:
    """Without those that stand in something that has a mark of its own, or hold a date."""
    uuids = _Places([match.span() for match in _UUID.finditer(plain)])
    ibans = _Places([span for match in _IBAN.finditer(plain) if (span := _iban(match)) is not None])
    dates = _Places([match.span() for match in _DATE.finditer(plain)])
    return [
        span
        for span in found
        if not uuids.one_around(*span) and not ibans.one_around(*span) and not dates.one_in(*span)
    ]


def _iban(match: re.Match[str]) -> Span | None:
    """Where the account number stands that checks out, without the words that may follow it."""
    start = match.start()
    text = match[0]
    while text:
        plain = text.replace(" ", "")
        # ISO 13616: moved four places and read as a number, letters from 10, it is 1 modulo 97.
        if int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1:
            return start, start + len(text)
        text = text.rpartition(" ")[0]
    return None


class _Places:
    """Spans in order, none of which overlap."""

    def __init__(self, spans: list[Span]) -> None:
        self._spans = spans
        self._starts = [start for start, _ in spans]

    def one_around(self, start: int, end: int) -> bool:
        before = bisect_right(self._starts, start) - 1
        return before >= 0 and end <= self._spans[before][1]

    def one_in(self, start: int, end: int) -> bool:
        after = bisect_left(self._starts, start)
        return after < len(self._spans) and self._spans[after][1] <= end
