"""XML requests: what is accepted, and what is rejected with the original's texts."""

import time

import pytest

from simulator import xml_client
from simulator.merchant_client import BOM, WIRE, Merchant, Process
from simulator.xml_client import (
    HEAD,
    IN,
    NS,
    alive,
    call,
    document,
    parse,
    post,
    ref_id,
    refused,
    sale,
)


@pytest.mark.parametrize("kind", ["text/xml", "application/xml; charset=utf-8", "TEXT/XML", None])
def test_xml_is_known_by_content_type_or_first_character(shared: Process, kind: str | None) -> None:
    assert ref_id(shared, alive("<refId>r</refId>"), kind) == "r"
    assert ref_id(shared, BOM + alive("<refId>r</refId>").encode(), kind) == "r"


def test_a_reply_has_the_format_of_its_request(shared: Process) -> None:
    def json_code(body: bytes, kind: str | None) -> str:
        headers = {} if kind is None else {"content-type": kind}
        reply = shared.client.post(WIRE, content=body, headers=headers)
        assert reply.headers["content-type"] == "application/json; charset=utf-8"
        code: str = xml_client.read_json(reply.content)["messages"]["message"][0]["code"]
        return code

    for kind in ("application/json", "text/json", "text/xml", None):
        assert json_code(b'{"isAliveRequest":{}}', kind) == "I00001"
    assert ref_id(shared, alive("<refId>r</refId>"), "application/json") == "r"
    unsupported = ("E00002", "The content-type specified is not supported.")
    assert refused(shared, alive(""), "text/csv") == unsupported
    assert json_code(b'{"isAliveRequest":{}}', "text/csv") == "E00002"
    assert json_code(b"isAliveRequest=", None) == "E00002"
    assert json_code(b"", None) == "E00001"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("<refId>a&amp;b &lt; &#x41;</refId>", "a&b < A"),
        ("<refId><![CDATA[<a & b>]]></refId>", "<a & b>"),
        ("<refId>a<!-- not this -->b<?nor this?>c</refId>", "abc"),
        ('<refId kind="any" xmlns:x="y" x:a="b">r</refId>', "r"),
        ("\r\n  <refId> r </refId>\n", " r "),
        ("<refId/>", ""),
        ('<refId xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true"></refId>', ""),
    ],
)
def test_xml_text_is_decoded(shared: Process, written: str, text: str) -> None:
    assert ref_id(shared, alive(written)) == text


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "UTF-8"),
        ("utf-16", "utf-16"),
        ("utf-16", None),
        ("iso-8859-1", "iso-8859-1"),
        ("windows-1252", "windows-1252"),
    ],
)
def test_the_declared_encoding_is_used(
    shared: Process, encoding: str, declared: str | None
) -> None:
    head = "" if declared is None else f'<?xml version="1.0" encoding="{declared}"?>'
    body = (head + alive("<refId>Müßig</refId>")).encode(encoding)
    assert ref_id(shared, body, None if declared is None else "text/xml") == "Müßig"


def test_a_namespace_may_have_a_prefix(shared: Process) -> None:
    body = f'<a:isAliveRequest xmlns:a="{NS}"><a:refId>r</a:refId></a:isAliveRequest>'
    assert ref_id(shared, body) == "r"


def test_an_empty_element_may_contain_white_space(shop: Merchant) -> None:
    """Clients that indent their documents send this."""
    answer = call(
        shop, "createTransactionRequest", transactionRequest=sale(order="\n   ", billTo="")
    )
    assert answer.findtext("transactionResponse/responseCode") == "1"


def test_elements_out_of_order_get_the_texts_of_the_original(shop: Merchant) -> None:
    key = f"<name>{shop.login}</name><transactionKey>key-of-the-shop</transactionKey>"

    def details(inner: str) -> str:
        body = (
            f'<getTransactionDetailsRequest xmlns="{NS}"><merchantAuthentication>{key}'
            f"</merchantAuthentication>{inner}</getTransactionDetailsRequest>"
        )
        code, text = refused(shop.process, body)
        assert code == "E00003"
        return text

    request = f"The element 'getTransactionDetailsRequest'{IN}"

    def expected(names: str) -> str:
        return f" List of possible elements expected: '{names}'{IN}."

    # A repetition after other elements must not be merged with the first.
    assert details("<refId>1</refId><transId>1</transId><refId>1</refId>") == (
        f"{request} has invalid child element 'refId'{IN}."
    )
    assert details("<clientId>c</clientId><refId>1</refId><clientId>d</clientId>") == (
        f"{request} has invalid child element 'clientId'{IN}.{expected('transId')}"
    )
    assert details("<refId>1</refId><refId>2</refId><transId>1</transId>") == (
        f"{request} has invalid child element 'refId'{IN}.{expected('transId')}"
    )
    assert details("<transId>1</transId><transId>2</transId>") == (
        f"{request} has invalid child element 'transId'{IN}."
    )
    # A mistake in the first is reported before the second.
    assert details("<transId>one</transId><transId>2</transId>").startswith(
        f"The '{NS}:transId' element is invalid"
    )
    assert details("") == f"{request} has incomplete content.{expected('clientId, refId, transId')}"
    assert details('<transId xmlns="">1</transId>') == (
        f"{request} has invalid child element 'transId'.{expected('clientId, refId, transId')}"
    )
    assert details('<transId xmlns="urn:x">1</transId>') == (
        f"{request} has invalid child element 'transId' in namespace 'urn:x'."
        f"{expected('clientId, refId, transId')}"
    )
    assert details("<refId>1</refId>and<transId>1</transId>") == (
        f"{request} cannot contain text.{expected('transId')}"
    )
    assert details("<transId>1<b/></transId>") == (
        f"The element 'transId'{IN} cannot contain child element 'b'{IN} because the parent"
        " element's content model is text only."
    )
    assert details("<transId>one</transId>") == (
        f"The '{NS}:transId' element is invalid - The value &#39;one&#39; is invalid according to"
        f" its datatype '{NS}:numericString' - The Pattern constraint failed."
    )


