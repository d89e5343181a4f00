"""Reports: every sent field is reported, and lists and counts match the transactions."""

from typing import Any
from unittest.mock import ANY

from simulator.merchant_client import Merchant, Process, card_sale
from simulator.schema_source import SCHEMA

ADDRESS = {
    "firstName": "Jane",
    "lastName": "Doe",
    "company": "Hats",
    "address": "1 Main St",
    "city": "Bellevue",
    "state": "WA",
    "zip": "98004",
    "country": "US",
}


ITEM = {
    "itemId": "1",
    "name": "hat",
    "quantity": "2.5000",
    "unitPrice": "4.125",
    "unitOfMeasure": "EA",
    "taxRate": "0.08250",
    "totalAmount": "10.31",
}

SENT = card_sale(
    "10.31",
    solution={"id": "AAA100302", "name": "Test Solution", "vendorName": "Vendor"},
    order={"invoiceNumber": "i-1", "description": "two hats", "purchaserCode": "pc"},
    lineItems={"lineItem": [ITEM]},
    tax={"amount": "0.81", "name": "state", "description": "WA"},
    duty={"amount": "1"},
    shipping={"amount": "2.50"},
    taxExempt=True,
    poNumber="po-7",
    customer={"type": "individual", "id": "c-1", "email": "jane@example.com"},
    billTo={**ADDRESS, "phoneNumber": "425-555-0100"},
    shipTo=ADDRESS,
    customerIP="192.0.2.7",
    employeeId="1234",
    transactionSettings={"setting": [{"settingName": "recurringBilling", "settingValue": "true"}]},
    surcharge={"amount": "0.10", "description": "card"},
    merchantDescriptor="HATS*ONLINE",
    tip={"amount": "1.00"},
    processingOptions={"isSubsequentAuth": True},
    subsequentAuthInformation={
        "originalNetworkTransId": "0123456789ABCDE",
        "originalAuthAmount": "9.99",
        "reason": "resubmission",
    },
    otherTax={"nationalTaxAmount": "0.01", "alternateTaxId": "tax-1"},
    shipFrom=ADDRESS,
    authorizationIndicatorType={"authorizationIndicator": "final"},
)

REPORTED: dict[str, Any] = {
    "order": {
        "invoiceNumber": "i-1",
        "description": "two hats",
        "discountAmount": 0.0,
        "taxIsAfterDiscount": False,
        "purchaserCode": "pc",
        "purchaseOrderNumber": "po-7",
    },
    "requestedAmount": 10.31,
    "authAmount": 10.31,
    "settleAmount": 10.31,
    "tax": {"amount": 0.81, "name": "state", "description": "WA"},
    "shipping": {"amount": 2.5},
    "duty": {"amount": 1.0},
    "lineItems": [
        {
            **ITEM,
            "quantity": 2.5,
            "unitPrice": 4.125,
            "taxable": False,
            "taxRate": 0.0825,
            "totalAmount": 10.31,
        }
    ],
    "taxExempt": True,
    "taxExemptSpecified": True,
    "payment": {
        "creditCard": {"cardNumber": "XXXX1111", "expirationDate": "XXXX", "cardType": "Visa"}
    },
    "customer": SENT["customer"],
    "billTo": SENT["billTo"],
    "shipTo": ADDRESS,
    "recurringBilling": True,
    "customerIP": "192.0.2.7",
    "product": "Card Not Present",
    "marketType": "eCommerce",
    "solution": SENT["solution"],
    "surcharge": {"amount": 0.1, "description": "card"},
    "employeeId": "1234",
    "tip": {"amount": 1.0},
    "otherTax": {"nationalTaxAmount": 0.01, "alternateTaxId": "tax-1"},
    "shipFrom": ADDRESS,
    "networkTransId": ANY,
    "originalNetworkTransId": "0123456789ABCDE",
    "originalAuthAmount": 9.99,
    "authorizationIndicator": "final",
}
"""From the order on, in the order of the report."""


def test_every_sent_field_is_reported(shop: Merchant) -> None:
    """Including level-2 and level-3 data, which accountants reconcile by."""
    answer = shop.call(
        "createTransactionRequest", clientId="the-client", refId="ref-1", transactionRequest=SENT
    )
    made = answer["transactionResponse"]
    reply = shop.call("getTransactionDetailsRequest", transId=made["transId"])
    assert list(reply) == ["transaction", "clientId", "transrefId", "messages"]
    assert (reply["clientId"], reply["transrefId"]) == ("the-client", "ref-1")
    told = reply["transaction"]
    names = list(told)
    assert names[names.index("order") :] == list(REPORTED)
    assert {name: told[name] for name in REPORTED} == REPORTED
    assert told["networkTransId"] == made["networkTransId"]


def test_declines_and_voids_are_reported(shop: Merchant) -> None:
    declined = shop.charge("7.00", billTo={"zip": "46282"})
    told = shop.details(declined["transId"])
    assert (told["responseCode"], told["responseReasonCode"]) == (2, 2)
    assert told["responseReasonDescription"] == "This transaction has been declined."
    assert (told["authAmount"], told["settleAmount"], told["authCode"]) == (7.0, 0.0, "")
    assert "CAVVResponse" not in told
    sale = shop.charge("8.00")
    shop.void(sale["transId"])
    told = shop.details(sale["transId"])
    assert (told["transactionStatus"], told["settleAmount"]) == ("voided", 0.0)
    assert (told["authCode"], told["CAVVResponse"]) == (sale["authCode"], "2")


