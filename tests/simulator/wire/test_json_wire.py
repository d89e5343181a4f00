"""JSON requests and replies: byte order mark, order, facets, texts, the order of keys."""

import hashlib
import hmac
import json
import socket
from typing import Any

import pytest

from simulator.customers import code
from simulator.merchant_client import BOM, VISA, WIRE, Merchant, Process, card

NS = "AnetApi/xml/v1/schema/AnetApiSchema.xsd"
UNREADABLE = (
    b'\xef\xbb\xbf{"messages":{"resultCode":"Error","message":[{"code":"E00001","text":'
    b"\"Error reading JToken from JsonReader. Path '', line 0, position 0.\"}]}}"
)


def error(answer: dict[str, Any]) -> tuple[str, str]:
    assert answer["messages"]["resultCode"] == "Error"
    (message,) = answer["messages"]["message"]
    return message["code"], message["text"]


def raw(process: Process, body: bytes, kind: str | None = "application/json") -> bytes:
    headers = {} if kind is None else {"content-type": kind}
    reply = process.client.post(WIRE, content=body, headers=headers)
    assert reply.status_code == 200
    return reply.content


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"a":{},"b":{}}', b"\xff\xfe"])
def test_an_invalid_json_request_is_e00001(shared: Process, body: bytes) -> None:
    assert raw(shared, body) == UNREADABLE


def test_a_get_is_treated_as_an_empty_body(shared: Process) -> None:
    reply = shared.client.get(WIRE)
    assert (reply.status_code, reply.content) == (200, UNREADABLE)


@pytest.mark.parametrize("kind", ["application/json", "text/json; charset=utf-8", None])
def test_json_is_known_by_content_type_or_first_character(
    shared: Process, kind: str | None
) -> None:
    answer = raw(shared, b'\xef\xbb\xbf{"isAliveRequest":{}}', kind)
    assert answer == (
        BOM + b'{"messages":{"resultCode":"Ok","message":[{"code":"I00001","text":"Successful."}]}}'
    )


def test_another_content_type_is_e00002(shared: Process) -> None:
    answer = json.loads(raw(shared, b'{"isAliveRequest":{}}', "text/csv").decode("utf-8-sig"))
    assert error(answer) == ("E00002", "The content-type specified is not supported.")


def test_replies_have_the_original_headers(shared: Process) -> None:
    headers = shared.client.post(WIRE, json={"isAliveRequest": {}}).headers
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["cache-control"] == "private"
    assert headers["access-control-allow-origin"] == "*"
    assert "server" not in headers
    assert "date" not in headers


def test_an_unknown_method_is_e00004(shop: Merchant) -> None:
    assert error(shop.call("chargeRequest")) == (
        "E00004",
        "The name of the requested API method is invalid.",
    )


def test_an_element_out_of_order_is_e00003(shop: Merchant) -> None:
    answer = shop.call(
        "createTransactionRequest",
        refId="not echoed",
        transactionRequest={
            "transactionType": "authCaptureTransaction",
            "customerIP": "192.0.2.1",
            "order": {},
        },
    )
    possible = (
        "cardholderAuthentication, retail, employeeId, transactionSettings, userFields, surcharge,"
        " merchantDescriptor, subMerchant, tip, processingOptions, subsequentAuthInformation,"
        " otherTax, shipFrom, authorizationIndicatorType"
    )
    assert list(answer) == ["messages"]
    assert error(answer) == (
        "E00003",
        f"The element 'transactionRequest' in namespace '{NS}' has invalid child element 'order'"
        f" in namespace '{NS}'. List of possible elements expected: '{possible}' in namespace"
        f" '{NS}'.",
    )
    assert shop.truth() == []


def test_the_credentials_must_come_first(shared: Process) -> None:
    body = {"getTransactionDetailsRequest": {"transId": "1"}}
    answer = json.loads(shared.client.post(WIRE, json=body).content.decode("utf-8-sig"))
    assert error(answer) == (
        "E00003",
        f"The element 'getTransactionDetailsRequest' in namespace '{NS}' has invalid child element"
        f" 'transId' in namespace '{NS}'. List of possible elements expected:"
        f" 'merchantAuthentication' in namespace '{NS}'.",
    )


