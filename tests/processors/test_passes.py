"""One pass over the processor's lists for all open operations of an account. The simulator's truth
table is the judge; books shown page by page make situations it never has."""

import asyncio
from time import monotonic, time
from typing import Any

import msgspec
import pytest

from easypay.ids import new_id, reference
from easypay.processors.authorize_net import account_lists
from easypay.processors.authorize_net.processor import AuthorizeNet
from easypay.processors.base import (
    Absent,
    Account,
    Approved,
    Deadline,
    Finding,
    Found,
    HeldForReview,
    Inconclusive,
    InquiryRequest,
    Passed,
    PassRequest,
    Unknown,
)
from harness import Simulator

from .example_requests import inquiry, login_of, payment, refund, soon
from .outcomes import expect, expect_found
from .reports import GONE, Books, Listed, ago, line, reporting

HOUR = 3600.0


def name() -> str:
    return reference(new_id())


def wanted(account: Account, names: list[str], ago_s: float = 0, **over: Any) -> PassRequest:
    sent_at_ms = int((time() - ago_s) * 1000)
    asked = [inquiry(account, "sale", one, sent_at_ms=sent_at_ms) for one in names]
    return PassRequest(account=account, wanted=asked, **over)


async def search(
    processor: AuthorizeNet,
    books: Books,
    names: list[str],
    ago_s: float = 0,
    deadline: Deadline | None = None,
    **over: Any,
) -> Passed:
    async with reporting(books.answer) as account:
        request = wanted(account, names, ago_s, **over)
        return await processor.look(request, deadline or soon())


def found(finding: Finding) -> str:
    outcome = expect(Found, finding).outcome
    assert isinstance(outcome, Approved | HeldForReview), finding
    return outcome.transaction_id


def undecided(finding: Finding) -> str:
    return expect(Inconclusive, finding).reason


def absent(finding: Finding) -> str:
    return expect(Absent, finding).searched


# Over the simulator.


async def test_one_pass_ends_every_open_call_of_an_account_as_the_truth_is(
    processor: AuthorizeNet, account: Account, wire: Simulator
) -> None:
    async def lost(**over: Any) -> InquiryRequest:
        request = payment(account, **over)
        await wire.fault("drop_reply", login_of(account))
        assert isinstance(await processor.authorize(request, soon()), Unknown)
        kind = "sale" if request.capture else "authorize"
        return inquiry(account, kind, request.reference)

    paid = expect(Approved, await processor.authorize(payment(account), soon()))
    settled = await lost()
    await wire.post("/settle")
    parent = paid.transaction_id
    lost_refund = refund(account, parent, amount_minor=5_00)
    await wire.fault("drop_reply", login_of(account))
    expect(Unknown, await processor.refund(lost_refund, soon()))
    refunded = inquiry(
        account, "refund", lost_refund.reference, transaction_id=parent, amount_minor=5_00
    )
    sales = [await lost() for _ in range(3)]
    authorized = await lost(capture=False)
    never = inquiry(account, "sale", name())
    expect(Approved, await processor.authorize(payment(account), soon()))

    reported: dict[str, Finding] = {}

    async def on_found(which: str, finding: Finding) -> None:
        reported[which] = finding

    asked = [never, settled, refunded, *sales, authorized]
    passed = await processor.look(
        PassRequest(account=account, wanted=asked), soon(), on_found=on_found
    )

    rows = {
        row["invoice_number"]: row["trans_id"] for row in await wire.truth(login=login_of(account))
    }
    charged = {one.reference: rows[one.reference] for one in asked if one is not never}
    assert {which: found(finding) for which, finding in reported.items()} == charged
    assert {**reported, never.reference: passed.findings[never.reference]} == passed.findings
    searched = absent(passed.findings[never.reference])
    assert searched == "held for review, unsettled, 1 batch settled since the call"
    assert len(passed.batches) == 1
    ours = {one.reference for one in asked}
    assert set(passed.listed) == rows.keys() - ours, "the known sales are witnesses"


