"""Builds the reply of getTransactionDetails from the sent fields and the current state."""

from typing import Final

import msgspec

from authorizenet_simulator.state import clock, statuses
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.payment_methods import PAYPAL
from authorizenet_simulator.state.statuses import CLOSED
from authorizenet_simulator.state.transactions import Batch, Txn
from authorizenet_simulator.transactions.charge_checks import MARKETS
from authorizenet_simulator.transactions.transaction_request import CAPTURE_ONLY, REFUND, YES
from authorizenet_simulator.wire import amounts, replies
from authorizenet_simulator.wire.codes import REASONS
from authorizenet_simulator.wire.replies import Tree

PRODUCT: Final = "Card Not Present"
MARKET: Final = "eCommerce"


def told_of(ledger: Ledger, txn: Txn, sent: Tree) -> Tree:
    """Build a transactionDetailsType from the transaction and the fields that were sent."""
    auth_code, network = replies.bank_codes(txn)
    later: Tree = sent.get("subsequentAuthInformation") or {}
    retail: Tree = sent.get("retail") or {}
    how: Tree = sent.get("how") or {}
    market, product = market_of(sent)
    filtered = FILTER_ACTIONS.get(txn.reason)
    fields: Tree = {
        "transId": str(txn.trans_id),
        "refTransId": str(txn.ref) if txn.ref else None,
        # A refund belongs to no group, even if one was sent.
        "splitTenderId": None if txn.type == REFUND else sent.get("splitTenderId"),
        "submitTimeUTC": clock.utc_text(txn.at),
        "submitTimeLocal": clock.local_text(txn.at),
        "transactionType": _type(txn),
        "transactionStatus": txn.status,
        "responseCode": txn.response_code,
        "responseReasonCode": txn.reason,
        "subscription": sent.get("subscription"),
        "responseReasonDescription": "Approval" if txn.reason == 1 else REASONS[txn.reason][1],
        "authCode": sent.get("authCode", "") if txn.type == CAPTURE_ONLY else auth_code,
        "AVSResponse": txn.avs,
        "cardCodeResponse": txn.cvv or None,
        "CAVVResponse": _cavv(txn, sent),
        "FDSFilterAction": filtered,
        "FDSFilters": filtered and [{"name": "Amount Filter", "action": filtered}],
        "batch": _batch_of(ledger, txn),
        "order": _order(sent),
        "requestedAmount": amounts.as_number(
            sent.get("requestedAmount") or amounts.text(txn.amount)
        ),
        "authAmount": amounts.number(txn.amount),
        "settleAmount": amounts.number(settle_amount(txn)),
        "tax": _charge(sent.get("tax")),
        "shipping": _charge(sent.get("shipping")),
        "duty": _charge(sent.get("duty")),
        "lineItems": _line_items(sent),
        "prepaidBalanceRemaining": _optional(sent.get("prepaidBalanceRemaining")),
        "taxExempt": sent.get("taxExempt") in YES,
        "taxExemptSpecified": True,
        "payment": _payment(txn, sent),
        "customer": sent.get("customer"),
        "billTo": sent.get("billTo"),
        "shipTo": sent.get("shipTo"),
        "recurringBilling": "subscription" in sent or "recurringBilling" in sent,
        "customerIP": sent.get("customerIP"),
        "product": product,
        "entryMode": how.get("entryMode"),
        "marketType": market,
        "customerSignature": retail.get("customerSignature"),
        "returnedItems": _returned_items(ledger, txn),
        "solution": sent.get("solution"),
        "profile": sent.get("profile"),
        "surcharge": _charge(sent.get("surcharge")),
        "employeeId": sent.get("employeeId"),
        "tip": _charge(sent.get("tip")),
        "otherTax": _other_tax(sent.get("otherTax")),
        "shipFrom": sent.get("shipFrom"),
        "networkTransId": network or None,
        "originalNetworkTransId": later.get("originalNetworkTransId"),
        "originalAuthAmount": _optional(later.get("originalAuthAmount")),
        "authorizationIndicator": (sent.get("authorizationIndicatorType") or {}).get(
            "authorizationIndicator"
        ),
    }
    return {name: value for name, value in fields.items() if value is not None}


FILTER_ACTIONS: Final = {251: "decline", 252: "hold", 253: "authAndHold"}
_NOTHING_SETTLES: Final = CLOSED | {statuses.SETTLEMENT_ERROR}


def market_of(sent: Tree) -> tuple[str, str]:
    """Return market type and product; a swiped card was present."""
    kind = (sent.get("retail") or {}).get("marketType")
    swiped = (sent.get("how") or {}).get("entryMode") == "Swiped"
    market = MARKETS.get(kind, MARKET) if kind is not None else "Retail" if swiped else None
    return market or MARKET, "Card Present" if market == "Retail" else PRODUCT


def _type(txn: Txn) -> str:
    """Return the reported type; a captured authorization is reported as its capture."""
    if txn.type == "authOnlyTransaction" and txn.captured:
        return "priorAuthCaptureTransaction"
    return txn.type