def test_order_and_choice_are_checked_at_every_level(shop: Merchant) -> None:
    turned = {"expirationDate": "2040-12", "cardNumber": VISA}
    answer = shop.transaction(transactionType="x", payment={"creditCard": turned})
    assert "'creditCard'" in error(answer)[1]
    assert "List of possible elements expected: 'cardNumber'" in error(answer)[1]
    both = {**card(), "opaqueData": {"dataDescriptor": "a", "dataValue": "b"}}
    answer = shop.transaction(transactionType="x", payment=both)
    assert "invalid child element 'opaqueData'" in error(answer)[1]
    assert "List of possible elements expected: 'dataSource'" in error(answer)[1]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (  # an element is missing
            {},
            f"The element 'getTransactionDetailsRequest' in namespace '{NS}' has incomplete"
            " content. List of possible elements expected: 'clientId, refId, transId' in namespace"
            f" '{NS}'.",
        ),
        (  # after the last element no other is expected
            {"transId": "1", "refId": "late"},
            f"The element 'getTransactionDetailsRequest' in namespace '{NS}' has invalid child"
            f" element 'refId' in namespace '{NS}'.",
        ),
        (
            {"refId": "123456789012345678901", "transId": "1"},
            f"The '{NS}:refId' element is invalid - The value &#39;123456789012345678901&#39; is"
            " invalid according to its datatype 'String' - The actual length is greater than the"
            " MaxLength value.",
        ),
        (
            {"transId": "op_1"},
            f"The '{NS}:transId' element is invalid - The value &#39;op_1&#39; is invalid according"
            f" to its datatype '{NS}:numericString' - The Pattern constraint failed.",
        ),
    ],
)
def test_each_mistake_has_its_text(shop: Merchant, fields: dict[str, str], text: str) -> None:
    assert error(shop.call("getTransactionDetailsRequest", **fields)) == ("E00003", text)


@pytest.mark.parametrize(
    ("card", "text"),
    [
        (
            {"cardNumber": VISA, "expirationDate": "2040-12", "cardCode": "12345"},
            f"The '{NS}:cardCode' element is invalid - The value XXXXXXX is invalid according to"
            f" its datatype '{NS}:cardCode' - The actual length is greater than the MaxLength"
            " value.",
        ),
        (
            {"cardNumber": VISA, "expirationDate": "2040-12", "cardCode": "12"},
            f"The '{NS}:cardCode' element is invalid - The value XXXX is invalid according to its"
            f" datatype '{NS}:cardCode' - The actual length is less than the MinLength value.",
        ),
        (
            {"cardNumber": "41111111111111111", "expirationDate": "2040-12"},
            f"The '{NS}:cardNumber' element is invalid - The value XXXXXXXXXXXXXXXXXXX is invalid"
            " according to its datatype 'String' - The actual length is greater than the MaxLength"
            " value.",
        ),
    ],
)
def test_the_error_text_of_a_secret_masks_it(
    shop: Merchant, card: dict[str, str], text: str
) -> None:
    answer = shop.transaction(
        transactionType="authCaptureTransaction", amount="1.00", payment={"creditCard": card}
    )
    assert error(answer) == ("E00003", text)


def test_types_and_bounds_are_checked(shop: Merchant) -> None:
    for paging, fragment in [
        ({"limit": 1001, "offset": 1}, "'Int' - The MaxInclusive constraint failed."),
        ({"limit": 0, "offset": 1}, "'Int' - The MinInclusive constraint failed."),
        ({"limit": 1, "offset": 0}, "'Int' - The MinInclusive constraint failed."),
        ({"limit": 1, "offset": 100_001}, "'Int' - The MaxInclusive constraint failed."),
        ({"limit": "ten", "offset": 1}, "The string &#39;ten&#39; is not a valid Int32 value."),
    ]:
        answer = shop.call("getUnsettledTransactionListRequest", paging=paging)
        assert error(answer)[0] == "E00003"
        assert fragment in error(answer)[1]
    answer = shop.call("getUnsettledTransactionListRequest", status="held")
    assert error(answer)[1].endswith(
        f"'{NS}:TransactionGroupStatusEnum' - The Enumeration constraint failed."
    )


def test_wrong_credentials_are_rejected(shop: Merchant) -> None:
    def try_with(**credentials: str) -> str:
        return code(shop.call("authenticateTestRequest", merchantAuthentication=credentials))

    assert try_with(**shop.credentials) == "I00001"
    assert try_with(name="easypay-sim", transactionKey="sim-secret-key-1") == "I00001"
    assert try_with(name=shop.login, transactionKey="wrong") == "E00007"
    assert try_with(name="nobody", transactionKey="wrong") == "E00007"
    assert try_with(name=shop.login) == "E00005"
    assert try_with(transactionKey="wrong") == "E00006"
    # If the two are swapped, their lengths fail first.
    assert try_with(name="key", transactionKey="a-login-id-too-long") == "E00003"


