"""XML requests and replies: the same data as in JSON, in the schema's form, and the same faults."""

import json
import time
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authorizenet_simulator.wire import json_wire, schema, xml_wire
from authorizenet_simulator.wire.replies import Reply
from breadth import examples
from simulator import xml_client
from simulator.json_xml_pair import Twins, steady
from simulator.merchant_client import BOM, VISA, WIRE, Merchant, Process, card
from simulator.random_requests import least_of, trees
from simulator.schema_source import NS, REQUESTS, SCHEMA
from simulator.xml_client import (
    HEAD,
    alive,
    call,
    document,
    error,
    parse,
    post,
    refused,
    sale,
)

RULES = schema.load()
"""The schema as the simulator reads it; that takes a tenth of a second."""


def test_an_approval_has_the_originals_bytes(shop: Merchant) -> None:
    body = {
        "merchantAuthentication": shop.credentials,
        "clientId": "shop & Sons",
        "refId": "<order> & 17",
        "transactionRequest": sale(userFields={"userField": [{"name": "colour", "value": "blue"}]}),
    }
    answer = post(shop.process, document("createTransactionRequest", body))
    (row,) = shop.truth()
    told = shop.details(row["trans_id"])
    assert answer.decode() == (
        '\ufeff<?xml version="1.0" encoding="utf-8"?><createTransactionResponse'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns="{NS}">'
        "<refId>&lt;order&gt; &amp; 17</refId>"
        "<messages><resultCode>Ok</resultCode><message><code>I00001</code>"
        "<text>Successful.</text></message></messages>"
        f"<transactionResponse><responseCode>1</responseCode><authCode>{told['authCode']}</authCode>"
        "<avsResultCode>Y</avsResultCode><cvvResultCode /><cavvResultCode>2</cavvResultCode>"
        f"<transId>{row['trans_id']}</transId><refTransID /><transHash />"
        "<testRequest>0</testRequest><accountNumber>XXXX1111</accountNumber>"
        "<accountType>Visa</accountType><messages><message><code>1</code>"
        "<description>This transaction has been approved.</description></message></messages>"
        "<userFields><userField><name>colour</name><value>blue</value></userField></userFields>"
        f"<transHashSha2 /><networkTransId>{told['networkTransId']}</networkTransId>"
        "</transactionResponse></createTransactionResponse>"
    )


def test_the_same_requests_have_the_same_effect_in_both_formats(start: Any) -> None:
    """Two merchants send the same requests, one in XML and one in JSON."""
    process: Process = start("--seed", "7")
    # The cut-off must not be between the two.
    process.control("/clock", {"now": "2026-07-01T12:00:00Z", "stopped": True})
    twins = Twins(process, signature_key="00ff" * 32, currencies=["USD", "CAD"])
    charge_in_every_way(twins)
    hold_and_settle(twins, process)
    ask_for_the_rest(twins)
    rows = [
        [(row["type"], row["amount"], row["status"], row["invoice_number"]) for row in shop.truth()]
        for shop in (twins.json, twins.xml)
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) > 10


def charge_in_every_way(twins: Twins) -> None:
    both, transact = twins.call, twins.transact
    items = [{"itemId": str(n), "name": "hat", "quantity": "2", "unitPrice": "1.5"} for n in (1, 2)]
    address = {"firstName": "A & B", "lastName": "Müller", "zip": "46282"}
    transact("sale", **sale(order={"invoiceNumber": "1"}, lineItems={"lineItem": items}))
    transact("auth", **(sale("3") | {"transactionType": "authOnlyTransaction"}))
    transact(transactionType="priorAuthCaptureTransaction", amount="2", refTransId="@auth")
    transact(transactionType="priorAuthCaptureTransaction", refTransId="@auth")
    transact(**sale("5", billTo=address))
    transact(**sale("5", billTo=address | {"zip": "46203"}))
    transact(**sale("0"))
    transact(**(sale() | {"amount": "12.5"}))  # no duplicate: it has no invoice number
    transact(**(sale() | {"amount": "12.5"}))
    bank = {
        "accountType": "checking",
        "routingNumber": "121042882",
        "accountNumber": "123456789",
        "nameOnAccount": "A B",
    }
    transact("echeck", **(sale("9") | {"payment": {"bankAccount": bank}}))
    transact(transactionType="voidTransaction", refTransId="@echeck")
    both(
        "securePaymentContainerRequest",
        {"nonce": "dataValue"},
        data={"type": "TOKEN", "id": "1", "token": {"cardNumber": VISA, "expirationDate": "1240"}},
    )
    opaque = {"dataDescriptor": "COMMON.ACCEPT.INAPP.PAYMENT", "dataValue": "@nonce"}
    transact(**(sale("7") | {"payment": {"opaqueData": opaque}}))
    transact(**(sale("7") | {"payment": {"opaqueData": opaque}}))  # E00114, without a payload


