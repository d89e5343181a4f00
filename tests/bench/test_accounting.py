"""The benchmark's check must find a payment that was charged twice, or not at all."""

import pytest

from easypay_bench.accounting import SALE, Held, Sold, compare
from easypay_bench.generator import reply_length
from easypay_bench.load import LoadFailed
from easypay_bench.payment_request import orders
from easypay_bench.single_payment_latency import timing_ms


def held(reference: str, status: str = "captured", amount_minor: int = 2500) -> Held:
    return Held(status, "sale", reference, amount_minor)


def sold(reference: str, response_code: str = "1", amount_minor: int = 2500) -> Sold:
    return Sold(SALE, response_code, reference, amount_minor)


def test_matching_records_give_no_complaint() -> None:
    assert compare([held("A"), held("B")], [sold("B"), sold("A")], replied=2) == []


def test_a_request_cut_off_at_the_end_may_have_become_a_payment() -> None:
    assert compare([held("A"), held("B")], [sold("B"), sold("A")], replied=1, cut_off=1) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "complaint"),
    [
        ([held("A")], [sold("A"), sold("A")], "2 transactions for one payment"),
        ([held("A")], [], "0 transactions for one payment"),
        ([held("A")], [sold("A"), sold("B")], "the gateway does not"),
        ([held("A")], [sold("A", amount_minor=2501)], "of 2501 for a sale of 2500"),
        ([held("A")], [sold("A", response_code="2")], f"{SALE} 2 of 2500"),
        ([held("A", status="processing")], [sold("A")], "1 payments are processing"),
        ([], [], "1 payments were answered, the gateway has 0"),
        ([held("A"), held("B")], [sold("A"), sold("B")], "the gateway has 2"),
    ],
)
def test_money_that_does_not_add_up_is_reported(
    ours: list[Held], theirs: list[Sold], complaint: str
) -> None:
    wrong = compare(ours, theirs, replied=1)

    assert any(complaint in each for each in wrong), wrong


def test_all_complaints_are_counted_and_a_few_are_shown() -> None:
    wrong = compare([held(str(number)) for number in range(20)], [], replied=20)

    assert wrong[-1] == "... and 15 more like it"


def test_requests_differ_in_key_and_amount_but_not_in_length() -> None:
    made = orders("127.0.0.1:8000", "ep_test_x")
    first, second = made.request("a", 1), made.request("a", 999_999_999)

    assert first != second
    assert len(first) == len(second)
    for request in (first, second):
        head, _, body = request.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
    assert "4111" not in repr(made)
    assert "ep_test_x" not in repr(made)


def test_a_reply_is_complete_at_its_content_length() -> None:
    reply = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"

    assert reply_length(reply) == len(reply)
    assert reply_length(reply.lower()) == len(reply)
    assert reply_length(reply[:20]) is None
    with pytest.raises(ValueError, match="Content-Length"):
        reply_length(b"HTTP/1.1 201 Created\r\n\r\n")


def test_server_timing_is_read_and_may_be_missing() -> None:
    head = b"HTTP/1.1 201 Created\r\nserver-timing: %s\r\n\r\n"
    timing = b"begin;dur=1.5, processor;dur=300.25, record;dur=0.75"

    assert timing_ms(head % timing) == {"begin": 1.5, "processor": 300.25, "record": 0.75}
    with pytest.raises(LoadFailed):
        timing_ms(head % b"begin;dur=1.5")
