"""Reports: a transaction's details, lists, batches, the merchant's details."""

from collections.abc import Iterable, Iterator, Reversible
from hashlib import blake2b
from itertools import islice, takewhile
from typing import Any, Final

import msgspec

from authorizenet_simulator.state import clock, statuses, transactions
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.clock import DAY_MS
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.state.transactions import Batch, Txn
from authorizenet_simulator.transactions.transaction_details import (
    FILTER_ACTIONS,
    MARKET,
    PRODUCT,
    market_of,
    settle_amount,
    shown_batch,
    told_of,
)
from authorizenet_simulator.wire import amounts, paging
from authorizenet_simulator.wire.replies import NOTHING_FOUND, ApiError, Handler, Reply, Tree

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def transaction_details(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getTransactionDetailsRequest. Raises ApiError E00040 for an unknown transaction."""
    txn = ledger.txns.get(transactions.parse_id(body["transId"]) or 0)
    lag_ms = ledger.settings_of(account).reporting_lag_ms
    if txn is None or txn.login != account.login or (lag_ms and txn.at > now - lag_ms):
        raise ApiError("E00040")
    sent = _decode(txn.details)
    payload: Tree = {"transaction": told_of(ledger, txn, sent)}
    if "clientId" in sent:
        payload["clientId"] = sent["clientId"]
    if "refId" in sent:
        payload["transrefId"] = sent["refId"]
    return Reply(payload)


def unsettled(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getUnsettledTransactionListRequest: newest first by default, without declines."""
    pool = account.held if body.get("status") == "pendingApproval" else account.unsettled
    lag_ms = ledger.settings_of(account).reporting_lag_ms
    if not lag_ms:
        return _list(ledger, account, body, pool.values(), len(pool))
    hidden = sum(1 for _ in takewhile(lambda txn: txn.at > now - lag_ms, reversed(pool.values())))
    return _list(ledger, account, body, pool.values(), len(pool) - hidden, hidden)


def batch_transactions(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getTransactionListRequest: a batch's transactions; none if there is no such batch."""
    batch = _batch(ledger, account, body.get("batchId", "0"), now)
    txns = [] if batch is None else batch.txns
    return _list(ledger, account, body, txns, len(txns))


def customer_transactions(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getTransactionListForCustomerRequest: all transactions of a profile, or of one of its payment
    profiles, whatever their status."""
    txns = account.customers.get(transactions.parse_id(body["customerProfileId"]) or 0, [])
    if (payment_profile := body.get("customerPaymentProfileId")) is not None:
        txns = [txn for txn in txns if _payment_profile(txn) == payment_profile.strip()]
    return _list(ledger, account, body, txns, len(txns))


def _payment_profile(txn: Txn) -> str | None:
    profile: Tree = _decode(txn.details).get("profile") or {}
    found: str | None = profile.get("customerPaymentProfileId")
    return found


def _list(
    ledger: Ledger,
    account: Account,
    body: Tree,
    oldest_first: Reversible[Txn],
    total: int,
    hidden: int = 0,
) -> Reply:
    """Return one page. `oldest_first` is ordered by id, which is also the order of times unless the
    clock was set back. The newest `hidden` are not shown."""
    start, stop = paging.bounds(body, total)
    sorting: Tree = body.get("sorting") or {}
    ascending = sorting.get("orderDescending", "true").strip() in ("false", "0")
    if account.disordered and sorting.get("orderBy") == "submitTimeUTC":
        oldest_first = sorted(oldest_first, key=lambda txn: txn.at)
    ordered: Iterable[Txn] = oldest_first if ascending else reversed(oldest_first)
    skipped = 0 if ascending else hidden
    shown = islice(ordered, start + skipped, max(start, stop) + skipped)
    listed = [_summary(ledger, txn) for txn in shown]
    if not listed:
        return Reply({"totalNumInResultSet": total}, *NOTHING_FOUND)
    return Reply({"transactions": listed, "totalNumInResultSet": total})


def _summary(ledger: Ledger, txn: Txn) -> Tree:
    sent = _decode(txn.details)
    market, product = market_of(sent)
    shown: Tree = {
        "transId": str(txn.trans_id),
        "submitTimeUTC": clock.utc_text(txn.at),
        "submitTimeLocal": clock.local_text(txn.at),
        "transactionStatus": txn.status,
    }
    if txn.invoice:
        shown["invoiceNumber"] = txn.invoice
    bill_to = sent.get("billTo") or {}
    for name in ("firstName", "lastName"):
        if name in bill_to:
            shown[name] = bill_to[name]
    shown |= {
        "accountType": txn.brand,
        "accountNumber": txn.masked,
        "settleAmount": amounts.number(settle_amount(txn)),
        "marketType": market,
        "product": product,
    }
    if "subscription" in sent:
        shown["subscription"] = sent["subscription"]
    if txn.trans_id in ledger.returns.items:
        shown |= {"hasReturnedItems": True, "hasReturnedItemsSpecified": True}
    else:
        shown["hasReturnedItemsSpecified"] = False
    if txn.reason in FILTER_ACTIONS:
        shown["fraudInformation"] = {
            "fraudFilterList": ["Amount Filter"],
            "fraudAction": FILTER_ACTIONS[txn.reason],
        }
    if "profile" in sent:
        shown["profile"] = sent["profile"]
    return shown


def settled_batches(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getSettledBatchListRequest: batches of the last day, or of a range up to 31 days."""
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
    """getBatchStatisticsRequest: answers I00004 if there is no such batch."""
    batch = _batch(ledger, account, body["batchId"], now)
    if batch is None:
        return Reply({}, *NOTHING_FOUND)
    return Reply({"batch": _batch_details(batch, with_statistics=True)})


def _batch(ledger: Ledger, account: Account, number: str, now: int) -> Batch | None:
    """Return the account's batch with that id, unless it is still hidden."""
    batch = ledger.batches.get(transactions.parse_id(number) or 0)
    if batch is None or batch.login != account.login:
        return None
    return batch if _is_reported(ledger, account, batch, now) else None


def _is_reported(ledger: Ledger, account: Account, batch: Batch, now: int) -> bool:
    lag_ms = ledger.settings_of(account).reporting_lag_ms
    return not lag_ms or batch.at <= now - lag_ms


def _batch_details(batch: Batch, *, with_statistics: bool) -> Tree:
    shown = shown_batch(batch) | {"paymentMethod": batch.method}
    shown |= {"marketType": MARKET, "product": PRODUCT}
    if with_statistics:
        shown["statistics"] = list(_statistics(batch))
    return shown


_REFUNDED: Final = "refundTransaction"


def _statistics(batch: Batch) -> Iterator[Tree]:
    by_brand: dict[str, list[Txn]] = {brand: [] for brand in batch.tallies}
    for txn in batch.txns:
        by_brand.setdefault(txn.brand, []).append(txn)
    for brand, txns in by_brand.items():
        voids, declines, errors = batch.tallies.get(brand, (0, 0, 0))
        failed = sum(1 for txn in txns if txn.status == statuses.SETTLEMENT_ERROR)
        settled = [txn for txn in txns if txn.status != statuses.SETTLEMENT_ERROR]
        charges = [txn.captured for txn in settled if txn.type != _REFUNDED and not txn.ref]
        refunds = [txn.amount for txn in settled if txn.type == _REFUNDED]
        returned = [txn for txn in settled if txn.status == statuses.RETURNED]
        disputed = [txn.captured for txn in settled if txn.status == statuses.CHARGEBACK]
        returned_charges = [txn.captured for txn in returned if txn.type != _REFUNDED]
        returned_refunds = [txn.amount for txn in returned if txn.type == _REFUNDED]
        yield {
            "accountType": brand,
            **_sum("charge", charges),
            **_sum("refund", refunds),
            "voidCount": voids,
            "declineCount": declines,
            "errorCount": errors + failed,
            **_optional_sum("returnedItem", returned_charges + returned_refunds),
            **_optional_sum("chargeback", disputed),
            "correctionNoticeCountSpecified": False,
            **_optional_sum("chargeChargeBack", disputed),
            **_optional_sum("refundChargeBack", []),
            **_optional_sum("chargeReturnedItems", returned_charges),
            **_optional_sum("refundReturnedItems", returned_refunds),
        }


def _sum(name: str, hundredths: list[int]) -> Tree:
    return {f"{name}Amount": amounts.number(sum(hundredths)), f"{name}Count": len(hundredths)}


def _optional_sum(name: str, hundredths: list[int]) -> Tree:
    """Sum as .NET serializes optional values: in JSON a flag says whether each is present."""
    fields: Tree = {}
    for key, value in _sum(name, hundredths).items():
        fields |= {key: value} if hundredths else {}
        fields[f"{key}Specified"] = bool(hundredths)
    return fields


def client_key(account: Account) -> str:
    """Return the public key with which a browser requests nonces."""
    return blake2b(account.login.encode(), digest_size=32, person=b"client-key").hexdigest()


_CARD_LETTERS: Final = {
    "AmericanExpress": "A",
    "DinersClub": "C",
    "Discover": "D",
    "JCB": "J",
    "MasterCard": "M",
    "Visa": "V",
}


def merchant_details(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """getMerchantDetailsRequest: the account's data and accepted payment methods."""
    settings = ledger.settings_of(account)
    accepted = _CARD_LETTERS if settings.card_types is None else settings.card_types
    cards = sorted(accepted)
    methods = [*cards, *["Echeck"] * settings.echeck, *["Paypal"] * settings.paypal]
    letters = [_CARD_LETTERS[brand] for brand in cards]
    return Reply(
        {
            "isTestMode": settings.test_mode,
            "processors": [{"name": "First Data Nashville", "id": 2, "cardTypes": letters}],
            "merchantName": account.login,
            "gatewayId": str(100_000 + sum(account.login.encode())),
            "marketTypes": [MARKET],
            "productCodes": ["CNP"],
            "paymentMethods": methods,
            "currencies": list(account.currencies),
            "publicClientKey": client_key(account),
            "businessInformation": {
                "company": "Example Shop",
                "address": "1 Main Street",
                "city": "Bellevue",
                "state": "WA",
                "zip": "98004",
                "country": "US",
                "phoneNumber": "425-555-0100",
            },
            "merchantTimeZone": "America/Los_Angeles",
            "contactDetails": [
                {"email": "owner@example.com", "firstName": "Jane", "lastName": "Doe"}
            ],
        }
    )


Handler = Handler


def _if_allowed(handler: Handler) -> Handler:
    """Wrap a report so that it raises ApiError E00011 if the account's reports are off."""

    def guarded(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
        if not ledger.settings_of(account).reporting:
            raise ApiError("E00011")
        return handler(ledger, account, body, now)

    return guarded


METHODS: Final[dict[str, Handler]] = {
    "getTransactionDetailsRequest": _if_allowed(transaction_details),
    "getUnsettledTransactionListRequest": _if_allowed(unsettled),
    "getSettledBatchListRequest": _if_allowed(settled_batches),
    "getTransactionListRequest": _if_allowed(batch_transactions),
    "getBatchStatisticsRequest": _if_allowed(batch_statistics),
    "getTransactionListForCustomerRequest": _if_allowed(customer_transactions),
    "getMerchantDetailsRequest": merchant_details,
}
