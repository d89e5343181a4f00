"""What each code proves: an unclear code is neither a refusal nor an approval."""

from pathlib import Path
from typing import get_args

import pytest

from easypay.payments.refusals import REFUSALS, refused_by_processor
from easypay.problem_table import PROBLEMS
from easypay.processors.authorize_net import docs_page, message_codes, reason_meanings, replies
from easypay.processors.authorize_net.reason_texts import REASONS
from easypay.processors.base import Rejected, Retry

PAGE = Path(__file__).parents[2] / "docs" / "processors" / "authorize_net.md"


@pytest.mark.parametrize(
    ("response_code", "reason", "expected"),
    [
        ("1", "1", "approved"),
        ("1", None, "approved"),
        ("1", "310", "done_before"),
        ("1", "311", "done_before"),
        ("1", "295", "approved_in_part"),
        ("1", "", "unknown"),
        ("2", "2", "declined"),
        ("2", "27", "declined"),
        ("2", "317", "declined"),
        ("2", "999", "declined"),
        ("2", None, "declined"),
        ("2", "11", "unknown"),
        ("2", "318", "unknown"),
        ("3", "6", "rejected"),
        ("3", "8", "rejected"),
        ("3", "16", "rejected"),
        ("3", "54", "rejected"),
        ("3", "327", "rejected"),
        ("3", "11", "unknown"),
        ("3", "235", "unknown"),
        ("3", "152", "unknown"),
        ("3", "0", "unknown"),
        ("3", "1", "unknown"),
        ("3", "310", "unknown"),
        ("3", "9999", "unknown"),
        ("3", None, "unknown"),
        ("4", "252", "held_for_review"),
        ("4", "253", "held_for_review"),
        ("4", "193", "held_for_review"),
        ("4", "295", "approved_in_part"),
        ("5", "2000", "unknown"),
        ("0", None, "unknown"),
        ("", "1", "unknown"),
        ("11", "1", "unknown"),
    ],
)
def test_response_and_reason_codes_decide_together(
    response_code: str, reason: str | None, expected: str
) -> None:
    assert reason_meanings.verdict(response_code, reason) == expected


TRY_AGAIN = (*range(19, 24), 25, 26, *range(57, 64), 120, 121, 122, 180, 181, 261)


@pytest.mark.parametrize("reason", TRY_AGAIN)
def test_a_broken_link_to_the_acquirer_leaves_the_outcome_unknown(reason: int) -> None:
    assert reason_meanings.verdict("3", str(reason)) == "unknown"


def test_only_response_code_1_approves() -> None:
    for response_code in ("0", "2", "3", "4", "5", "6", "", "one"):
        for reason in (*REASONS, "", None):
            assert reason_meanings.verdict(response_code, reason) != "approved"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["E00003"], "rejected"),
        (["E00007"], "account_refused"),
        (["E00005", "E00011"], "account_refused"),
        (["E00007", "E00003"], "rejected"),
        (["E00007", "E00001"], "unknown"),
        (["E00114"], "rejected"),
        (["E00117"], "rejected"),
        (["E00121"], "rejected"),
        (["E00003", "E00013"], "rejected"),
        (["E00001"], "unknown"),
        (["E00027"], "unknown"),
        (["E00049"], "unknown"),
        (["E00053"], "unknown"),
        (["E00104"], "unknown"),
        (["E00003", "E00001"], "unknown"),
        (["E12345"], "unknown"),
        (["I00001"], "unknown"),
        ([""], "unknown"),
        ([], "unknown"),
    ],
)
def test_an_api_failure_is_a_refusal_only_if_all_its_codes_are(
    found: list[str], expected: str
) -> None:
    assert reason_meanings.api_verdict(found) == expected


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("2", "generic_decline"),
        ("3", "call_issuer"),
        ("4", "pick_up_card"),
        ("6", "invalid_card_number"),
        ("7", "invalid_expiry"),
        ("8", "expired_card"),
        ("27", "address_mismatch"),
        ("28", "card_not_accepted"),
        ("44", "cvc_mismatch"),
        ("78", "invalid_cvc"),
        ("251", "fraud_suspected"),
        ("317", "expired_card"),
        ("12345", "generic_decline"),
        (None, "generic_decline"),
    ],
)
def test_decline_codes_are_in_our_words(reason: str | None, word: str) -> None:
    assert reason_meanings.decline_code(reason) == word