async def test_a_refund_made_as_a_void_is_found_by_its_payment(
    processor: AuthorizeNet, account: Account, wire: Simulator
) -> None:
    paid = expect(Approved, await processor.authorize(payment(account), soon()))
    other = expect(Approved, await processor.authorize(payment(account), soon()))
    whole = refund(account, paid.transaction_id, captured_minor=25_00)
    expect(Approved, await processor.refund_or_void(whole, soon()))
    voided, untouched = (
        inquiry(account, "refund", which, transaction_id=parent, captured_minor=25_00)
        for which, parent in (
            (whole.reference, paid.transaction_id),
            (name(), other.transaction_id),
        )
    )
    request = PassRequest(account=account, wanted=[voided, untouched])
    passed = await processor.look(request, soon())
    finding = passed.findings[voided.reference]
    assert found(finding) == paid.transaction_id
    assert expect_found(Approved, finding).voided
    assert "capturedPendingSettlement" in absent(passed.findings[untouched.reference])


# The order of the lists.


async def test_each_list_is_started_after_the_one_before_it_ended(processor: AuthorizeNet) -> None:
    books = Books()
    books.batches = {
        "1": Listed([line(1)], ago(300)),
        "2": Listed([line(2)], ago(100)),
    }
    passed = await search(processor, books, [mine := name()])
    assert books.asked == ["held 1", "unsettled 1", "batches", "batch 2 1", "batch 1 1"]
    assert books.most["lists"] == 1
    searched = absent(passed.findings[mine])
    assert searched == "held for review, unsettled, 2 batches settled since the call"
    assert (set(passed.batches), passed.pages) == ({"1", "2"}, 4)


@pytest.mark.parametrize("when", ["unsettled 1", "batches"])
async def test_a_payment_that_settles_while_the_lists_are_read_is_found(
    processor: AuthorizeNet, when: str
) -> None:
    """It leaves the unsettled list just before the list is read, and enters a batch at that moment
    or when the batches are read."""
    books = Books()
    mine = name()
    moved = books.charge(60_001, mine)
    if when == "unsettled 1":
        books.unsettled = [moved]

    def settle() -> None:
        books.unsettled = []
        books.batches = {"7": Listed([moved], ago(0))}

    books.before[when] = settle
    passed = await search(processor, books, [mine])
    assert found(passed.findings[mine]) == "60001"
    assert books.lists_asked() == ["held 1", "unsettled 1", "batches", "batch 7 1"]


async def test_thousands_are_found_in_one_pass_with_few_details_at_once(
    processor: AuthorizeNet,
) -> None:
    books = Books()
    names = [name() for _ in range(3000)]
    others = [name() for _ in range(2000)]
    books.unsettled = [line(number, one) for number, one in enumerate(others, 1)]
    books.unsettled[500:500] = [books.charge(n, one) for n, one in enumerate(names, 60_001)]
    reported: list[str] = []
    sixteen = asyncio.Event()

    async def crowd() -> None:
        if books.going["details"] == 16:
            sixteen.set()
        await sixteen.wait()

    books.before["details"] = crowd

    async def on_found(which: str, finding: Finding) -> None:
        reported.append(which)

    async with reporting(books.answer) as account:
        deadline = Deadline(monotonic() + 30)
        passed = await processor.look(wanted(account, names), deadline, on_found=on_found)
    assert [found(passed.findings[one]) for one in names] == [
        str(number) for number in range(60_001, 63_001)
    ]
    assert sorted(reported) == sorted(names)
    assert books.lists_asked() == ["held 1", *(f"unsettled {page}" for page in range(1, 7))]
    assert passed.pages == 7
    assert len(books.asked) == 7 + 3000
    assert books.most["details"] == 16
    assert passed.listed == sorted(others, reverse=True)[:200]


async def test_details_are_read_while_the_next_page_is_read(processor: AuthorizeNet) -> None:
    books = Books()
    first, second = name(), name()
    books.unsettled = [line(number) for number in range(1, 2500)]
    books.unsettled[0] = books.charge(60_001, first)
    books.unsettled[1500] = books.charge(60_002, second)
    known = asyncio.Event()
    third_page = asyncio.Event()
    books.before |= {
        "unsettled 2": known.wait,  # a page that waits until the first is found
        "unsettled 3": third_page.set,
        "details 60002": third_page.wait,  # details that wait for the next page
    }

    async def on_found(which: str, finding: Finding) -> None:
        known.set()

    async with reporting(books.answer) as account:
        passed = await processor.look(wanted(account, [first, second]), soon(), on_found=on_found)
    assert [found(passed.findings[one]) for one in (first, second)] == ["60001", "60002"]