def settle_amount(txn: Txn) -> int:
    return 0 if txn.status in _NOTHING_SETTLES else txn.captured or txn.amount


def _cavv(txn: Txn, sent: Tree) -> str | None:
    if txn.response_code != 1 or txn.type == REFUND:
        return None
    return replies.cavv(txn.brand, sent.get("eci")) or None


def _batch_of(ledger: Ledger, txn: Txn) -> Tree | None:
    return shown_batch(ledger.batches[txn.batch]) if txn.batch else None


def shown_batch(batch: Batch) -> Tree:
    """Return a batch's id, time and state; it failed if all its transactions failed."""
    failed = all(txn.status == statuses.SETTLEMENT_ERROR for txn in batch.txns)
    return {
        "batchId": str(batch.batch_id),
        "settlementTimeUTC": clock.utc_text(batch.at),
        "settlementTimeUTCSpecified": True,
        "settlementTimeLocal": clock.local_text(batch.at),
        "settlementTimeLocalSpecified": True,
        "settlementState": statuses.SETTLEMENT_ERROR if failed else statuses.SETTLED,
    }


def _order(sent: Tree) -> Tree | None:
    order: Tree | None = sent.get("order")
    purchase = sent.get("poNumber")
    if order is None and purchase is None:
        return None
    order = order or {}
    fields: Tree = {}
    for name in ("invoiceNumber", "description"):
        if name in order:
            fields[name] = order[name]
    fields["discountAmount"] = amounts.as_number(order.get("discountAmount", "0.00"))
    fields["taxIsAfterDiscount"] = order.get("taxIsAfterDiscount") in YES
    fields |= {name: value for name, value in order.items() if name not in fields}
    return fields if purchase is None else fields | {"purchaseOrderNumber": purchase}


def _optional(text: str | None) -> msgspec.Raw | None:
    return None if text is None else amounts.as_number(text)


def _charge(part: Tree | None) -> Tree | None:
    return None if part is None else {**part, "amount": amounts.as_number(part["amount"])}


def _other_tax(part: Tree | None) -> Tree | None:
    if part is None:
        return None
    return {
        key: each if key == "alternateTaxId" else amounts.as_number(each)
        for key, each in part.items()
    }


_FLAGS: Final = frozenset({"taxable", "taxIncludedInTotal", "taxIsAfterDiscount"})
_NUMBERS: Final = frozenset(
    {
        "quantity",
        "unitPrice",
        "taxRate",
        "taxAmount",
        "nationalTax",
        "localTax",
        "vatRate",
        "alternateTaxRate",
        "alternateTaxAmount",
        "totalAmount",
        "discountRate",
        "discountAmount",
    }
)
_BEFORE_TAXABLE: Final = ("itemId", "name", "description", "quantity", "unitPrice")


def _line_items(sent: Tree) -> list[Tree] | None:
    items: Tree | None = sent.get("lineItems")
    return None if items is None else [_line_item(item) for item in items.get("lineItem", ())]


def _line_item(item: Tree) -> Tree:
    fields: Tree = {name: item[name] for name in _BEFORE_TAXABLE if name in item}
    fields["taxable"] = False  # always present; a sent value replaces it in place
    fields |= item
    for name in fields:
        if name in _NUMBERS:
            fields[name] = amounts.as_number(fields[name])
        elif name in _FLAGS:
            fields[name] = fields[name] in YES
    return fields


def _payment(txn: Txn, sent: Tree) -> Tree:
    if txn.brand == "eCheck":
        bank: Tree = sent.get("bank") or (sent.get("how") or {}).get("bank") or {}
        fields = {
            "accountType": bank.get("accountType"),
            "routingNumber": bank.get("routingNumber", "XXXX"),
            "accountNumber": txn.masked,
            "nameOnAccount": bank.get("nameOnAccount"),
            "echeckType": bank.get("echeckType"),
            "bankName": bank.get("bankName"),
        }
        return {"bankAccount": {name: each for name, each in fields.items() if each is not None}}
    if txn.brand == PAYPAL:
        return {
            "tokenInformation": {
                "tokenSource": PAYPAL,
                "tokenNumber": str(txn.trans_id),
                "expirationDate": "XXXX",
            }
        }
    card: Tree = {"cardNumber": txn.masked, "expirationDate": "XXXX", "cardType": txn.brand}
    if "isPaymentToken" in (sent.get("how") or {}):
        card["isPaymentToken"] = True
    return {"creditCard": card}


def _returned_items(ledger: Ledger, txn: Txn) -> list[Tree] | None:
    items = ledger.returns.items.get(txn.trans_id)
    if items is None:
        return None
    return [
        {
            "id": str(item.item_id),
            "dateUTC": clock.utc_text(item.at),
            "dateLocal": clock.local_text(item.at),
            "code": item.code,
            "description": item.description,
        }
        for item in items
    ]
