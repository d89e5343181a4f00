"""What an integrator does with the official Python SDK, and what it gives back."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from authorizenet import apicontractsv1 as contracts
from authorizenet import apicontrollers as controllers
from drive import dig, many

_account = {}


def connect(url, login, key):
    _account.update(
        url=url, auth=make("merchantAuthenticationType", name=login, transactionKey=key)
    )


def make(kind, **fields):
    """One of the SDK's objects with these fields."""
    made = getattr(contracts, kind)()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def call(method, **fields):
    """The answer as a tree of dicts. The address can only be said after construction."""
    request = make(f"{method}Request", merchantAuthentication=_account["auth"], **fields)
    controller = getattr(controllers, f"{method}Controller")(request)
    controller.setenvironment(_account["url"])
    controller.execute()
    return plain(controller.getresponse())


def plain(element):
    """An element as the SDK gives it: text, or a dict of its children."""
    children = element.getchildren()
    if not children:
        return element.text or ""
    tree = {}
    for child in children:
        tree.setdefault(child.tag.rpartition("}")[2], []).append(plain(child))
    return {name: found if len(found) > 1 else found[0] for name, found in tree.items()}


def answer(tree):
    """How the call as a whole went."""
    message = dig(tree, "messages", "message", 0)
    return {
        "result": dig(tree, "messages", "resultCode"),
        "code": dig(message, "code"),
        "text": dig(message, "text"),
    }


def outcome(tree):
    """How the transaction went."""
    said = dig(tree, "transactionResponse")
    error = dig(said, "errors", "error", 0)
    return {
        **answer(tree),
        "ref_id": dig(tree, "refId"),
        "response_code": dig(said, "responseCode"),
        "reason": dig(error, "errorCode") or dig(said, "messages", "message", 0, "code"),
        "trans_id": dig(said, "transId"),
        "ref_trans_id": dig(said, "refTransID"),
        "auth_code": dig(said, "authCode"),
        "avs": dig(said, "avsResultCode"),
        "cvv": dig(said, "cvvResultCode"),
        "account": dig(said, "accountNumber"),
        "account_type": dig(said, "accountType"),
    }


def card(number="4111111111111111", expiry="2040-12", code="900"):
    return make(
        "paymentType",
        creditCard=make("creditCardType", cardNumber=number, expirationDate=expiry, cardCode=code),
    )


def bank(routing="322271627"):
    return make(
        "paymentType",
        bankAccount=make(
            "bankAccountType",
            accountType="checking",
            routingNumber=routing,
            accountNumber="00987467838473",
            nameOnAccount="Ada Lovelace",
            echeckType="WEB",
        ),
    )


def masked(last4="1111"):
    return make(
        "paymentType",
        creditCard=make("creditCardType", cardNumber=last4, expirationDate="XXXX"),
    )


def address(kind="customerAddressType", zip_code="98004", **more):
    return make(
        kind,
        firstName="Ada",
        lastName="Lovelace",
        address="12 Main Street",
        city="Bellevue",
        state="WA",
        zip=zip_code,
        country="US",
        **more,
    )


def transact(kind, **fields):
    request = make("transactionRequestType", transactionType=kind, **fields)
    return outcome(call("createTransaction", refId="ref-1", transactionRequest=request))


def charge(amount, invoice, kind="authCaptureTransaction", payment=None, **fields):
    return transact(
        kind,
        amount=Decimal(amount),
        payment=payment or card(),
        order=make("orderType", invoiceNumber=invoice, description="Robot parts"),
        billTo=address(zip_code=fields.pop("zip_code", "98004")),
        **fields,
    )


def refund(trans_id, amount, invoice):
    return transact(
        "refundTransaction",
        amount=Decimal(amount),
        payment=masked(),
        refTransId=trans_id,
        order=make("orderType", invoiceNumber=invoice),
    )


def details(trans_id):
    tree = call("getTransactionDetails", transId=trans_id)
    found = dig(tree, "transaction")
    return {
        **answer(tree),
        "trans_id": dig(found, "transId"),
        "type": dig(found, "transactionType"),
        "status": dig(found, "transactionStatus"),
        "response_code": dig(found, "responseCode"),
        "auth_amount": dig(found, "authAmount"),
        "settle_amount": dig(found, "settleAmount"),
        "invoice": dig(found, "order", "invoiceNumber"),
        "purchase_order": dig(found, "order", "purchaseOrderNumber"),
        "account": dig(found, "payment", "creditCard", "cardNumber"),
    }