async def test_lists_are_read_back_to_the_oldest_open_call(processor: AuthorizeNet) -> None:
    books = Books()
    pages = [[line(n, at=ago(hours * HOUR)) for n in range(1000)] for hours in range(4)]
    books.unsettled = [one for page in pages for one in page]
    books.batches = {"7": Listed(list(books.unsettled), ago(0))}
    for hours, deep in ((0.1, 2), (1.1, 3)):
        books.asked.clear()
        passed = await search(processor, books, [mine := name()], ago_s=hours * HOUR)
        searched = absent(passed.findings[mine])
        assert searched.startswith(f"held for review, unsettled ({deep} pages), 1 batch ")
        assert books.lists_asked() == [
            "held 1",
            *(f"unsettled {page}" for page in range(1, deep + 1)),
            "batches",
            *(f"batch 7 {page}" for page in range(1, deep + 1)),
        ]


async def test_an_endless_list_is_abandoned(
    processor: AuthorizeNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_lists, "MAX_PAGES", 3)
    books = Books()
    books.unsettled = [line(number) for number in range(1, 4001)]
    passed = await search(processor, books, [mine := name()])
    assert "more than 3 pages" in undecided(passed.findings[mine])


# An unreadable list proves nothing, and earlier findings stay.


@pytest.mark.parametrize(
    ("failing", "asked"),
    [
        ("held 1", 1),
        ("unsettled 1", 2),
        ("unsettled 2", 3),
        ("batches", 4),
        ("batch 7 1", 5),
        ("batch 6 1", 6),
    ],
)
async def test_a_failing_list_leaves_only_calls_open_that_were_not_found_before(
    processor: AuthorizeNet, failing: str, asked: int
) -> None:
    books = Books()
    held, early, late, settled, never = (name() for _ in range(5))
    books.held = [books.charge(60_001, held)]
    books.unsettled = [line(number) for number in range(1, 1500)]
    books.unsettled[3] = books.charge(60_002, early)
    books.unsettled[1200] = books.charge(60_003, late)
    books.batches = {
        "7": Listed([books.charge(60_004, settled)], ago(10)),
        "6": Listed([line(9)], ago(20)),
    }
    books.before[failing] = lambda: GONE
    passed = await search(processor, books, [held, early, late, settled, never])
    order = ["held 1", "unsettled 1", "unsettled 2", "batches", "batch 7 1", "batch 6 1"]
    assert books.lists_asked() == order[:asked]
    places = {held: 0, early: 1, late: 2, settled: 4, never: 9}
    for one, place in places.items():
        if place < order.index(failing):
            assert found(passed.findings[one]), one
        else:
            where = {"held": "held for review", "batches": "settled batches"}
            what = failing.partition(" ")[0]
            assert where.get(what, what) in undecided(passed.findings[one])
    assert passed.batches == ({"7"} if failing == "batch 6 1" else frozenset())


async def test_failing_details_leave_only_their_own_call_open(processor: AuthorizeNet) -> None:
    books = Books()
    one, other, never = name(), name(), name()
    books.unsettled = [books.charge(60_001, one), books.charge(60_002, other)]
    books.before["details 60001"] = lambda: GONE
    passed = await search(processor, books, [one, other, never])
    assert "found (unsettled), but details" in undecided(passed.findings[one])
    assert found(passed.findings[other]) == "60002"
    assert absent(passed.findings[never])


@pytest.mark.parametrize("totals", [(2500, 2400, 2300), (2500, 2900, 2600)])
async def test_a_list_that_shrinks_while_it_is_read_proves_no_absence(
    processor: AuthorizeNet, totals: tuple[int, ...]
) -> None:
    """Also if it grew first: lines it lost since may have moved ours before the next page."""
    books = Books()
    one, never = name(), name()
    books.unsettled = [line(number) for number in range(1, 2500)]
    books.unsettled[3] = books.charge(60_001, one)
    books.total = lambda call, total: (
        totals[int(call[-1]) - 1] if call.startswith("unsettled") else total
    )
    passed = await search(processor, books, [one, never])
    assert found(passed.findings[one]) == "60001"
    assert "shrank" in undecided(passed.findings[never])


async def test_a_list_that_only_grows_is_read_to_its_end(processor: AuthorizeNet) -> None:
    """New lines push the rest back: some lines appear twice; their details are read once."""
    books = Books()
    one, never = name(), name()
    books.unsettled = [line(number) for number in range(1, 1500)]
    books.unsettled[999] = books.charge(60_001, one)
    books.before["unsettled 2"] = lambda: books.unsettled.insert(0, line(9999))
    passed = await search(processor, books, [one, never])
    assert found(passed.findings[one]) == "60001"
    assert absent(passed.findings[never])
    assert books.asked.count("details 60001") == 1