def hold_and_settle(twins: Twins, process: Process) -> None:
    both, transact = twins.call, twins.transact
    for shop in (twins.json, twins.xml):
        shop.settings(held_above="100.00")
    transact("held", **sale("250"))
    both("getUnsettledTransactionListRequest", status="pendingApproval")
    both("updateHeldTransactionRequest",
         heldTransactionRequest={"action": "approve", "refTransId": "@held"})  # fmt: skip
    both("updateHeldTransactionRequest",
         heldTransactionRequest={"action": "approve", "refTransId": "1"})  # fmt: skip
    both("getUnsettledTransactionListRequest",
         sorting={"orderBy": "id", "orderDescending": "false"},
         paging={"limit": "2", "offset": "1"})  # fmt: skip
    both("getTransactionDetailsRequest", transId="@sale")
    both("getTransactionDetailsRequest", transId="@held")
    both("getTransactionDetailsRequest", transId="1")
    both("getSettledBatchListRequest")
    process.control("/settle")
    both("getSettledBatchListRequest", {"batch": "batchId"}, includeStatistics="true")
    both("getBatchStatisticsRequest", batchId="@batch")
    both("getTransactionListRequest", batchId="@batch")
    both("getTransactionDetailsRequest", transId="@sale")
    transact(transactionType="refundTransaction", amount="12.50",
             payment=card("1111", "XXXX"),
             refTransId="@sale")  # fmt: skip


def ask_for_the_rest(twins: Twins) -> None:
    both = twins.call
    both("getMerchantDetailsRequest")
    both("updateMerchantDetailsRequest", isTestMode="true")
    both("getMerchantDetailsRequest")
    twins.transact(**sale("8"))
    both("authenticateTestRequest", refId="r-2")
    both("mobileDeviceRegistrationRequest", mobileDevice={"mobileDeviceId": "phone-1"})
    both("mobileDeviceLoginRequest")
    both("logoutRequest")
    mail = "a@example.com"
    both("sendCustomerTransactionReceiptRequest", transId="@sale", customerEmail=mail)
    both("sendCustomerTransactionReceiptRequest", transId="1", customerEmail=mail)
    both("decryptPaymentDataRequest", opaqueData={"dataDescriptor": "a", "dataValue": "b"})
    both("getAUJobSummaryRequest", month="2026-07")
    both("getAUJobDetailsRequest", month="2026-07")


@settings(max_examples=examples(60, 300))
@given(data=st.data())
def test_a_request_parses_equally_in_both_formats(data: st.DataObject) -> None:
    """For any request that the schema allows, XML and JSON give the same tree."""
    method = data.draw(st.sampled_from(REQUESTS))
    body = data.draw(trees(SCHEMA["elements"][method]))
    from_xml = xml_wire.read(document(method, body).encode())
    from_json = json_wire.read(json.dumps({method: body}).encode())
    assert from_xml.method == from_json.method == method
    assert (from_xml.login, from_xml.transaction_type) == (
        from_json.login,
        from_json.transaction_type,
    )
    RULES.check(method, from_xml.body)
    RULES.check(method, from_json.body)
    assert from_xml.body == from_json.body
    assert in_order(from_xml.body) == in_order(from_json.body)