def test_an_approval_has_the_originals_bytes(shop: Merchant) -> None:
    reply = shop.post(
        "createTransactionRequest",
        refId="my reference",
        transactionRequest={
            "transactionType": "authCaptureTransaction",
            "amount": 12.50,
            "payment": {
                "creditCard": {"cardNumber": VISA, "expirationDate": "2040-12", "cardCode": "900"}
            },
            "userFields": {"userField": [{"name": "colour", "value": "blue"}]},
        },
    )
    answer = json.loads(reply.content.decode("utf-8-sig"))
    response = answer["transactionResponse"]
    assert response["transId"].isdigit()
    assert len(response["authCode"]) == 6
    assert list(answer) == ["transactionResponse", "refId", "messages"]
    assert reply.content.decode("utf-8-sig") == (
        '{"transactionResponse":{"responseCode":"1","authCode":"' + response["authCode"] + '",'
        '"avsResultCode":"Y","cvvResultCode":"M","cavvResultCode":"2","transId":"'
        + response["transId"]
        + '","refTransID":"","transHash":"","testRequest":"0","accountNumber":"XXXX1111",'
        '"accountType":"Visa","messages":[{"code":"1","description":"This transaction has been'
        ' approved."}],"userFields":[{"name":"colour","value":"blue"}],"transHashSha2":"",'
        '"SupplementalDataQualificationIndicator":0,"networkTransId":"'
        + response["networkTransId"]
        + '"},"refId":"my reference","messages":{"resultCode":"Ok","message":[{"code":"I00001",'
        '"text":"Successful."}]}}'
    )


def test_a_list_may_be_sent_as_one_object(shop: Merchant) -> None:
    item = {"itemId": "1", "name": "hat", "quantity": "1", "unitPrice": "10.00"}
    for line_item in (item, [item], [item, item]):
        answer = shop.transaction(
            transactionType="authOnlyTransaction",
            amount="10.00",
            payment=card(),
            order={"invoiceNumber": f"items-{len(shop.truth())}"},
            lineItems={"lineItem": line_item},
        )
        trans_id = answer["transactionResponse"]["transId"]
        listed = shop.details(trans_id)["lineItems"]
        assert [each["name"] for each in listed] == ["hat"] * len(listed)
        assert len(listed) == (len(line_item) if isinstance(line_item, list) else 1)


@pytest.mark.parametrize("depth", [2, 900, 100_000])
def test_deeply_nested_lists_cause_no_server_error(shared: Process, depth: int) -> None:
    answer = raw(shared, b'{"isAliveRequest":{"refId":' + b"[" * depth + b"]" * depth + b"}}")
    assert code(json.loads(answer.decode("utf-8-sig"))) == ("E00001" if depth > 1000 else "I00001")


def exchange(process: Process, sent: bytes) -> bytes:
    """Send on one connection; return everything received until the server closes it."""
    host, port = process.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


def test_pipelined_and_chunked_requests_are_answered_in_order(shared: Process) -> None:
    head = b"POST /xml/v1/request.api HTTP/1.1\r\nhost: x\r\n"
    alive, broken = b'{"isAliveRequest":{"refId":"%d"}}', b"{"
    received = exchange(
        shared,
        head
        + b"content-length: 32\r\n\r\n"
        + alive % 1
        # Not the API's path, so another code path answers; the order must still hold.
        + b"GET /simulator/livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
        + head
        + b"transfer-encoding: chunked\r\n\r\n"
        + b"10\r\n"
        + (alive % 2)[:16]
        + b"\r\n10\r\n"
        + (alive % 2)[16:]
        + b"\r\n0\r\n\r\n"
        + head
        + b"connection: close\r\ncontent-length: 1\r\n\r\n"
        + broken,
    )
    first, status, second, third = (
        received.index(part)
        for part in (b'"refId":"1"', b'"status":"ok"', b'"refId":"2"', b"E00001")
    )
    assert first < status < second < third
    assert received.count(b"HTTP/1.1 200 OK") == 4
    assert received.count(b"connection: close") == 1


def test_the_transaction_hash_is_signed(shared: Process) -> None:
    shop = shared.merchant(signature_key="00ff" * 32)
    response = shop.charge("10.00")
    message = f"^{shop.login}^{response['transId']}^10.00^".encode()
    expected = hmac.new(bytes.fromhex("00ff" * 32), message, hashlib.sha512).hexdigest().upper()
    assert response["transHashSha2"] == expected
