"""Replies and reports of prepaid cards, eChecks and level-3 data are the same in XML."""

from simulator.json_xml_pair import Twins
from simulator.merchant_client import Process, card
from simulator.parts import bank, setting
from simulator.spoiled_requests import elements, whole

CARD = card()
BANK = bank(accountType="checking", echeckType="WEB")


def test_reports_have_the_same_data_in_both_formats(process: Process) -> None:
    process.control("/clock", {"now": "2026-05-04T12:00:00Z", "stopped": True})
    twins = Twins(process)
    twins.transact(
        "part",
        transactionType="authCaptureTransaction",
        amount="10.00",
        payment=CARD,
        billTo={"zip": "46226"},
        **setting("allowPartialAuth"),
    )
    twins.transact("echeck", transactionType="authCaptureTransaction", amount="9.00", payment=BANK)
    request = whole(elements("createTransactionRequest"))["transactionRequest"]
    for name in ("profile", "refTransId", "splitTenderId", "retail", "authCode"):
        del request[name]
    request |= {
        "transactionType": "authOnlyTransaction",
        "amount": "1.00",
        "currencyCode": "USD",
        "payment": CARD,
        "cardholderAuthentication": {
            "authenticationIndicator": "05",
            "cardholderAuthenticationValue": "AAAA",
        },
    }
    twins.transact("everything", **request)
    process.control("/settle")
    for name in ("part", "echeck", "everything"):
        assert twins.call("getTransactionDetailsRequest", transId=f"@{name}") == "I00001"
    assert twins.call("getSettledBatchListRequest", includeStatistics="true") == "I00001"