def in_order(tree: Any) -> Any:
    """Convert dicts to lists of pairs, so that a comparison includes their order."""
    if isinstance(tree, dict):
        return [(key, in_order(value)) for key, value in tree.items()]
    return [in_order(each) for each in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize("method", REQUESTS)
def test_every_request_of_the_schema_is_answered_equally_in_both_formats(
    shared: Process, method: str
) -> None:
    answers = []
    for form in ("xml", "json"):
        shop = shared.merchant()
        body = least_of(SCHEMA["elements"][method])
        if "merchantAuthentication" in body:
            body["merchantAuthentication"] = shop.credentials
        if form == "xml":
            root = parse(post(shared, document(method, body)))
            answers.append(xml_client.facts_of_xml(root))
        else:
            content = shared.client.post(WIRE, json={method: body}).content
            answers.append(xml_client.facts_of_json(xml_client.read_json(content)))
    assert steady(answers[0]) == steady(answers[1])
    code = dict(answers[0])["code"]
    assert code not in ("E00003", "E00004", "E00005", "E00006", "E00007")


def test_error_replies_have_the_right_root(shop: Merchant) -> None:
    """Errors of a method have its own root; errors before it, ErrorResponse."""
    wrong = {"merchantAuthentication": shop.credentials | {"transactionKey": "wrong"}}
    answer = parse(
        post(shop.process, document("getUnsettledTransactionListRequest", wrong | {"refId": "r"}))
    )
    assert answer.tag == "getUnsettledTransactionListResponse"
    assert answer.findtext("refId") == "r"
    assert error(answer)[0] == "E00007"
    assert call(shop, "getTransactionDetailsRequest", transId="1").tag == (
        "getTransactionDetailsResponse"
    )
    assert call(shop, "createTransactionRequest", transactionRequest=sale("0")).tag == (
        "createTransactionResponse"
    )
    unknown = document("chargeRequest", {"merchantAuthentication": shop.credentials, "refId": "r"})
    assert refused(shop.process, unknown) == (
        "E00004",
        "The name of the requested API method is invalid.",
    )
    for body in ("<isAliveRequest/>", '<isAliveRequest xmlns="AnetApi"/>'):
        assert refused(shop.process, body) == (
            "E00045",
            "The root node does not reference a valid XML namespace.",
        )


@pytest.mark.parametrize("kind", ["drop_reply", "reset_before"])
def test_faults_can_break_an_xml_connection(shop: Merchant, kind: str) -> None:
    shop.fault(kind, count=1, method="createTransactionRequest")
    with pytest.raises(httpx.TransportError):
        call(shop, "createTransactionRequest", transactionRequest=sale())
    assert len(shop.truth()) == (kind == "drop_reply")


@pytest.mark.parametrize(
    ("kind", "fields", "status", "done"),
    [
        ("error_after", {}, 500, True),
        ("error_before", {"status": 503}, 503, False),
        ("garbage", {}, 200, True),
        ("truncate", {}, 200, True),
        ("busy", {}, 200, False),
        ("late_reply", {"delay_ms": 30}, 200, True),
        ("late_charge", {"delay_ms": 30}, 200, True),
        ("latency", {"ms": 30}, 200, True),
    ],
)
def test_faults_affect_xml_as_they_affect_json(
    shop: Merchant, kind: str, fields: dict[str, Any], status: int, done: bool
) -> None:
    shop.fault(kind, count=1, transaction_type="authCaptureTransaction", **fields)
    assert call(shop, "authenticateTestRequest").tag == "authenticateTestResponse"  # not matched
    body = {"merchantAuthentication": shop.credentials, "transactionRequest": sale()}
    begun = time.monotonic()
    reply = shop.process.client.post(
        WIRE,
        content=document("createTransactionRequest", body),
        headers={"content-type": "text/xml"},
    )
    if "delay_ms" in fields or "ms" in fields:
        assert time.monotonic() - begun >= 0.03
    assert reply.status_code == status
    assert len(shop.truth()) == done
    if kind in ("error_after", "error_before", "garbage"):
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        return
    assert reply.headers["content-type"] == "text/xml; charset=utf-8"
    if kind == "truncate":
        assert reply.content.startswith(BOM + HEAD.encode())
        with pytest.raises(ElementTree.ParseError):
            parse(reply.content)
    elif kind == "busy":
        assert parse(reply.content).tag == "ErrorResponse"
        assert error(parse(reply.content)) == ("E00053", "Server too busy")
    else:
        found = parse(reply.content).findtext("transactionResponse/transId")
        assert found == shop.truth()[0]["trans_id"]


def test_an_invalid_body_triggers_no_fault(shop: Merchant) -> None:
    shop.fault("error_after")
    assert refused(shop.process, "<a>")[0] == "E00003"
    assert refused(shop.process, alive(""), "text/csv")[0] == "E00002"


def test_characters_that_xml_cannot_represent_are_replaced(shop: Merchant) -> None:
    """A control character in a name must not make a sale's report invalid XML."""
    said = shop.charge(billTo={"firstName": "A\u0001B\ufffe\rC", "lastName": "]]>"})
    root = call(shop, "getTransactionDetailsRequest", transId=said["transId"])
    assert root.findtext("transaction/billTo/firstName") == "A\ufffdB\ufffd\rC"
    assert root.findtext("transaction/billTo/lastName") == "]]>"


def test_xml_amounts_keep_their_decimals_and_booleans_are_words(shop: Merchant) -> None:
    trans_id = shop.charge("5")["transId"]
    found = call(shop, "getTransactionDetailsRequest", transId=trans_id).find("transaction")
    assert found is not None
    texts = {child.tag: child.text for child in found}
    assert texts["settleAmount"] == texts["authAmount"] == texts["requestedAmount"] == "5.00"
    assert (texts["taxExempt"], texts["recurringBilling"]) == ("false", "false")
    assert "taxExemptSpecified" not in texts
    listed = call(shop, "getUnsettledTransactionListRequest")
    assert listed.findtext("transactions/transaction/settleAmount") == "5.00"
    assert listed.findtext("totalNumInResultSet") == "1"


@pytest.mark.parametrize(
    ("method", "payload", "root", "written"),
    [
        (
            "getCustomerProfileIdsRequest",
            {"ids": ["1", "2"]},
            "getCustomerProfileIdsResponse",
            "<ids><numericString>1</numericString><numericString>2</numericString></ids>",
        ),
        (
            # Its response has another name; the payload is in the schema's order.
            "createCustomerProfileFromTransactionRequest",
            {
                "validationDirectResponseList": ["1,1,1"],
                "customerShippingAddressIdList": [],
                "customerPaymentProfileIdList": ["5"],
                "customerProfileId": "4",
            },
            "createCustomerProfileResponse",
            "<customerProfileId>4</customerProfileId><customerPaymentProfileIdList><numericString>5"
            "</numericString></customerPaymentProfileIdList><customerShippingAddressIdList />"
            "<validationDirectResponseList><string>1,1,1</string></validationDirectResponseList>",
        ),
        (
            "getTransactionListForCustomerRequest",
            {
                "transactions": [{"transId": "1", "hasReturnedItems": False}],
                "totalNumInResultSet": 1,
            },
            "getTransactionListResponse",
            "<transactions><transaction><transId>1</transId><hasReturnedItems>false"
            "</hasReturnedItems></transaction></transactions>"
            "<totalNumInResultSet>1</totalNumInResultSet>",
        ),
        (
            # Repeatable elements without an enclosing one, and keys that only JSON has.
            "getCustomerProfileRequest",
            {
                "profile": {
                    "paymentProfiles": [
                        {"customerPaymentProfileId": "5", "customerTypeSpecified": True},
                        {"customerPaymentProfileId": "6", "billTo": None},
                    ]
                },
                "subscriptionIds": ["7"],
                "profileSpecified": True,
            },
            "getCustomerProfileResponse",
            "<profile><paymentProfiles><customerPaymentProfileId>5</customerPaymentProfileId>"
            "</paymentProfiles><paymentProfiles><customerPaymentProfileId>6"
            "</customerPaymentProfileId></paymentProfiles></profile>"
            "<subscriptionIds><subscriptionId>7</subscriptionId></subscriptionIds>",
        ),
    ],
)
def test_lists_are_written_according_to_their_types(
    method: str, payload: dict[str, Any], root: str, written: str
) -> None:
    """The schema alone decides how a handler's JSON structure is written in XML."""
    answer = xml_wire.render(RULES, method, Reply(payload), "r")
    assert parse(answer).tag == root
    text = answer.decode()
    assert text[text.index("</messages>") :] == f"</messages>{written}</{root}>"
