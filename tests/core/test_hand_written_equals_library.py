"""Hand-written fast paths give the same results as the library."""

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from hypothesis import example, given
from hypothesis import strategies as st

from easypay.api.http import pairs_in
from easypay.card_numbers import contains_card_number
from easypay.clock import rfc3339, rfc3339_of_each
from easypay.hmac_sha256 import keyed_digest


@given(st.binary(max_size=200), st.lists(st.binary(max_size=300), max_size=3))
@example(b"", [b""])
@example(b"k" * 64, [b"a"])
@example(b"k" * 65, [b"a"])
def test_a_keyed_digest_is_hmac(key: bytes, messages: list[bytes]) -> None:
    digest = keyed_digest(key)
    for message in messages:  # one after another: no state carries over
        assert digest(message) == hmac.new(key, message, hashlib.sha256).digest()


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
@example(datetime(2026, 11, 24, 4, 5, 37, tzinfo=UTC))
@example(datetime(2026, 11, 24, 4, 5, 37, 999, tzinfo=UTC))
@example(datetime(2026, 11, 24, 4, 5, 37, 999_999, tzinfo=UTC))
def test_a_moment_is_cut_to_the_millisecond(moment: datetime) -> None:
    whole = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    text = f"{whole.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
    assert rfc3339(moment) == text
    assert rfc3339_of_each([moment, moment]) == [text, text]


def test_no_moments_are_no_texts() -> None:
    assert rfc3339_of_each([]) == []


@given(st.text("ab=&%+2;#é", max_size=30))
@example("a=1&b=2")
@example("a&=&&b==1")
def test_a_query_is_read_as_the_library_reads_it(query: str) -> None:
    assert list(pairs_in(query)) == parse_qsl(query, keep_blank_values=True)


@given(st.text("0123456789 .-/xé\n", max_size=40))
@example("4111 1111 1111 1111")
@example("4.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1")
@example("4111 - 1111 1111 1111")
@example("4111   1111 1111 1111")
@example("41111111/11111111")
def test_the_quick_check_for_card_numbers_misses_none(text: str) -> None:
    """A letter of another script forces the slow path, which must give the same answer."""
    assert contains_card_number(text) == contains_card_number(f"ж{text}")
