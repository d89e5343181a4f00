"""Random requests that the schema allows, filled with the account's real ids.

Meaningful values (cards, amounts, ids of earlier replies) are drawn far more often than arbitrary
ones, so that requests pass the first check and interact with each other.
"""

import random
from collections import defaultdict
from typing import Any

from simulator.merchant_client import Merchant, card
from simulator.random_requests import in_one_place
from simulator.schema_source import REQUESTS, SCHEMA, children, choices, facets, units

Tree = dict[str, Any]
_GOOD: dict[str, list[str]] = {
    "cardNumber": [
        *("4111111111111111", "5424000000000015", "370000000000002", "3088000000000017"),
        *("4222222222222", "XXXX1111", "4111111111111112"),
    ],
    "expirationDate": ["2040-12", "1240", "12/2040", "XXXX", "2020-01"],
    "cardCode": ["900", "901", "904"],
    "amount": ["1.00", "1.00", "5.50", "27.00", "100.01", "1000.00", "9.99", "12.00", "0.00"],
    "trialAmount": ["0.00", "1.00", "5.50"],
    "unitPrice": ["1.00", "2.5"],
    "zip": ["98004", "46282", "46225", "46226", "46205"],
    "routingNumber": ["121042882", "121042883"],
    "accountNumber": ["12345678", "1"],
    "checkNumber": ["15"],
    "currencyCode": ["USD", "USD", "USD", "CAD"],
    "startDate": ["2040-01-31", "2039-12-01"],
    "length": ["1", "7", "12"],
    "totalOccurrences": ["1", "3", "12", "9999"],
    "trialOccurrences": ["1", "2"],
    "settingName": ["duplicateWindow", "allowPartialAuth", "recurringBilling", "testRequest"],
    "settingValue": ["0", "true", "120"],
    "limit": ["1", "10", "1000"],
    "offset": ["1", "1", "2"],
    "authenticationIndicator": ["05", "06", "07", "9"],
    "cardholderAuthenticationValue": ["AAAA", "="],
    "dataDescriptor": ["COMMON.ACCEPT.INAPP.PAYMENT", "COMMON.APPLE.INAPP.PAYMENT"],
    "dataValue": ["AAAA"],
    "email": ["a@example.com", "b@example.com"],
    "month": ["2040-12"],
    "searchType": ["cardsExpiringInMonth", "subscriptionActive", "subscriptionInactive"],
    "marketType": ["0", "1", "2"],
    "deviceType": ["1", "8"],
    "payerID": ["PAYER1"],
    "track1": ["%B4111111111111111^DOE/JANE^40121011000000000000?"],
    "track2": [";4111111111111111=40121011000000000000?"],
}
_TOLD = {
    "refTransId": "transId",
    "customerPaymentProfileId": "paymentProfileId",
    "customerShippingAddressId": "customerAddressId",
    "shippingProfileId": "customerAddressId",
}
"""Request fields for ids that have another name in replies."""
_SELDOM = {
    *("profile", "splitTenderId", "sessionToken", "currencyCode", "retail"),
    *("cardholderAuthentication", "cryptogram", "isPaymentToken"),
}
_MOSTLY = {"amount", "payment", "refTransId"}
_METHODS = [each for each in REQUESTS if each != "updateMerchantDetailsRequest"]
"""Without the request that turns on test mode, in which nothing is recorded."""
_TYPES = (
    *("authCaptureTransaction", "authOnlyTransaction", "priorAuthCaptureTransaction") * 3,
    *("refundTransaction", "voidTransaction", "captureOnlyTransaction", "getDetailsTransaction"),
    *("authCaptureContinueTransaction", "authOnlyContinueTransaction"),
)


class Workload:
    """One merchant's random requests; ids in replies are reused in later requests."""

    def __init__(self, shop: Merchant, seed: int) -> None:
        self._shop = shop
        self._random = random.Random(seed)
        self._told: defaultdict[str, list[str]] = defaultdict(list)

    def request(self) -> tuple[str, Tree]:
        """Return a method and its body, with the merchant's credentials."""
        choose = self._random
        method = "createTransactionRequest" if choose.random() < 0.5 else choose.choice(_METHODS)
        body = self._tree(SCHEMA["elements"][method])
        if "merchantAuthentication" in body:
            body["merchantAuthentication"] = self._shop.credentials
        return method, body

    def learn(self, answer: Any, name: str = "") -> None:
        """Keep the ids of a JSON reply."""
        if isinstance(answer, dict):
            for key, value in answer.items():
                self.learn(value, key)
        elif isinstance(answer, list):
            for each in answer:
                self.learn(each, name)
        elif isinstance(answer, str) and answer not in ("", "0") and _is_id(name):
            kept = self._told[_name(name)]
            kept.append(answer)
            del kept[:-30]

    def _tree(self, definition: Any) -> Tree:
        choose = self._random
        made: Tree = {}
        for group in choices(definition):
            name, least, most, spec, *_ = choose.choice(group)
            seldom = 0.9 if name in _SELDOM else 0.1 if name in _MOSTLY else 0.5
            if least == 0 and choose.random() < seldom:
                continue
            if name == "payment" and choose.random() < 0.8:
                made[name] = card(choose.choice(_GOOD["cardNumber"]))
                continue
            few = 1 if most == 1 else choose.randint(1, 3)
            values = [self._value(name, spec) for _ in range(few)]
            made[name] = values[0] if most == 1 else values
        return made

    def _value(self, name: str, spec: Any) -> Any:
        if (inner := children(spec)) is not None:
            return self._tree([None, inner])
        choose, rules = self._random, facets(spec)
        if name == "transactionType":
            return choose.choice(_TYPES)
        known = self._told.get(_name(name)) or _GOOD.get(name)
        if known and choose.random() < 0.9:
            return choose.choice(known)
        if "enum" in rules:
            return choose.choice(rules["enum"])
        base = rules["base"]
        if base == "string" or base == "any":
            least = rules.get("length", rules.get("minLength", 1 if "pattern" in rules else 0))
            most = rules.get("length", min(rules.get("maxLength", 40), max(least, 12)))
            letters = "0123456789" if "pattern" in rules else "ab é<&\"']\t\n0127\u00b2\U0001f4a9"
            text = "".join(choose.choices(letters, k=choose.randint(least, most)))
            return text if units(text) <= most else in_one_place(text)
        if base == "boolean":
            return choose.choice(["true", "false", "1", "0"])
        if base in ("date", "dateTime"):
            day = choose.choice(["0001-01-01", "2026-01-31", "2040-02-29", "9999-12-31"])
            return day if base == "date" else day + choose.choice(["T00:00:00Z", "T23:59:59.9"])
        return str(choose.choice([rules.get("minInclusive", 1), 1, 2, 9]))


def _name(name: str) -> str:
    name = name.removesuffix("List")
    return _TOLD.get(name, name)


def _is_id(name: str) -> bool:
    return name.lower().removesuffix("list").endswith("id")