@pytest.mark.parametrize("hanging", ["unsettled 2", "details 60001"])
async def test_calls_not_found_by_the_deadline_stay_open(
    processor: AuthorizeNet, hanging: str
) -> None:
    books = Books()
    slow, quick, never = name(), name(), name()
    books.unsettled = [line(number) for number in range(1, 1500)]
    books.unsettled[3:5] = [books.charge(60_001, slow), books.charge(60_002, quick)]
    released = asyncio.Event()
    books.before[hanging] = released.wait
    begun = monotonic()
    passed = await search(
        processor, books, [slow, quick, never], deadline=Deadline(monotonic() + 0.5)
    )
    released.set()
    assert monotonic() - begun < 2
    assert found(passed.findings[quick]) == "60002"
    if hanging == "details 60001":
        assert undecided(passed.findings[slow])
        assert absent(passed.findings[never])
    else:
        assert found(passed.findings[slow]) == "60001"
        assert undecided(passed.findings[never])


async def test_nothing_is_started_after_the_deadline(processor: AuthorizeNet) -> None:
    books = Books()
    passed = await search(processor, books, [mine := name()], deadline=Deadline(monotonic()))
    assert undecided(passed.findings[mine])
    assert books.asked == []


async def test_a_finding_that_cannot_be_recorded_ends_the_pass(processor: AuthorizeNet) -> None:
    books = Books()
    mine = name()
    books.unsettled = [books.charge(60_001, mine)]

    async def on_found(which: str, finding: Finding) -> None:
        raise ConnectionError("the database is away")

    async with reporting(books.answer) as account:
        with pytest.raises(ConnectionError, match="the database is away"):
            await processor.look(wanted(account, [mine]), soon(), on_found=on_found)


async def test_passes_of_two_accounts_are_independent(processor: AuthorizeNet) -> None:
    slow, quick = Books(), Books()
    one, other = name(), name()
    slow.unsettled = [slow.charge(60_001, one)]
    quick.unsettled = [quick.charge(60_001, other)]
    ended = asyncio.Event()
    slow.before["unsettled 1"] = ended.wait
    async with reporting(slow.answer) as first, reporting(quick.answer) as second:
        waiting = asyncio.create_task(processor.look(wanted(first, [one]), soon()))
        passed = await processor.look(wanted(second, [other]), soon())
        assert not waiting.done()
        ended.set()
        assert found((await waiting).findings[one]) == "60001"
    assert found(passed.findings[other]) == "60001"
    assert passed.findings.keys() == {other}


@pytest.mark.parametrize("second", ["same page", "later page", "another list"])
async def test_two_transactions_with_one_reference_prove_nothing(
    processor: AuthorizeNet, second: str
) -> None:
    books = Books()
    mine, never = name(), name()
    books.unsettled = [line(number) for number in range(1, 1500)]
    books.unsettled[0] = books.charge(60_001, mine)
    twin = books.charge(60_002, mine)
    if second == "another list":
        books.batches = {"7": Listed([twin], ago(0))}
    else:
        books.unsettled[1 if second == "same page" else 1200] = twin
    passed = await search(processor, books, [mine, never])
    assert "60001, 60002" in undecided(passed.findings[mine])
    assert absent(passed.findings[never])
    if second == "same page":
        assert not [call for call in books.asked if call.startswith("details")]


# Batches.


async def test_a_batch_is_read_only_for_calls_that_may_be_in_it_and_were_not_searched(
    processor: AuthorizeNet,
) -> None:
    books = Books()
    old, new = name(), name()
    books.batches = {
        number: Listed([line(int(number))], ago(hours * HOUR))
        for number, hours in (("1", 50), ("2", 30), ("3", 10), ("4", 1))
    }
    async with reporting(books.answer) as account:
        asked = [
            *wanted(account, [old], ago_s=40 * HOUR).wanted,
            *wanted(account, [new], ago_s=5 * HOUR).wanted,
        ]

        async def batches_read(searched: dict[str, frozenset[str]]) -> tuple[list[str], Passed]:
            books.asked.clear()
            request = PassRequest(account=account, wanted=asked, searched=searched)
            passed = await processor.look(request, soon())
            return [call.split()[1] for call in books.asked if call.startswith("batch ")], passed

        read, passed = await batches_read({})
        assert read == ["4", "3", "2"], "not the first batch: it settled before either call"
        assert passed.batches == {"2", "3", "4"}
        assert absent(passed.findings[old]).endswith("3 batches settled since the call")
        assert absent(passed.findings[new]).endswith("1 batch settled since the call")

        # The new call was sent after the second and third batches settled.
        read, passed = await batches_read({old: frozenset({"2", "3"})})
        assert read == ["4"]
        assert passed.batches == {"2", "3", "4"}
        assert absent(passed.findings[old]).endswith("3 batches settled since the call")

        read, passed = await batches_read({old: frozenset({"2", "3", "4"})})
        assert read == ["4"], "the new call was not searched there"

        read, _ = await batches_read({old: frozenset({"2", "3", "4"}), new: frozenset({"4"})})
        assert read == []


