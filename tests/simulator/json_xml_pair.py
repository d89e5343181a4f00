"""Two merchants that send the same requests, one in JSON and one in XML, and compare replies."""

import json
import re
from typing import Any

from simulator import xml_client
from simulator.merchant_client import WIRE, Process
from simulator.schema_source import response_of

# Facts that differ between two replies to the same request.
VOLATILE = {
    *("transId", "refTransId", "refTransID", "authCode", "networkTransId", "batchId"),
    *("submitTimeUTC", "submitTimeLocal", "settlementTimeUTC", "settlementTimeLocal"),
    *("sessionToken", "dataValue", "merchantName", "publicClientKey", "gatewayId"),
    *("customerProfileId", "customerPaymentProfileId", "customerAddressId"),
    *("customerPaymentProfileIdList", "customerShippingAddressIdList", "ids"),
    *("directResponse", "validationDirectResponse", "validationDirectResponseList"),
    *("transHashSha2", "subscriptionId", "token"),
}


def steady(facts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, "*" if name in VOLATILE and text else text) for name, text in facts]


class Twins:
    """`@name` in a request is replaced by the value that `remember` kept under that name."""

    def __init__(self, process: Process, **account: Any) -> None:
        self._process = process
        self.json = process.merchant(**account)
        self.xml = process.merchant(**account)
        self._kept: dict[str, tuple[str, str]] = {}

    def call(self, method: str, remember: dict[str, str] | None = None, /, **body: Any) -> str:
        """Send the request in both formats, compare the replies and return their code. `remember`
        maps names to the facts of the replies to keep."""
        answers = xml_client.facts_of_json(self._in_json(method, body)), self._in_xml(method, body)
        differ = [set(steady(a)) - set(steady(b)) for a, b in (answers, answers[::-1])]
        assert steady(answers[0]) == steady(answers[1]), differ
        first, second = dict(answers[0]), dict(answers[1])
        for name, fact in (remember or {}).items():
            assert fact in first, first
            self._kept[name] = first[fact], second[fact]
        return first["code"]

    def done(self, method: str, remember: dict[str, str] | None = None, /, **body: Any) -> None:
        """The same, for a request that must succeed."""
        assert self.call(method, remember, **body) == "I00001"

    def transact(self, remember: str | None = None, ref_id: str = "r-1", /, **request: Any) -> str:
        """Send a createTransactionRequest; keep its transId under `remember`."""
        kept = {} if remember is None else {remember: "transId"}
        return self.call("createTransactionRequest", kept, refId=ref_id, transactionRequest=request)

    def _in_json(self, method: str, body: dict[str, Any]) -> Any:
        whole = {"merchantAuthentication": self.json.credentials, **self._filled(body, 0)}
        return xml_client.read_json(self._process.client.post(WIRE, json={method: whole}).content)

    def _in_xml(self, method: str, body: dict[str, Any]) -> list[tuple[str, str]]:
        whole = {"merchantAuthentication": self.xml.credentials, **self._filled(body, 1)}
        root = xml_client.parse(xml_client.post(self._process, xml_client.document(method, whole)))
        assert root.tag == response_of(method), xml_client.error(root)
        return xml_client.facts_of_xml(root)

    def _filled(self, body: dict[str, Any], index: int) -> dict[str, Any]:
        def own(found: re.Match[str]) -> str:
            return f'"{self._kept[found[1]][index]}"'

        filled: dict[str, Any] = json.loads(re.sub(r'"@(\w+)"', own, json.dumps(body)))
        return filled