def test_a_held_transaction_reports_its_filter(shop: Merchant) -> None:
    shop.settings(held_above="1.00")
    held = shop.charge("2.00")
    told = shop.details(held["transId"])
    assert told["FDSFilterAction"] == "authAndHold"
    assert told["FDSFilters"] == [{"name": "Amount Filter", "action": "authAndHold"}]
    listed = shop.call("getUnsettledTransactionListRequest", status="pendingApproval")
    assert listed["transactions"][0]["fraudInformation"] == {
        "fraudFilterList": ["Amount Filter"],
        "fraudAction": "authAndHold",
    }
    assert shop.void(held["transId"])["responseCode"] == "1"
    assert shop.status(held["transId"]) == "voided"
    nothing = shop.call("getUnsettledTransactionListRequest", status="pendingApproval")
    assert nothing["totalNumInResultSet"] == 0


def test_a_batch_counts_voids_and_declines_since_the_previous_one(shop: Merchant) -> None:
    shop.charge("1.00")
    shop.charge("2.00", number="5424000000000015")
    held = shop.authorize("3.00")
    shop.capture(held["transId"], amount="2.50")
    shop.void(shop.charge("9.00")["transId"])
    shop.charge("9.00", billTo={"zip": "46282"})
    shop.charge("4.00", kind="refundTransaction")
    shop.process.control("/settle")
    (batch,) = shop.call("getSettledBatchListRequest")["batchList"]
    assert "statistics" not in batch
    told = shop.call("getBatchStatisticsRequest", batchId=batch["batchId"])["batch"]
    by_brand = {line["accountType"]: line for line in told["statistics"]}
    unused = [name for name, *_ in SCHEMA["types"]["batchStatisticType"][1][8:]]
    assert by_brand["Visa"] == {
        "accountType": "Visa",
        "chargeAmount": 3.5,
        "chargeCount": 2,
        "refundAmount": 4.0,
        "refundCount": 1,
        "voidCount": 1,
        "declineCount": 1,
        "errorCount": 0,
        **{f"{name}Specified": False for name in unused},
    }
    assert by_brand["MasterCard"]["chargeAmount"] == 2.0
    shop.charge("1.00", invoice="next day")
    shop.process.control("/settle")
    batches = shop.call("getSettledBatchListRequest", includeStatistics=True)["batchList"]
    assert [each["statistics"][0]["declineCount"] for each in batches] == [1, 0]


def test_reports_can_be_switched_off(shop: Merchant) -> None:
    sale = shop.charge()
    shop.settings(reporting=False)
    for method, body in (
        ("getTransactionDetailsRequest", {"transId": sale["transId"]}),
        ("getUnsettledTransactionListRequest", {}),
        ("getSettledBatchListRequest", {}),
        ("getTransactionListRequest", {"batchId": "1"}),
        ("getBatchStatisticsRequest", {"batchId": "1"}),
        ("getTransactionListForCustomerRequest", {"customerProfileId": "1"}),
    ):
        (message,) = shop.call(method, **body)["messages"]["message"]
        assert message == {
            "code": "E00011",
            "text": "Access denied. You do not have the appropriate permissions.",
        }
    assert shop.charge("2.00")["responseCode"] == "1"


def test_a_customer_without_transactions_has_an_empty_list(shop: Merchant) -> None:
    answer = shop.call("getTransactionListForCustomerRequest", customerProfileId="123")
    assert answer["messages"]["message"][0]["code"] == "I00004"
    assert answer["totalNumInResultSet"] == 0


def test_paging_is_right_while_reports_lag(shop: Merchant) -> None:
    ids = [shop.charge(f"{n}.00")["transId"] for n in range(1, 4)]
    shop.settings(reporting_lag_ms=3_600_000)
    answer = shop.call("getUnsettledTransactionListRequest")
    assert answer["totalNumInResultSet"] == 0
    shop.settings(reporting_lag_ms=0)
    answer = shop.call("getUnsettledTransactionListRequest", paging={"limit": 2, "offset": 2})
    assert [each["transId"] for each in answer["transactions"]] == [ids[0]]


def test_lists_sort_by_time_or_id_after_the_clock_went_back(process: Process) -> None:
    shop = process.merchant()
    ids = []
    for moment in ("2026-03-02T05:00:00Z", "2026-03-02T04:00:00Z", "2026-03-02T06:00:00Z"):
        process.control("/clock", {"now": moment, "stopped": True})
        ids.append(shop.charge()["transId"])

    def ordered(by: str) -> list[str]:
        answer = shop.call(
            "getUnsettledTransactionListRequest", sorting={"orderBy": by, "orderDescending": False}
        )
        return [each["transId"] for each in answer["transactions"]]

    assert ordered("id") == ids
    assert ordered("submitTimeUTC") == [ids[1], ids[0], ids[2]]


def test_the_merchants_details_are_reported(shared: Process) -> None:
    shop = shared.merchant(currencies=["USD", "CAD"])
    told = shop.call("getMerchantDetailsRequest")
    assert list(told) == [
        "isTestMode",
        "processors",
        "merchantName",
        "gatewayId",
        "marketTypes",
        "productCodes",
        "paymentMethods",
        "currencies",
        "publicClientKey",
        "businessInformation",
        "merchantTimeZone",
        "contactDetails",
        "messages",
    ]
    assert told["currencies"] == ["USD", "CAD"]
    assert told["processors"][0]["cardTypes"] == ["A", "C", "D", "J", "M", "V"]
    assert told["paymentMethods"][-2:] == ["Echeck", "Paypal"]