def sale(simulator):
    items = make("ArrayOfLineItem")
    for number in ("1", "2"):
        items.lineItem.append(
            make("lineItemType", itemId=number, name="part", quantity=2, unitPrice=Decimal("5.25"))
        )
    done = charge(
        "21.00",
        "sale-1",
        lineItems=items,
        tax=make("extendedAmountType", amount=Decimal("1.05"), name="VAT"),
        poNumber="PO-7",
        customer=make("customerDataType", id="c-1", email="ada@example.com"),
        shipTo=address(kind="nameAndAddressType"),
        customerIP="192.0.2.1",
    )
    return {"sale": done, "details": details(done["trans_id"])}


def capture(simulator):
    held = charge("30.00", "capture-1", kind="authOnlyTransaction")
    before = details(held["trans_id"])
    taken = transact("priorAuthCaptureTransaction", refTransId=held["trans_id"])
    again = transact("priorAuthCaptureTransaction", refTransId=held["trans_id"])
    return {
        "authorization": held,
        "before": before,
        "capture": taken,
        "again": again,
        "after": details(held["trans_id"]),
    }


def partial_capture(simulator):
    held = charge("50.00", "partial-1", kind="authOnlyTransaction")

    def take(amount):
        return transact(
            "priorAuthCaptureTransaction", amount=Decimal(amount), refTransId=held["trans_id"]
        )

    return {
        "authorization": held,
        "too_much": take("50.01"),
        "capture": take("20.50"),
        "after": details(held["trans_id"]),
    }


def void(simulator):
    done = charge("12.00", "void-1")
    return {
        "sale": done,
        "void": transact("voidTransaction", refTransId=done["trans_id"]),
        "again": transact("voidTransaction", refTransId=done["trans_id"]),
        "unknown": transact("voidTransaction", refTransId="1"),
        "after": details(done["trans_id"]),
    }


def refunds(simulator):
    done = charge("40.00", "refund-1")
    early = refund(done["trans_id"], "10.00", "refund-2")
    simulator.settle()
    first = refund(done["trans_id"], "15.00", "refund-3")
    return {
        "sale": done,
        "early": early,
        "refund": first,
        "too_much": refund(done["trans_id"], "25.01", "refund-4"),
        "late_void": transact("voidTransaction", refTransId=done["trans_id"]),
        "original": details(done["trans_id"]),
        "details": details(first["trans_id"]),
    }


def decline(simulator):
    done = charge("10.00", "decline-1", zip_code="46282")
    return {"sale": done, "details": details(done["trans_id"])}


def duplicate(simulator):
    return {"first": charge("11.00", "twice"), "second": charge("11.00", "twice")}


def held(simulator):
    simulator.hold_above("100.00")

    def decide(trans_id, action):
        asked = make("heldTransactionRequestType", action=action, refTransId=trans_id)
        return outcome(call("updateHeldTransaction", heldTransactionRequest=asked))

    one, other = charge("150.00", "held-1"), charge("160.00", "held-2")
    before = details(one["trans_id"])
    listed = call("getUnsettledTransactionList", status="pendingApproval")
    return {
        "one": one,
        "before": before,
        "listed": [dig(row, "transId") for row in many(dig(listed, "transactions", "transaction"))],
        "approve": decide(one["trans_id"], "approve"),
        "decline": decide(other["trans_id"], "decline"),
        "approved": details(one["trans_id"]),
        "declined": details(other["trans_id"]),
    }


def echeck(simulator):
    return {
        "approved": charge("75.00", "echeck-1", payment=bank()),
        "declined": charge("100.01", "echeck-2", payment=bank()),
        "bad_routing": charge("75.00", "echeck-3", payment=bank("121042883")),
    }


def nonce(simulator):
    """The SDK can play the browser too, and fetch a nonce."""
    token = make(
        "webCheckOutDataTypeToken",
        cardNumber="4111111111111111",
        expirationDate="122040",
        cardCode="900",
        zip="98004",
        fullName="Ada Lovelace",
    )
    data = make(
        "webCheckOutDataType", type="TOKEN", id="11111111-2222-3333-4444-555555555555", token=token
    )
    opaque = dig(call("securePaymentContainer", data=data), "opaqueData")
    payment = make(
        "paymentType",
        opaqueData=make(
            "opaqueDataType",
            dataDescriptor=opaque["dataDescriptor"],
            dataValue=opaque["dataValue"],
        ),
    )
    return {
        "sale": charge("14.00", "nonce-1", payment=payment),
        "again": charge("15.00", "nonce-2", payment=payment),
    }