@pytest.mark.parametrize("hidden_hours", [20, 3])
async def test_a_call_some_hours_old_is_found_despite_clock_skew(
    processor: AuthorizeNet, hidden_hours: float
) -> None:
    """The list without dates uses the processor's clock: for older calls, dates are sent too."""
    books = Books()
    passed = await search(processor, books, [mine := name()], ago_s=hidden_hours * HOUR)
    assert absent(passed.findings[mine])
    assert books.asked.count("batches") == (2 if hidden_hours > 6 else 1)


@pytest.mark.parametrize(
    ("state", "remembered", "proves"),
    [
        ("settledSuccessfully", True, True),
        ("settlementError", False, True),
        ("pendingSettlement", False, False),
        ("somethingNew", False, False),
        (None, False, False),
    ],
)
async def test_only_a_closed_batch_is_remembered_and_an_open_one_proves_no_absence(
    processor: AuthorizeNet, state: str | None, remembered: bool, proves: bool
) -> None:
    books = Books()
    early, late = name(), name()
    books.batches = {"7": Listed([line(1)], ago(HOUR), state)}
    async with reporting(books.answer) as account:
        asked = [
            *wanted(account, [early], ago_s=2 * HOUR).wanted,
            *wanted(account, [late]).wanted,
        ]
        # Even if an earlier pass saw it closed, an open batch is read again.
        searched = {} if remembered else {early: frozenset({"7"})}
        request = PassRequest(account=account, wanted=asked, searched=searched)
        passed = await processor.look(request, soon())
    assert "batch 7 1" in books.asked
    assert passed.batches == ({"7"} if remembered else frozenset())
    if proves:
        assert absent(passed.findings[early])
    else:
        assert "batch 7 is not closed" in undecided(passed.findings[early])
    assert absent(passed.findings[late]), "it was sent after the batch had settled"


async def test_a_batch_without_a_time_or_without_lines_is_not_skipped(
    processor: AuthorizeNet,
) -> None:
    books = Books()
    books.batches = {"7": Listed([line(1)], None), "8": Listed([], ago(0))}
    passed = await search(processor, books, [mine := name()])
    assert absent(passed.findings[mine])
    assert books.lists_asked()[-2:] == ["batch 7 1", "batch 8 1"]
    assert passed.batches == {"7"}, "the other batch's transactions are not reported yet"


# Witnesses, and which calls are made.


async def test_witnesses_are_references_of_ours_that_no_inquiry_wanted(
    processor: AuthorizeNet,
) -> None:
    books = Books()
    mine, older, newer = name(), name(), name()
    strangers = ["", "order-17", "20260101000000000001", newer.lower(), newer[:-1], newer + "0"]
    books.held = [line(1, newer)]
    books.unsettled = [line(n, one) for n, one in enumerate([*strangers, older, newer], 2)]
    books.unsettled.append(books.charge(60_001, mine))
    passed = await search(processor, books, [mine])
    assert passed.listed == [newer, older]


async def test_a_pass_without_open_calls_reads_nothing(processor: AuthorizeNet) -> None:
    books = Books()
    passed = await search(processor, books, [])
    assert (passed.findings, passed.pages, books.asked) == ({}, 0, [])


async def test_an_unlisted_kind_and_a_doubled_reference_are_refused(
    processor: AuthorizeNet, account: Account
) -> None:
    request = wanted(account, [one := name()])
    captured = inquiry(account, "capture", name(), transaction_id="1")
    for asked in ([captured], [*request.wanted, inquiry(account, "refund", one)]):
        with pytest.raises(ValueError, match=r"in no list|wanted twice"):
            await processor.look(msgspec.structs.replace(request, wanted=asked), soon())
