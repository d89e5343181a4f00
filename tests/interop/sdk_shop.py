"""A shop that uses one of the official SDKs. Both have the same types under the same names."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from interop.shop import Shop, answer, details, dig, many, outcome, texts


def make(kind: str, /, **fields: Any) -> dict[str, Any]:
    """Return an SDK object with these fields, except those that are None."""
    return {"class": kind, **{name: each for name, each in fields.items() if each is not None}}


def card(
    number: str = "4111111111111111", expiry: str = "2040-12", code: str | None = None
) -> dict[str, Any]:
    fields = {"cardNumber": number, "expirationDate": expiry, "cardCode": code}
    return make("paymentType", creditCard=make("creditCardType", **fields))


def address(kind: str = "customerAddressType", **more: Any) -> dict[str, Any]:
    usual = {
        "firstName": "Ada",
        "lastName": "Lovelace",
        "address": "12 Main Street",
        "city": "Bellevue",
        "state": "WA",
        "zip": "98004",
        "country": "US",
    }
    return make(kind, **{**usual, **more})


def settings(**named: str) -> dict[str, Any]:
    """Return an ArrayOfSetting."""
    made = [
        make("settingType", settingName=name, settingValue=each) for name, each in named.items()
    ]
    return make("ArrayOfSetting", setting=made)


def order(invoice: str) -> dict[str, Any]:
    return make("orderType", invoiceNumber=invoice, description="Robot parts")


class SdkShop(Shop):
    DELETED: Final = {"result": "Ok", "code": "I00001"}

    def send(self, method: str, **fields: Any) -> Any:
        return self.call(method, fields)

    # payments

    def transact(self, kind: str, **fields: Any) -> dict[str, Any]:
        request = make("transactionRequestType", transactionType=kind, **fields)
        return outcome(self.send("createTransaction", refId="ref-1", transactionRequest=request))

    def charge(
        self,
        amount: str,
        invoice: str,
        kind: str = "authCaptureTransaction",
        zip_code: str = "98004",
        payment: Any = None,
        **fields: Any,
    ) -> dict[str, Any]:
        return self.transact(
            kind,
            amount=amount,
            payment=payment or card(code="900"),
            order=order(invoice),
            billTo=address(zip=zip_code),
            **fields,
        )

    def sale_with_everything(self) -> dict[str, Any]:
        part = {"name": "part", "quantity": "2", "unitPrice": "5.25"}
        items = [make("lineItemType", itemId=number, **part) for number in ("1", "2")]
        return self.charge(
            "21.00",
            "sale-1",
            lineItems=make("ArrayOfLineItem", lineItem=items),
            tax=make("extendedAmountType", amount="1.05", name="VAT"),
            poNumber="PO-7",
            customer=make("customerDataType", id="c-1", email="ada@example.com"),
            shipTo=address("nameAndAddressType"),
            customerIP="192.0.2.1",
        )

    def authorize(self, amount: str, invoice: str) -> dict[str, Any]:
        return self.charge(amount, invoice, "authOnlyTransaction")

    def charge_bank(self, amount: str, invoice: str, routing: str = "322271627") -> dict[str, Any]:
        account = make(
            "bankAccountType",
            accountType="checking",
            routingNumber=routing,
            accountNumber="00987467838473",
            nameOnAccount="Ada Lovelace",
            echeckType="WEB",
        )
        return self.charge(amount, invoice, payment=make("paymentType", bankAccount=account))

    def capture(self, trans_id: str, amount: str | None = None) -> dict[str, Any]:
        return self.transact("priorAuthCaptureTransaction", amount=amount, refTransId=trans_id)

    def void(self, trans_id: str) -> dict[str, Any]:
        return self.transact("voidTransaction", refTransId=trans_id)

    def refund(self, trans_id: str, amount: str) -> dict[str, Any]:
        payment = card("1111", "XXXX")
        return self.transact(
            "refundTransaction", amount=amount, payment=payment, refTransId=trans_id
        )

    def details(self, trans_id: str) -> dict[str, Any]:
        return details(self.send("getTransactionDetails", transId=trans_id))

    def decide(self, trans_id: str, action: str) -> dict[str, Any]:
        asked = make("heldTransactionRequestType", action=action, refTransId=trans_id)
        return outcome(self.send("updateHeldTransaction", heldTransactionRequest=asked))

    def nonce(self) -> dict[str, Any]:
        """Return a payment by a new nonce, which an SDK can fetch as a browser does."""
        token = make(
            "webCheckOutDataTypeToken",
            cardNumber="4111111111111111",
            expirationDate="122040",
            cardCode="900",
            zip="98004",
            fullName="Ada Lovelace",
        )
        identity = "11111111-2222-3333-4444-555555555555"
        data = make("webCheckOutDataType", type="TOKEN", id=identity, token=token)
        opaque = self.send("securePaymentContainer", data=data)["opaque_data"]
        fields = {
            "dataDescriptor": opaque["data_descriptor"],
            "dataValue": opaque["data_value"],
        }
        return make("paymentType", opaqueData=make("opaqueDataType", **fields))

    # customers

    def create_customer(self) -> dict[str, Any]:
        profile = make(
            "customerProfileType",
            merchantCustomerId="c-77",
            description="Tom & Jerry <Ltd>",
            email="tom@example.com",
            paymentProfiles=[make("customerPaymentProfileType", payment=card())],
        )
        made = self.send("createCustomerProfile", profile=profile, validationMode="testMode")
        ids = dig(made, "customer_payment_profile_id_list", "numeric_string")
        return {**answer(made), "id": dig(made, "customer_profile_id"), "payments": many(ids)}

    def customers(self) -> list[str]:
        return texts(dig(self.send("getCustomerProfileIds"), "ids", "numeric_string"))

    def customer(self, customer: str) -> dict[str, Any]:
        reply = self.send("getCustomerProfile", customerProfileId=customer)
        found = dig(reply, "profile") or {}
        return {
            **found,
            **answer(reply),
            "payments": len(many(dig(found, "payment_profiles"))),
            "addresses": len(many(dig(found, "ship_to_list"))),
        }

    def update_customer(self, customer: str, email: str, description: str) -> dict[str, Any]:
        profile = make(
            "customerProfileInfoExType",
            merchantCustomerId="c-77",
            description=description,
            email=email,
            customerProfileId=customer,
        )
        return answer(self.send("updateCustomerProfile", profile=profile))

    def add_payment(self, customer: str) -> dict[str, Any]:
        payment = card("5424000000000015")
        reply = self.send(
            "createCustomerPaymentProfile",
            customerProfileId=customer,
            paymentProfile=make("customerPaymentProfileType", billTo=address(), payment=payment),
            validationMode="testMode",
        )
        direct = dig(reply, "validation_direct_response")
        return {**answer(reply), "id": dig(reply, "customer_payment_profile_id"), "direct": direct}

    def payment(self, customer: str, payment: str) -> dict[str, Any]:
        ids = {"customerProfileId": customer, "customerPaymentProfileId": payment}
        reply = self.send("getCustomerPaymentProfile", **ids)
        found = dig(reply, "payment_profile")
        kept = dig(found, "payment", "credit_card") or {}
        return {**kept, **answer(reply), "city": dig(found, "bill_to", "city")}

    def update_payment(self, customer: str, payment: str, city: str) -> dict[str, Any]:
        profile = make(
            "customerPaymentProfileExType",
            billTo=address(city=city),
            payment=card("XXXX0015", "2041-01"),
            customerPaymentProfileId=payment,
        )
        fields = {"customerProfileId": customer, "paymentProfile": profile}
        return answer(self.send("updateCustomerPaymentProfile", **fields))

    def validate(self, customer: str, payment: str) -> dict[str, Any]:
        reply = self.send(
            "validateCustomerPaymentProfile",
            customerProfileId=customer,
            customerPaymentProfileId=payment,
            cardCode="900",
            validationMode="liveMode",
        )
        return {**answer(reply), "direct": dig(reply, "direct_response")}

    def delete_payment(self, customer: str, payment: str) -> dict[str, Any]:
        ids = {"customerProfileId": customer, "customerPaymentProfileId": payment}
        return answer(self.send("deleteCustomerPaymentProfile", **ids))

    def add_address(self, customer: str) -> dict[str, Any]:
        fields = {"customerProfileId": customer, "address": address()}
        reply = self.send("createCustomerShippingAddress", **fields)
        return {**answer(reply), "id": dig(reply, "customer_address_id")}

    def address(self, customer: str, kept: str) -> dict[str, Any]:
        ids = {"customerProfileId": customer, "customerAddressId": kept}
        reply = self.send("getCustomerShippingAddress", **ids)
        return {**answer(reply), "city": dig(reply, "address", "city")}

    def update_address(self, customer: str, kept: str, city: str) -> dict[str, Any]:
        moved = address("customerAddressExType", customerAddressId=kept, city=city)
        fields = {"customerProfileId": customer, "address": moved}
        return answer(self.send("updateCustomerShippingAddress", **fields))

    def delete_address(self, customer: str, kept: str) -> dict[str, Any]:
        ids = {"customerProfileId": customer, "customerAddressId": kept}
        return answer(self.send("deleteCustomerShippingAddress", **ids))

    def delete_customer(self, customer: str) -> dict[str, Any]:
        return answer(self.send("deleteCustomerProfile", customerProfileId=customer))

    def charge_customer(self, customer: str, payment: str) -> dict[str, Any]:
        paid_by = make(
            "customerProfilePaymentType",
            customerProfileId=customer,
            paymentProfile=make("paymentProfile", paymentProfileId=payment),
        )
        kind, asked = "authCaptureTransaction", order("customer-1")
        return self.transact(kind, amount="17.00", profile=paid_by, order=asked)

    # subscriptions

    def subscribe(self) -> dict[str, Any]:
        start = (datetime.now(UTC) + timedelta(30)).date().isoformat()
        schedule = make(
            "paymentScheduleType",
            interval=make("paymentScheduleTypeInterval", length=1, unit="months"),
            startDate=start,
            totalOccurrences=12,
            trialOccurrences=1,
        )
        plan = make(
            "ARBSubscriptionType",
            name="Robot plan",
            paymentSchedule=schedule,
            amount="29.90",
            trialAmount="1.00",
            payment=card(expiry="2045-12"),
            order=order("sub-1"),
            billTo=address("nameAndAddressType"),
        )
        reply = self.send("ARBCreateSubscription", refId="sub", subscription=plan)
        return {**answer(reply), "id": dig(reply, "subscription_id")}

    def subscription_status(self, which: str) -> dict[str, Any]:
        reply = self.send("ARBGetSubscriptionStatus", subscriptionId=which)
        return {**answer(reply), "status": dig(reply, "status")}

    def reprice(self, which: str, amount: str) -> dict[str, Any]:
        changed = make("ARBSubscriptionType", amount=amount)
        fields = {"subscriptionId": which, "subscription": changed}
        return answer(self.send("ARBUpdateSubscription", **fields))

    def cancel(self, which: str) -> dict[str, Any]:
        return answer(self.send("ARBCancelSubscription", subscriptionId=which))

    def subscriptions(self, search: str) -> list[str]:
        reply = self.send(
            "ARBGetSubscriptionList",
            searchType=search,
            sorting=make("ARBGetSubscriptionListSorting", orderBy="id", orderDescending=False),
            paging=make("Paging", limit=100, offset=1),
        )
        rows = many(dig(reply, "subscription_details", "subscription_detail"))
        return [str(row["id"]) for row in rows]

    # reports and the account

    def unsettled(self, **search: Any) -> dict[str, Any]:
        return _listed(self.send("getUnsettledTransactionList", **search))

    def batches(self) -> list[dict[str, Any]]:
        reply = self.send("getSettledBatchList", includeStatistics=True)
        return many(dig(reply, "batch_list", "batch"))

    def in_batch(self, batch: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = _listed(self.send("getTransactionList", batchId=batch))["rows"]
        return rows

    def statistics(self, batch: str) -> dict[str, Any]:
        reply = self.send("getBatchStatistics", batchId=batch)
        found: dict[str, Any] = dig(reply, "batch", "statistics", "statistic", 0)
        return found

    def authenticate(self) -> dict[str, Any]:
        return answer(self.send("authenticateTest"))


def _listed(reply: Any) -> dict[str, Any]:
    return {**answer(reply), "rows": many(dig(reply, "transactions", "transaction"))}