def customers(simulator):
    def profile_of(customer):
        tree = call("getCustomerProfile", customerProfileId=customer)
        found = dig(tree, "profile")
        return {
            **answer(tree),
            "email": dig(found, "email"),
            "description": dig(found, "description"),
            "merchant_id": dig(found, "merchantCustomerId"),
            "payments": len(many(dig(found, "paymentProfiles"))),
            "addresses": len(many(dig(found, "shipToList"))),
        }

    def payment_of(customer, payment):
        tree = call(
            "getCustomerPaymentProfile",
            customerProfileId=customer,
            customerPaymentProfileId=payment,
        )
        found = dig(tree, "paymentProfile")
        return {
            **answer(tree),
            "card": dig(found, "payment", "creditCard", "cardNumber"),
            "expiry": dig(found, "payment", "creditCard", "expirationDate"),
            "city": dig(found, "billTo", "city"),
        }

    def address_of(customer, shipping):
        tree = call(
            "getCustomerShippingAddress", customerProfileId=customer, customerAddressId=shipping
        )
        return {**answer(tree), "city": dig(tree, "address", "city")}

    def new_profile():
        return make(
            "customerProfileType",
            merchantCustomerId="c-77",
            description="Tom & Jerry <Ltd>",
            email="tom@example.com",
            paymentProfiles=[make("customerPaymentProfileType", payment=card(code=None))],
        )

    def new_payment(number, kind="customerPaymentProfileType", **more):
        return make(kind, billTo=address(), payment=card(number, code=None), **more)

    created = call("createCustomerProfile", profile=new_profile(), validationMode="testMode")
    customer = dig(created, "customerProfileId")
    facts = {
        "create": {
            **answer(created),
            "customer": customer,
            "payments": many(dig(created, "customerPaymentProfileIdList", "numericString")),
        },
        "duplicate": answer(call("createCustomerProfile", profile=new_profile())),
        "listed": customer in many(dig(call("getCustomerProfileIds"), "ids", "numericString")),
        "profile": profile_of(customer),
        "update": answer(
            call(
                "updateCustomerProfile",
                profile=make(
                    "customerProfileInfoExType",
                    merchantCustomerId="c-77",
                    description="One robot",
                    email="jerry@example.com",
                    customerProfileId=customer,
                ),
            )
        ),
        "updated": profile_of(customer),
    }
    added = call(
        "createCustomerPaymentProfile",
        customerProfileId=customer,
        paymentProfile=new_payment("5424000000000015"),
        validationMode="testMode",
    )
    payment = dig(added, "customerPaymentProfileId")
    facts["add_payment"] = answer(added)
    facts["direct_response"] = dig(added, "validationDirectResponse")
    facts["same_payment"] = answer(
        call(
            "createCustomerPaymentProfile",
            customerProfileId=customer,
            paymentProfile=new_payment("5424000000000015"),
        )
    )
    facts["payment"] = payment_of(customer, payment)
    changed = make(
        "customerPaymentProfileExType",
        billTo=address(),
        payment=card("XXXX0015", "2041-01", code=None),
        customerPaymentProfileId=payment,
    )
    changed.billTo.city = "Renton"
    facts["update_payment"] = answer(
        call("updateCustomerPaymentProfile", customerProfileId=customer, paymentProfile=changed)
    )
    facts["updated_payment"] = payment_of(customer, payment)
    validated = call(
        "validateCustomerPaymentProfile",
        customerProfileId=customer,
        customerPaymentProfileId=payment,
        cardCode="900",
        validationMode="liveMode",
    )
    facts["validate"] = {**answer(validated), "direct": dig(validated, "directResponse")}
    added = call("createCustomerShippingAddress", customerProfileId=customer, address=address())
    shipping = dig(added, "customerAddressId")
    facts["add_address"] = answer(added)
    facts["address"] = address_of(customer, shipping)
    moved = address("customerAddressExType", customerAddressId=shipping)
    moved.city = "Tacoma"
    facts["update_address"] = answer(
        call("updateCustomerShippingAddress", customerProfileId=customer, address=moved)
    )
    facts["updated_address"] = address_of(customer, shipping)
    facts["full"] = profile_of(customer)

    def charge_profile(which, kind="authCaptureTransaction", amount="17.00"):
        return transact(
            kind,
            amount=Decimal(amount),
            profile=make(
                "customerProfilePaymentType",
                customerProfileId=which,
                paymentProfile=make("paymentProfile", paymentProfileId=payment),
            ),
            order=make("orderType", invoiceNumber="customer-1"),
        )

    facts["charge"] = charge_profile(customer)
    facts["charge_details"] = details(facts["charge"]["trans_id"])
    facts["charge_nobody"] = charge_profile("1")
    paid = call("getTransactionListForCustomer", customerProfileId=customer)
    facts["paid"] = [dig(row, "transId") for row in many(dig(paid, "transactions", "transaction"))]
    ids = {"customerProfileId": customer}
    payment_ids = {**ids, "customerPaymentProfileId": payment}
    address_ids = {**ids, "customerAddressId": shipping}
    for name, method, said in (
        ("address", "deleteCustomerShippingAddress", address_ids),
        ("payment", "deleteCustomerPaymentProfile", payment_ids),
        ("customer", "deleteCustomerProfile", ids),
    ):
        facts[f"delete_{name}"] = answer(call(method, **said))
        facts[f"delete_{name}_again"] = answer(call(method, **said))
    facts["gone"] = answer(call("getCustomerProfile", **ids))
    return facts