def test_separated_repetitions_are_not_merged(shop: Merchant) -> None:
    item = "<lineItem><itemId>1</itemId><name>hat</name><quantity>1</quantity>" + (
        "<unitPrice>1</unitPrice></lineItem>"
    )
    whole = document(
        "createTransactionRequest",
        {"merchantAuthentication": shop.credentials, "transactionRequest": sale(order="@")},
    )
    for inner, wrong in [
        (f"{item}<itemId>1</itemId>{item}", "itemId"),
        (f"{item}{item}<order/>", "order"),
    ]:
        body = whole.replace("<order>@</order>", f"<lineItems>{inner}</lineItems>")
        code, text = refused(shop.process, body)
        assert code == "E00003"
        assert text == (
            f"The element 'lineItems'{IN} has invalid child element '{wrong}'{IN}."
            f" List of possible elements expected: 'lineItem'{IN}."
        )
    assert shop.truth() == []
    answer = parse(
        post(shop.process, whole.replace("<order>@</order>", f"<lineItems>{item * 3}</lineItems>"))
    )
    trans_id = answer.findtext("transactionResponse/transId", "")
    assert len(shop.details(trans_id)["lineItems"]) == 3


LAUGHS = (
    '<!DOCTYPE a [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    + "]>"
)
DTD = "For security reasons DTD is prohibited in this XML document."


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ("", "E00003", "Root element is missing."),
        (HEAD, "E00003", "Root element is missing."),
        ("isAlive", "E00003", "Data at the root level is invalid. Line 1, position 1."),
        ("<a><b>c", "E00003", "Unexpected end of file has occurred. The following elements are not"
         " closed: b, a. Line 1, position 8."),
        ("<a>\n<b></a>", "E00003", "An error occurred while parsing the XML request. Line 2,"),
        (alive("<refId>A & B</refId>"), "E00003", "An error occurred while parsing EntityName."),
        (alive("<refId>&nbsp;</refId>"), "E00003", "An error occurred while parsing the XML req"),
        (alive("<refId>a\0</refId>"), "E00003", "An error occurred while parsing the XML request."),
        (alive("<refId>&#0;</refId>"), "E00003", "An error occurred while parsing the XML request"),
        (alive("") * 2, "E00003", "An error occurred while parsing the XML request."),
        (b"<?xml version='1.0' encoding='utf-8'?><a>\xff</a>", "E00003", "An error occurred"),
        (b"\xff\xfe<\0a\0", "E00003", ""),
        ("<?xml version='1.0' encoding='utf-16'?>" + alive(""), "E00003", "There is no Unicode"),
        ("<?xml version='1.0' encoding='klingon'?>" + alive(""), "E00003", "An error occurred"),
        ("<?xml version='1.0' encoding='utf-7'?>" + alive("+AGE-"), "E00003", ""),
        ("<?xml version='1.0' encoding='shift_jis'?>" + alive(""), "E00003", ""),
        (LAUGHS + alive("<refId>&a11;</refId>"), "E00003", DTD),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + alive("<refId>&b;</refId>"),
         "E00003", DTD),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd">' + alive(""), "E00003", DTD),
        ("<a>" * 1_000_000, "E00003", "An error occurred while parsing the XML request."),
        ("<a>" * 60_000 + "</a>" * 60_000, "E00003", "An error occurred while parsing"),
        (alive("<refId/>" * 400_000), "E00003", "An error occurred while parsing"),
        (alive(f"<refId>{'x' * 4_000_000}</refId>"), "E00003", f"The '{NS}:refId' element is i"),
        (" " * 5_000_000 + alive(""), "E00003", "Root element is missing."),
        (alive("".join(f'<r{n} a="{n}"/>' for n in range(10_000))), "E00003", "The element 'isAl"),
        (f'<isAliveRequest {" ".join(f"a{n}={chr(34) * 2}" for n in range(100_000))}/>', "E00045",
         "The root node"),
        ('<isAliveRequest xmlns="HTTP://AnetApi/xml/v1/schema/AnetApiSchema.xsd"/>', "E00045",
         "The root node"),
    ],
    ids=lambda value: repr(value)[:24],
)  # fmt: skip
def test_an_invalid_xml_request_is_rejected(
    shared: Process, body: str | bytes, code: str, text: str
) -> None:
    begun = time.monotonic()
    found = refused(shared, body)
    assert time.monotonic() - begun < 2
    assert found[0] == code
    assert found[1].startswith(text)
    assert ref_id(shared, alive("<refId>still here</refId>")) == "still here"
