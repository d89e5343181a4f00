"""Authorize.Net's list of codes: what raises each code with which text, or why nothing does.

A fault can raise any code, so that a client can be tested with all of them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from authorizenet_simulator.wire.codes import MESSAGES
from simulator import subscription_code_triggers, xml_client
from simulator.code_triggers import ALSO, RAISED, Answer, sale
from simulator.customers import message
from simulator.merchant_client import Merchant, Process, card, reason

_BOARDING = "opens or changes merchants' accounts, which is not among the requests of the schema"
_SCHEMA = "a request that is not as the schema wants it is E00003"
_OTHER_WAYS = "fingerPrint, accessToken and impersonationAuthentication are E00007"
NEVER_RAISED = {
    "I00003": "what is deleted twice is E00040",
    **dict.fromkeys(("I00007", "I00008", "I00009", "I00010", "I00011"), _BOARDING),
    "I99999": "stands for what the processor has not built",
    "E00019": "one processor of eChecks asked for a licence number, and is no longer there",
    **dict.fromkeys(("E00046", "E00047", "E00048", "E00050"), _BOARDING),
    "E00052": "each list that has a limit has a refusal of its own: E00042, E00043, E00003, 271",
    **dict.fromkeys(
        ("I00005", "E00055", "E00057", "E00058"), "a device is approved as soon as it is registered"
    ),
    "E00061": "data that a card reader encrypted is 155",
    **dict.fromkeys(("E00062", "E00063", "E00065"), "within the processor"),
    "E00064": _OTHER_WAYS,
    **dict.fromkeys(("E00066", "E00067", "E00068", "E00071", "E00072", "E00073"), _SCHEMA),
    **dict.fromkeys(("E00069", "E00070", "E00074", "E00078"), _BOARDING),
    **dict.fromkeys(("E00075", "E00076", "E00077"), _SCHEMA),
    **dict.fromkeys(("E00079", "E00080", "E00081"), _OTHER_WAYS),
    **dict.fromkeys(("E00083", "E00084", "E00086"), _BOARDING),
    "E00087": "a list of subscriptions with none in it is I00004",
    "E00094": "an offset above the schema's 100,000 is E00003, and a page behind the last is empty",
    **dict.fromkeys(("E00096", "E00097"), _OTHER_WAYS),
}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A separate process, whose clock these tests set."""
    process = Process(tmp_path_factory.mktemp("simulator") / "log", "--seed", "1")
    process.control("/clock", {"now": subscription_code_triggers.NOW, "stopped": True})
    yield process
    process.terminate()


@pytest.fixture
def shop(process: Process) -> Iterator[Merchant]:
    yield process.merchant()
    process.control("/faults", method="DELETE")


def test_each_code_of_the_list_is_raised_or_has_a_reason() -> None:
    assert RAISED.keys() | NEVER_RAISED.keys() == MESSAGES.keys()
    assert RAISED.keys().isdisjoint(NEVER_RAISED)


@pytest.mark.parametrize("code", sorted(RAISED))
def test_each_code_is_raised_by_its_request(shop: Merchant, code: str) -> None:
    act, text = RAISED[code]
    answer = act(shop)
    assert message(answer) == (code, text.replace("{id}", answer.get("id", "")))
    assert answer["messages"]["resultCode"] == ("Ok" if code.startswith("I") else "Error")


@pytest.mark.parametrize(("code", "act", "text"), ALSO)
def test_some_codes_have_other_texts(
    shop: Merchant, code: str, act: Callable[[Merchant], Answer], text: str
) -> None:
    assert message(act(shop)) == (code, text)


def test_a_fault_can_raise_any_code(shop: Merchant) -> None:
    for code, text in MESSAGES.items():
        shop.fault("code_before", code=code, count=1)
        assert shop.call("authenticateTestRequest", refId="r")["messages"] == {
            "resultCode": "Ok" if code.startswith("I") else "Error",
            "message": [{"code": code, "text": text}],
        }


def test_a_sale_that_timed_out_can_have_been_made(shop: Merchant) -> None:
    shop.fault("code_before", code="E00049", count=1)
    assert message(sale(shop))[0] == "E00049"
    assert shop.truth() == []
    shop.fault("code_after", code="E00049", count=1)
    assert message(sale(shop))[0] == "E00049"
    assert [row["status"] for row in shop.truth()] == ["capturedPendingSettlement"]


def test_a_code_by_fault_in_xml_has_the_methods_root(shop: Merchant) -> None:
    for method, root in (
        ("authenticateTestRequest", "authenticateTestResponse"),
        ("createPaymentRequest", "ErrorResponse"),
    ):
        shop.fault("code_before", code="E00049", count=1)
        document = xml_client.document(method, {"merchantAuthentication": shop.credentials})
        # A fault without a login also matches a method without an account.
        answer = xml_client.parse(xml_client.post(shop.process, document))
        assert (answer.tag, answer.findtext("messages/message/code")) == (root, "E00049")


@pytest.mark.parametrize(
    "order",
    [
        {"kind": "code_before"},
        {"kind": "code_after", "code": "E99999"},
        {"kind": "busy", "code": "E00049"},
    ],
)
def test_a_fault_with_an_unknown_code_is_rejected(shop: Merchant, order: dict[str, Any]) -> None:
    reply = shop.process.client.post("/simulator/faults", json=order)
    assert reply.status_code == 400
    assert "code" in reply.json()["error"]


@pytest.mark.parametrize(
    ("charge", "code"),
    [
        ({"billTo": {"state": "wa", "country": "USA"}}, "I00001"),
        ({"billTo": {"country": "United States"}}, "E00082"),
        ({"billTo": {"state": "Bavaria", "country": "DE"}}, "I00001"),
        ({"billTo": {"state": "Anywhere"}}, "I00001"),
        ({"shipTo": {"country": "ZZ"}}, "E00082"),
        ({"shipTo": {"state": "WA", "country": "CA"}}, "E00085"),
    ],
)
def test_countries_and_states_are_checked_by_setting(
    shop: Merchant, charge: dict[str, Any], code: str
) -> None:
    assert message(sale(shop, **charge))[0] == "I00001"  # the original accepts any text
    shop.settings(places_checked=True)
    assert message(sale(shop, "2.00", **charge))[0] == code
    assert len(shop.truth()) == (2 if code == "I00001" else 1)
    address = charge.get("billTo") or charge["shipTo"]
    part = "shipToList" if "shipTo" in charge else "paymentProfiles"
    said = address if "shipTo" in charge else {"billTo": address, "payment": card()}
    stored = shop.call(
        "createCustomerProfileRequest", profile={"email": "ada@example.com", part: said}
    )
    assert message(stored)[0] == code


def test_a_disabled_service_does_not_affect_others(shop: Merchant) -> None:
    shop.settings(switched_off=["cim"])
    assert message(sale(shop))[0] == "I00001"
    made = sale(shop, "2.00", profile={"createProfile": True}, customer={"id": "m-1"})
    assert made["transactionResponse"]["responseCode"] == "1"  # the charge is made
    assert message(made["profileResponse"])[0] == "E00044"
    shop.settings(switched_off=["account"])
    before = len(shop.truth())
    assert message(sale(shop, "3.00"))[0] == "E00008"
    assert len(shop.truth()) == before
    shop.settings(switched_off=[])
    assert reason(shop.charge("0.00")) == "5"