def profile_of_a_sale(simulator):
    sold = make(
        "transactionRequestType",
        transactionType="authCaptureTransaction",
        amount=Decimal("16.00"),
        payment=card(),
        profile=make("customerProfilePaymentType", createProfile=True),
        order=make("orderType", invoiceNumber="kept-1"),
        customer=make("customerDataType", id="c-9", email="kept@example.com"),
        billTo=address(),
    )
    tree = call("createTransaction", transactionRequest=sold)
    kept = dig(tree, "profileResponse")
    later = call(
        "createCustomerProfileFromTransaction",
        transId=charge("19.00", "kept-2")["trans_id"],
        customer=make("customerProfileBaseType", email="later@example.com"),
    )
    return {
        "sale": outcome(tree),
        "kept": answer(kept),
        "payments": many(dig(kept, "customerPaymentProfileIdList", "numericString")),
        "email": dig(
            call("getCustomerProfile", customerProfileId=dig(kept, "customerProfileId")),
            "profile",
            "email",
        ),
        "later": answer(later),
    }


def subscriptions(simulator):
    def new(amount):
        return make(
            "ARBSubscriptionType",
            name="Robot plan",
            paymentSchedule=make(
                "paymentScheduleType",
                interval=make("paymentScheduleTypeInterval", length=1, unit="months"),
                startDate=(datetime.now(UTC) + timedelta(30)).date().isoformat(),
                totalOccurrences=12,
                trialOccurrences=1,
            ),
            amount=Decimal(amount),
            trialAmount=Decimal("1.00"),
            payment=card(code=None, expiry="2045-12"),
            order=make("orderType", invoiceNumber="sub-1", description="Robots"),
            billTo=address("nameAndAddressType"),
        )

    def status(which):
        tree = call("ARBGetSubscriptionStatus", subscriptionId=which)
        return {**answer(tree), "status": dig(tree, "status")}

    created = call("ARBCreateSubscription", refId="sub", subscription=new("29.90"))
    subscription = dig(created, "subscriptionId")
    facts = {
        "create": {**answer(created), "subscription": subscription},
        "duplicate": answer(call("ARBCreateSubscription", subscription=new("29.90"))),
        "status": status(subscription),
    }
    facts["update"] = answer(
        call(
            "ARBUpdateSubscription",
            subscriptionId=subscription,
            subscription=make("ARBSubscriptionType", amount=Decimal("31.50")),
        )
    )
    found = call("ARBGetSubscription", subscriptionId=subscription)
    facts["get"] = {
        **answer(found),
        "name": dig(found, "subscription", "name"),
        "amount": dig(found, "subscription", "amount"),
        "status": dig(found, "subscription", "status"),
        "unit": dig(found, "subscription", "paymentSchedule", "interval", "unit"),
    }

    def listed(search):
        tree = call(
            "ARBGetSubscriptionList",
            searchType=search,
            sorting=make("ARBGetSubscriptionListSorting", orderBy="id", orderDescending=False),
            paging=make("Paging", limit=100, offset=1),
        )
        rows = many(dig(tree, "subscriptionDetails", "subscriptionDetail"))
        return [dig(row, "id") for row in rows]

    facts["active"] = listed("subscriptionActive")
    facts["cancel"] = answer(call("ARBCancelSubscription", subscriptionId=subscription))
    facts["cancel_again"] = answer(call("ARBCancelSubscription", subscriptionId=subscription))
    facts["cancelled"] = status(subscription)
    facts["inactive"] = listed("subscriptionInactive")
    facts["late_update"] = answer(
        call(
            "ARBUpdateSubscription",
            subscriptionId=subscription,
            subscription=make("ARBSubscriptionType", amount=Decimal("32.50")),
        )
    )
    facts["unknown"] = status("1")
    return facts