def test_every_decline_code_has_advice() -> None:
    words = {reason_meanings.decline_code(reason, rc) for reason in REASONS for rc in "23"}
    words |= {word for word, _ in message_codes.API_REJECTED.values()}
    assert words <= set(reason_meanings.RETRY_ADVICE)


def test_every_decline_code_has_its_problem_and_none_is_a_5xx() -> None:
    assert set(reason_meanings.RETRY_ADVICE) == set(REFUSALS)
    assert {refusal.error.http_status for refusal in REFUSALS.values()} == {409, 422}
    assert all(PROBLEMS[refusal.error.code].kept for refusal in REFUSALS.values())


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("5", 422), ("8", 422), ("17", 422), ("39", 422), ("47", 422), ("55", 422), ("128", 422),
        ("16", 409), ("54", 409), ("64", 409), ("298", 409), ("304", 409), ("327", 409),
        ("30", 409), ("901", 409),
    ],
)  # fmt: skip
def test_a_conflict_with_the_payment_is_409_and_a_bad_request_422(reason: str, status: int) -> None:
    rejected = Rejected(
        code=reason, message="No.", decline_code=reason_meanings.decline_code(reason, "3")
    )
    for kind in ("sale", "capture", "void", "refund", "approve"):
        problem = refused_by_processor(kind, rejected)
        assert problem.http_status == status
        assert f"(code {reason})" in problem.detail
    assert refused_by_processor("void", Rejected(code="1", message="")).http_status == 422


def test_every_refusal_says_whether_to_try_again() -> None:
    for reason in REASONS:
        for response_code in "23":
            if reason_meanings.verdict(response_code, reason) in ("declined", "rejected"):
                word = reason_meanings.decline_code(reason, response_code)
                assert reason_meanings.retry(word) in get_args(Retry)


@pytest.mark.parametrize(
    ("reason", "advice"),
    [("2", "later"), ("4", "never"), ("8", "fix_data"), ("37", "fix_data"), ("254", "never")],
)
def test_the_reason_decides_the_retry_advice(reason: str, advice: str) -> None:
    assert reason_meanings.retry(reason_meanings.decline_code(reason)) == advice


@pytest.mark.parametrize(
    ("response_code", "reason", "expected"),
    [
        ("1", "1", "declined"),
        ("1", "254", "declined"),
        ("1", None, "declined"),
        ("1", "310", "unknown"),
        ("1", "295", "unknown"),
        ("2", "254", "declined"),
        ("3", "16", "rejected"),
        ("3", "11", "unknown"),
        ("4", "253", "held_for_review"),
    ],
)
def test_the_result_of_a_review_arrives_as_a_success(
    response_code: str, reason: str | None, expected: str
) -> None:
    assert reason_meanings.end_of_review_verdict(response_code, reason) == expected


def test_every_top_level_code_has_one_meaning() -> None:
    listed = [
        message_codes.ACCOUNT_REFUSED,
        *message_codes._REJECTED.values(),
        message_codes._UNKNOWN,
    ]
    assert sum(map(len, listed)) == len(message_codes.TEXTS) == 123
    assert not [code for code in message_codes.API_REJECTED if code.startswith("I")]
    assert len(REASONS) == 285


LETTERS = [None, "", " ", "?", "y", "YY", 1, "5", "6", *"ABEGNPRSUWXYZM0123456789"]


def test_avs_and_cvv_letters_become_words_and_are_kept() -> None:
    assert {*replies.AVS} == {*"ABEGNPRSUWXYZ"}
    assert {*replies.CVV} == {*"MNPSU"}
    for letter in LETTERS:
        read = replies.checks_of(letter, letter)
        raw = letter.strip() or None if isinstance(letter, str) and len(letter) == 1 else None
        assert read["avs_result"] == read["cvv_result"] == raw
        assert read["avs"] == replies.AVS.get(raw or "")
        assert read["cvv"] == replies.CVV.get(raw or "")
    assert replies.checks_of("W", "S") == {
        "avs_result": "W",
        "cvv_result": "S",
        "avs": "postal_code_only",
        "cvv": "should_have_been_present",
    }


def test_no_reason_has_two_decline_codes() -> None:
    listed = [
        reason for reasons, _ in reason_meanings._DECLINE_CODES.values() for reason in reasons
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) <= set(REASONS)


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text("utf-8")
    assert docs_page.renewed(text) == text, (
        "run `python -m easypay.processors.authorize_net.docs_page`"
    )
