"""What can be asked afterwards: one transaction, lists, batches, the merchant."""

from collections.abc import Iterable, Iterator, Reversible
from hashlib import blake2b
from itertools import islice
from typing import Any, Final

import msgspec

from authorizenet_simulator import amounts, answers, clock, records
from authorizenet_simulator.answers import NOTHING_FOUND, ApiError, Reply
from authorizenet_simulator.clock import DAY_MS
from authorizenet_simulator.codes import REASONS
from authorizenet_simulator.ledger import Account, Ledger
from authorizenet_simulator.records import Batch, Txn

Tree = dict[str, Any]
_PRODUCT: Final = "Card Not Present"
_MARKET: Final = "eCommerce"
_NOTHING_SETTLES: Final = frozenset({records.DECLINED, records.VOIDED, records.EXPIRED})
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def transaction_details(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getTransactionDetailsRequest. Raises ApiError E00040."""
    txn = ledger.txns.get(records.parse_id(body["transId"]) or 0)
    lag_ms = ledger.settings_of(account).reporting_lag_ms
    if txn is None or txn.login != account.login or (lag_ms and txn.at > now - lag_ms):
        raise ApiError("E00040")
    sent = _decode(txn.details)
    ref_id = sent.pop("refId", None)
    payload: Tree = {"transaction": _details(ledger, txn, sent)}
    if ref_id is not None:
        payload["transrefId"] = ref_id
    return Reply(payload)


def _details(ledger: Ledger, txn: Txn, sent: Tree) -> Tree:
    auth_code, network = answers.bank_codes(txn)
    told: Tree = {"transId": str(txn.trans_id)}
    if txn.ref:
        told["refTransId"] = str(txn.ref)
    told |= {
        "submitTimeUTC": clock.utc_text(txn.at),
        "submitTimeLocal": clock.local_text(txn.at),
        "transactionType": _type(txn),
        "transactionStatus": txn.status,
        "responseCode": txn.response_code,
        "responseReasonCode": txn.reason,
    }
    if (subscription := sent.get("subscription")) is not None:
        told["subscription"] = subscription
    told |= {
        "responseReasonDescription": "Approval" if txn.reason == 1 else REASONS[txn.reason][1],
        "authCode": sent.get("authCode") or auth_code,
        "AVSResponse": txn.avs,
    }
    if txn.cvv:
        told["cardCodeResponse"] = txn.cvv
    if txn.reason in _FILTER_ACTIONS:
        action = _FILTER_ACTIONS[txn.reason]
        told["FDSFilterAction"] = action
        told["FDSFilters"] = [{"name": "Amount Filter", "action": action}]
    if txn.batch:
        batch = ledger.batches[txn.batch]
        told["batch"] = {
            "batchId": str(batch.batch_id),
            "settlementTimeUTC": clock.utc_text(batch.at),
            "settlementTimeLocal": clock.local_text(batch.at),
            "settlementState": records.SETTLED,
        }
    if (order := sent.get("order")) is not None:
        told["order"] = {
            **order,
            "discountAmount": _number(order.get("discountAmount", "0.00")),
            "taxIsAfterDiscount": order.get("taxIsAfterDiscount") in ("true", "1"),
        }
    told["requestedAmount"] = amounts.number(txn.amount)
    told["authAmount"] = amounts.number(txn.amount)
    told["settleAmount"] = amounts.number(_settle_amount(txn))
    for name in ("tax", "shipping", "duty"):
        if (charge := sent.get(name)) is not None:
            told[name] = {**charge, "amount": _number(charge["amount"])}
    if (items := sent.get("lineItems")) is not None:
        told["lineItems"] = [_line_item(item) for item in items.get("lineItem", ())]
    told["taxExempt"] = sent.get("taxExempt") in ("true", "1")
    told["taxExemptSpecified"] = True
    told["payment"] = _payment(txn)
    for name in ("customer", "billTo", "shipTo"):
        if name in sent:
            told[name] = sent[name]
    told["recurringBilling"] = subscription is not None
    if "customerIP" in sent:
        told["customerIP"] = sent["customerIP"]
    told["product"] = _PRODUCT
    told["marketType"] = _MARKET
    if "profile" in sent:
        told["profile"] = sent["profile"]
    if network:
        told["networkTransId"] = network
    return told


_FILTER_ACTIONS: Final = {251: "decline", 252: "hold", 253: "authAndHold"}


def _type(txn: Txn) -> str:
    """A captured authorization is reported as its capture."""
    if txn.type == "authOnlyTransaction" and txn.captured:
        return "priorAuthCaptureTransaction"
    return txn.type


def _settle_amount(txn: Txn) -> int:
    return 0 if txn.status in _NOTHING_SETTLES else txn.captured or txn.amount


def _number(text: str) -> msgspec.Raw:
    hundredths = amounts.parse(text)
    return msgspec.Raw(text.encode()) if hundredths is None else amounts.number(hundredths)


def _line_item(item: Tree) -> Tree:
    return {
        **item,
        "quantity": _number(item["quantity"]),
        "unitPrice": _number(item["unitPrice"]),
        "taxable": item.get("taxable") in ("true", "1"),
    }


def _payment(txn: Txn) -> Tree:
    if txn.brand == "eCheck":
        return {"bankAccount": {"routingNumber": "XXXX", "accountNumber": txn.masked}}
    card = {"cardNumber": txn.masked, "expirationDate": "XXXX", "cardType": txn.brand}
    return {"creditCard": card}


def unsettled(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getUnsettledTransactionListRequest: newest first unless told otherwise; no declines."""
    pool = account.held if body.get("status") == "pendingApproval" else account.unsettled
    lag_ms = ledger.settings_of(account).reporting_lag_ms
    if not lag_ms:
        return _list(body, pool.values(), len(pool))
    reported = [txn for txn in pool.values() if txn.at <= now - lag_ms]
    return _list(body, reported, len(reported))


def batch_transactions(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getTransactionListRequest: what one batch settled. Raises ApiError E00040."""
    txns = _batch(ledger, account, body.get("batchId", "0"), now).txns
    return _list(body, txns, len(txns))


def _list(body: Tree, oldest_first: Reversible[Txn], total: int) -> Reply:
    """One page. What is listed lies in the order of its ids, which is that of its times."""
    paging: Tree = body.get("paging") or {}
    limit, page = int(paging.get("limit", 1000)), int(paging.get("offset", 1))
    sorting: Tree = body.get("sorting") or {}
    ascending = sorting.get("orderDescending", "true").strip() in ("false", "0")
    ordered: Iterable[Txn] = oldest_first if ascending else reversed(oldest_first)
    start = (page - 1) * limit
    listed = [_summary(txn) for txn in islice(ordered, start, start + limit)]
    if not listed:
        return Reply({"totalNumInResultSet": total}, *NOTHING_FOUND)
    return Reply({"transactions": listed, "totalNumInResultSet": total})


def _summary(txn: Txn) -> Tree:
    told: Tree = {
        "transId": str(txn.trans_id),
        "submitTimeUTC": clock.utc_text(txn.at),
        "submitTimeLocal": clock.local_text(txn.at),
        "transactionStatus": txn.status,
    }
    if txn.invoice:
        told["invoiceNumber"] = txn.invoice
    sent = _decode(txn.details)
    bill_to = sent.get("billTo") or {}
    for name in ("firstName", "lastName"):
        if name in bill_to:
            told[name] = bill_to[name]
    told |= {
        "accountType": txn.brand,
        "accountNumber": txn.masked,
        "settleAmount": amounts.number(_settle_amount(txn)),
        "marketType": _MARKET,
        "product": _PRODUCT,
    }
    if (subscription := sent.get("subscription")) is not None:
        told["subscription"] = subscription
    told["hasReturnedItemsSpecified"] = False
    return told


def settled_batches(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getSettledBatchListRequest: the last day, or up to 31 days between two moments."""
    first, last = body.get("firstSettlementDate"), body.get("lastSettlementDate")
    if (first is None) != (last is None):
        missing = "Last Settlement Date" if last is None else "First Settlement Date"
        raise ApiError("E00013", f"{missing} is invalid.")
    begin, end = now - DAY_MS, now
    if first is not None and last is not None:
        try:
            begin, end = clock.parse(first), clock.parse(last)
        except ValueError:
            raise ApiError("E00013", "Settlement Date is invalid.") from None
        if not 0 <= end - begin <= 31 * DAY_MS:
            raise ApiError("E00013", "Last Settlement Date is invalid.")
    with_statistics = body.get("includeStatistics") in ("true", "1")
    listed = [
        _batch_details(batch, with_statistics=with_statistics)
        for batch in account.batches
        if begin <= batch.at <= end and _is_reported(ledger, account, batch, now)
    ]
    return Reply({"batchList": listed}) if listed else Reply({}, *NOTHING_FOUND)


def batch_statistics(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getBatchStatisticsRequest. Raises ApiError E00040."""
    batch = _batch(ledger, account, body["batchId"], now)
    return Reply({"batch": _batch_details(batch, with_statistics=True)})


def _batch(ledger: Ledger, account: Account, number: str, now: int) -> Batch:
    batch = ledger.batches.get(records.parse_id(number) or 0)
    if (
        batch is None
        or batch.login != account.login
        or not _is_reported(ledger, account, batch, now)
    ):
        raise ApiError("E00040")
    return batch


def _is_reported(ledger: Ledger, account: Account, batch: Batch, now: int) -> bool:
    lag_ms = ledger.settings_of(account).reporting_lag_ms
    return not lag_ms or batch.at <= now - lag_ms


def _batch_details(batch: Batch, *, with_statistics: bool) -> Tree:
    told: Tree = {
        "batchId": str(batch.batch_id),
        "settlementTimeUTC": clock.utc_text(batch.at),
        "settlementTimeLocal": clock.local_text(batch.at),
        "settlementState": records.SETTLED,
        "paymentMethod": batch.method,
        "marketType": _MARKET,
        "product": _PRODUCT,
    }
    if with_statistics:
        told["statistics"] = list(_statistics(batch))
    return told


def _statistics(batch: Batch) -> Iterator[Tree]:
    by_brand: dict[str, list[Txn]] = {}
    for txn in batch.txns:
        by_brand.setdefault(txn.brand, []).append(txn)
    for brand, txns in by_brand.items():
        charges = [txn.captured for txn in txns if txn.status == records.SETTLED]
        refunds = [txn.amount for txn in txns if txn.status == records.REFUND_SETTLED]
        yield {
            "accountType": brand,
            "chargeAmount": amounts.number(sum(charges)),
            "chargeCount": len(charges),
            "refundAmount": amounts.number(sum(refunds)),
            "refundCount": len(refunds),
            "voidCount": 0,
            "declineCount": 0,
            "errorCount": 0,
        }


def client_key(account: Account) -> str:
    """The public key with which a browser asks for nonces."""
    return blake2b(account.login.encode(), digest_size=32, person=b"client-key").hexdigest()


def merchant_details(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getMerchantDetailsRequest."""
    settings = ledger.settings_of(account)
    cards = ["A", "D", "J", "M", "V"]
    return Reply(
        {
            "isTestMode": settings.test_mode,
            "processors": [{"name": "First Data Nashville", "id": 2, "cardTypes": cards}],
            "merchantName": account.login,
            "gatewayId": str(100_000 + sum(account.login.encode())),
            "marketTypes": [_MARKET],
            "productCodes": ["CNP"],
            "paymentMethods": [
                "AmericanExpress",
                "Discover",
                "JCB",
                "MasterCard",
                "Visa",
                "Echeck",
            ],
            "currencies": list(account.currencies),
            "publicClientKey": client_key(account),
            "merchantTimeZone": "America/Los_Angeles",
            "contactDetails": [],
        }
    )