def reporting(simulator):
    def summary(row):
        return {
            "trans_id": dig(row, "transId"),
            "status": dig(row, "transactionStatus"),
            "invoice": dig(row, "invoiceNumber"),
            "amount": dig(row, "settleAmount"),
        }

    def transactions(tree):
        return [summary(row) for row in many(dig(tree, "transactions", "transaction"))]

    nothing = call("getUnsettledTransactionList")
    first, second = charge("10.00", "report-1"), charge("20.25", "report-2")
    unsettled = call("getUnsettledTransactionList")
    simulator.settle()
    back = refund(first["trans_id"], "4.00", "report-3")
    batches = call("getSettledBatchList", includeStatistics=True)
    batch = dig(batches, "batchList", "batch", 0)
    statistics = call("getBatchStatistics", batchId=dig(batch, "batchId"))
    counted = dig(statistics, "batch", "statistics", "statistic", 0)
    merchant = call("getMerchantDetails")
    return {
        "sales": [first["trans_id"], second["trans_id"]],
        "unsettled": transactions(unsettled),
        "after": transactions(call("getUnsettledTransactionList")),
        "refund": back["trans_id"],
        "batches": len(many(dig(batches, "batchList", "batch"))),
        "batch_state": dig(batch, "settlementState"),
        "in_batch": transactions(call("getTransactionList", batchId=dig(batch, "batchId"))),
        "charges": dig(counted, "chargeCount"),
        "charged": dig(counted, "chargeAmount"),
        "nothing": {**answer(nothing), "rows": transactions(nothing)},
        "unknown": answer(call("getTransactionDetails", transId="1")),
        "merchant": {
            **answer(merchant),
            "currencies": many(dig(merchant, "currencies", "currency")),
            "name": dig(merchant, "merchantName"),
            "key": dig(merchant, "publicClientKey"),
        },
    }


def hosted_page(simulator):
    settings = make("ArrayOfSetting")
    settings.setting.append(
        make(
            "settingType",
            settingName="hostedPaymentReturnOptions",
            settingValue='{"showReceipt": true, "url": "https://shop.example/done"}',
        )
    )
    asked = make(
        "transactionRequestType", transactionType="authCaptureTransaction", amount=Decimal("99.00")
    )
    tree = call("getHostedPaymentPage", transactionRequest=asked, hostedPaymentSettings=settings)
    customer = call(
        "createCustomerProfile", profile=make("customerProfileType", email="page@example.com")
    )
    back = make("ArrayOfSetting")
    back.setting.append(
        make(
            "settingType",
            settingName="hostedProfileReturnUrl",
            settingValue="https://shop.example/account",
        )
    )
    profile = call(
        "getHostedProfilePage",
        customerProfileId=dig(customer, "customerProfileId"),
        hostedProfileSettings=back,
    )
    return {
        "payment": {**answer(tree), "token": dig(tree, "token")},
        "profile": {**answer(profile), "token": dig(profile, "token")},
    }


def credentials(simulator):
    good = answer(call("authenticateTest"))
    right = _account["auth"]
    _account["auth"] = make(
        "merchantAuthenticationType", name=simulator.login, transactionKey="not-the-key"
    )
    try:
        wrong = answer(call("authenticateTest"))
        refused = charge("10.00", "credentials-1")
    finally:
        _account["auth"] = right
    return {"good": good, "wrong": wrong, "charge": refused}


SCENARIOS = {
    done.__name__: done
    for done in (
        sale, capture, partial_capture, void, refunds, decline, duplicate, held, echeck, nonce,
        customers, profile_of_a_sale, subscriptions, reporting, hosted_page, credentials,
    )
}  # fmt: skip
