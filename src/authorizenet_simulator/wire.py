"""The wire in JSON: from a request's bytes to the method that answers, and back to bytes."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from authorizenet_simulator import (
    accept,
    followups,
    profiles_api,
    reporting,
    schema,
    transactions,
)
from authorizenet_simulator.answers import ApiError, Reply
from authorizenet_simulator.codes import MESSAGES
from authorizenet_simulator.ledger import Account, Ledger

Tree = dict[str, Any]
BOM: Final = b"\xef\xbb\xbf"
_UNREADABLE: Final = "Error reading JToken from JsonReader. Path '', line 0, position 0."

# A JSON number becomes the text that was sent, as it would in XML.
_decode = msgspec.json.Decoder(float_hook=str).decode
_encode = msgspec.json.Encoder().encode


class Call:
    """A request that could be read: the method it names and its body, not checked yet."""

    __slots__ = ("body", "method")

    def __init__(self, method: str, body: Tree) -> None:
        self.method = method
        self.body = body

    @property
    def transaction_type(self) -> str | None:
        inner = self.body.get("transactionRequest")
        found = inner.get("transactionType") if isinstance(inner, dict) else None
        return found if isinstance(found, str) else None

    @property
    def login(self) -> str | None:
        inner = self.body.get("merchantAuthentication")
        found = inner.get("name") if isinstance(inner, dict) else None
        return found if isinstance(found, str) else None


def read(data: bytes) -> Call:
    """Raises ApiError E00001 for what is no JSON object with one method in it."""
    try:
        tree = _decode(data[3:] if data.startswith(BOM) else data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApiError("E00001", _UNREADABLE) from None
    if type(tree) is not dict or len(tree) != 1:
        raise ApiError("E00001", _UNREADABLE)
    ((method, body),) = tree.items()
    if type(body) is not dict:
        body = {}
    return Call(method, body)


def answer(ledger: Ledger, rules: schema.Schema, call: Call) -> bytes:
    """Do what the request asks; the reply's bytes. Everything it changed is in the journal."""
    now = ledger.tick()
    body = call.body
    handler = METHODS.get(call.method)
    try:
        if call.method == "isAliveRequest":
            rules.check(call.method, body)
            return render(Reply({}), body.get("refId"))
        if handler is None:
            if call.method not in rules.requests:
                raise ApiError("E00004")
            rules.check(call.method, body)
            _authenticate(ledger, call)
            raise ApiError("E00001")  # a method that this simulator does not know yet
        rules.check(call.method, body)
        reply = handler(ledger, _authenticate(ledger, call), body, now)
        return render(reply, body.get("refId"))
    except schema.SchemaError as error:  # refId is not echoed: the request was never read
        return refusal("E00003", str(error))
    except ApiError as error:
        ref_id = body.get("refId")
        return refusal(error.code, error.text, ref_id if isinstance(ref_id, str) else None)
    finally:
        ledger.journal.flush()


def render(reply: Reply, ref_id: str | None) -> bytes:
    """Payload, then refId, then messages; a BOM in front."""
    whole = reply.payload
    if ref_id is not None:
        whole["refId"] = ref_id
    whole["messages"] = {
        "resultCode": reply.result,
        "message": [{"code": reply.code, "text": reply.text}],
    }
    return BOM + _encode(whole)


def refusal(code: str, text: str | None = None, ref_id: str | None = None) -> bytes:
    """An API error without a payload."""
    return render(Reply({}, "Error", code, MESSAGES[code] if text is None else text), ref_id)


UNREADABLE: Final = refusal("E00001", _UNREADABLE)


def _authenticate(ledger: Ledger, call: Call) -> Account:
    """Whose credentials these are. Raises ApiError E00005, E00006, E00007."""
    said: Tree = call.body["merchantAuthentication"]
    name = said.get("name")
    if name is None:
        raise ApiError("E00006")
    account = ledger.accounts.get(name)
    if call.method == "securePaymentContainerRequest" and (key := said.get("clientKey")):
        expected = "" if account is None else reporting.client_key(account)
    else:
        key = said.get("transactionKey")
        if key is None:
            raise ApiError("E00005" if len(said) == 1 else "E00007")
        expected = "" if account is None else account.transaction_key
    if account is None or key != expected:
        raise ApiError("E00007")
    return account


def _nothing(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    return Reply({})


METHODS: Final[dict[str, Callable[[Ledger, Account, Tree, int], Reply]]] = {
    "createTransactionRequest": transactions.create,
    "updateHeldTransactionRequest": followups.review,
    "getTransactionDetailsRequest": reporting.transaction_details,
    "getUnsettledTransactionListRequest": reporting.unsettled,
    "getSettledBatchListRequest": reporting.settled_batches,
    "getTransactionListRequest": reporting.batch_transactions,
    "getBatchStatisticsRequest": reporting.batch_statistics,
    "getMerchantDetailsRequest": reporting.merchant_details,
    "securePaymentContainerRequest": accept.mint,
    "authenticateTestRequest": _nothing,
} | profiles_api.METHODS
