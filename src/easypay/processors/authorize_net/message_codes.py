"""Authorize.Net's top-level message codes: their texts, and what each proves in a reply without a
transaction. Data only.

Account refused: our credentials or account, before anything was processed.
Rejected: refused before a transaction was made, for its shape, a field or a permission.
Unknown: failures inside Authorize.Net, "unsuccessful" without more, and codes of calls that we do
not make: money may have moved. A code not named here is unknown too.
"""

from collections.abc import Mapping
from typing import Final, Literal

Advice = Literal["never", "other_method", "corrected", "later", "after_setup"]
"""What a merchant may do after a refusal; `reason_meanings` explains each word."""

ACCOUNT_REFUSED: Final[Mapping[str, str]] = {
    "E00005": "The transaction key or API key is invalid or not present.",
    "E00006": "The API user name is invalid or not present.",
    "E00007": "User authentication failed due to invalid authentication values.",
    "E00008": "User authentication failed. The account or API user is inactive.",
    "E00009": "The payment gateway account is in Test Mode. The request cannot be processed.",
    "E00010": "User authentication failed. You do not have the appropriate permissions.",
    "E00011": "Access denied. You do not have the appropriate permissions.",
}
"""Code -> what it says about our credentials or account."""

_REJECTED: Final[Mapping[tuple[str, Advice], Mapping[str, str]]] = {
    ("generic_error", "after_setup"): {
        "E00002": "The content-type specified is not supported.",
        "E00004": "The name of the requested API method is invalid.",
        "E00045": "The root node does not reference a valid XML namespace.",
        "E00060": "The transaction type is invalid.",
    },
    ("generic_error", "corrected"): {
        "E00003": "An error occurred while parsing the XML request.",
        "E00013": "The field is invalid.",
        "E00014": "A required field is not present.",
        "E00015": "The field length is invalid.",
        "E00016": "The field type is invalid.",
        "E00052": "The maximum number of elements for an array {0} is {1}.",
        "E00067": "An error occurred while parsing the XML request. Too many {0} specified.",
        "E00068": "An error occurred while parsing the XML request. {0} is invalid.",
        "E00071": "{0} must contain data.",
        "E00072": "Node {0} is required.",
        "E00073": "{0} is invalid.",
        "E00075": "An error occurred while parsing the XML request. Missing field(s) {0}.",
        "E00076": "{0} contains invalid value.",
        "E00077": "The value of {0} is too long. The length of value should be {1}",
        "E00082": "Country for {0} is not valid.",
        "E00085": "State for {0} is not valid.",
        "E00088": "ProfileIds cannot be sent when requesting CreateProfile.",
        "E00089": "Payment data is required when requesting CreateProfile.",
        "E00090": "PaymentProfile cannot be sent with payment data.",
        "E00091": "PaymentProfileId cannot be sent with payment data.",
        "E00092": "ShippingProfileId cannot be sent with ShipTo data.",
        "E00093": "PaymentProfile cannot be sent with billing data.",
    },
    ("account_not_set_up", "after_setup"): {
        "E00044": "Customer Information Manager is not enabled.",
        "E00059": "The authentication type is not allowed for this method call.",
        "E00064": "Client authorization denied.",
        "E00079": "The impersonation login ID is invalid or not present.",
        "E00080": "The impersonation API Key is invalid or not present.",
        "E00081": "Partner account is not authorized to impersonate the login account.",
        "E00096": "Finger Print value is not valid.",
    },
    ("transaction_not_found", "never"): {
        "E00040": "The record cannot be found.",
        "E00051": "The original transaction was not issued for this payment profile.",
    },
    ("stored_method_not_found", "other_method"): {
        "E00095": "ShippingProfileId is not provided within Customer Profile.",
        "E00098": "Customer Profile ID or Shipping Profile ID not found.",
        "E00121": "No default payment/shipping profile found.",
    },
    ("invalid_payment_token", "other_method"): {
        "E00114": "Invalid OTS Token.",
        "E00116": "OTS Token access violation",
        "E00117": "OTS Service Error 'Field validation error.'",
    },
    ("card_not_accepted", "other_method"): {
        "E00084": "Credit card payment method is not accepted for the selected business country.",
    },
    ("bank_account_not_accepted", "other_method"): {
        "E00083": "Bank payment method is not accepted for the selected business country.",
    },
}
"""(Our decline code, what may be done next) -> their codes and texts."""

_UNKNOWN: Final[Mapping[str, str]] = {
    "I00001": "Successful.",
    "I00002": "The subscription has already been canceled.",
    "I00003": "The record has already been deleted.",
    "I00004": "No records found.",
    "I00005": "The mobile device has been submitted for approval by the account administrator.",
    "I00006": "The mobile device is approved and ready for use.",
    "I00007": "The Payment Gateway Account service (id=8) has already been accepted.",
    "I00008": "The Payment Gateway Account service (id=8) has already been declined.",
    "I00009": "The APIUser already exists.",
    "I00010": "The merchant is activated successfully.",
    "I00011": "The merchant is not activated.",
    "I99999": "This feature has not yet been completed. One day it will be but it looks like "
    "today is not that day.",
    "E00001": "An error occurred during processing. Please try again.",
    "E00012": "A duplicate subscription already exists.",
    "E00017": "The start date cannot occur in the past.",
    "E00018": "The credit card expires before the subscription start date.",
    "E00019": "The customer tax id or drivers license information is required.",
    "E00020": "The payment gateway account is not enabled for eCheck.Net subscriptions.",
    "E00021": "The payment gateway account is not enabled for credit card subscriptions.",
    "E00022": "The interval length cannot exceed 365 days or 12 months.",
    "E00023": "The subscription duration cannot exceed three years.",
    "E00024": "Trial Occurrences is required when Trial Amount is specified.",
    "E00025": "Automated Recurring Billing is not enabled.",
    "E00026": "Both Trial Amount and Trial Occurrences are required.",
    "E00027": "The transaction was unsuccessful.",
    "E00028": "Trial Occurrences must be less than Total Occurrences.",
    "E00029": "Payment information is required.",
    "E00030": "The payment schedule is required.",
    "E00031": "The amount is required.",
    "E00032": "The start date is required.",
    "E00033": "The start date cannot be changed.",
    "E00034": "The interval information cannot be changed.",
    "E00035": "The subscription cannot be found.",
    "E00036": "The payment type cannot be changed.",
    "E00037": "The subscription cannot be updated.",
    "E00038": "The subscription cannot be canceled.",
    "E00039": "A duplicate record already exists.",
    "E00041": "One or more fields must contain a value.",
    "E00042": "You cannot add more than {0} payment profiles.",
    "E00043": "You cannot add more than {0} shipping addresses.",
    "E00046": "Generic InsertNewMerchant failure.",
    "E00047": "Merchant Boarding API is not enabled.",
    "E00048": "At least one payment method must be set in payment types or an echeck service "
    "must be provided.",
    "E00049": "The operation timed out before it could be completed.",
    "E00050": "Sell Rates cannot be less than Buy Rates",
    "E00053": "Server too busy",
    "E00054": "The mobile device is not registered with this merchant account.",
    "E00055": "The mobile device has already been registered but is pending approval by the "
    "account administrator.",
    "E00056": "The mobile device has been disabled for use with this account.",
    "E00057": "The user does not have permissions to submit requests from a mobile device.",
    "E00058": "The merchant has met or exceeded the number of pending mobile devices "
    "permitted for this account.",
    "E00061": "{0}({1}).",
    "E00062": "Fatal error when calling web service.",
    "E00063": "Calling web service return error.",
    "E00065": "Prerequisite failed.",
    "E00066": "Invalid value.",
    "E00069": "The Payment Gateway Account service (id=8) has already been accepted. Decline "
    "is not allowed.",
    "E00070": "The Payment Gateway Account service (id=8) has already been declined. Agree "
    "is not allowed.",
    "E00074": "This merchant is not associated with this reseller.",
    "E00078": "Pending Status (not completed).",
    "E00086": "Merchant has declined authorization to resource.",
    "E00087": "No subscriptions found for the given request.",
    "E00094": "Paging Offset exceeds the maximum allowed value.",
    "E00097": "Finger Print can't be generated.",
    "E00099": "Customer profile creation failed. This transaction ID is invalid.",
    "E00100": "Customer profile creation failed. This transaction type does not support "
    "profile creation.",
    "E00101": "Customer profile creation failed.",
    "E00102": "Customer Info is missing.",
    "E00103": "Customer profile creation failed. This payment method does not support "
    "profile creation.",
    "E00104": "Server in maintenance",
    "E00105": "The specified payment profile is associated with an active or suspended "
    "subscription and cannot be deleted.",
    "E00106": "The specified customer profile is associated with an active or suspended "
    "subscription and cannot be deleted.",
    "E00107": "The specified shipping profile is associated with an active or suspended "
    "subscription and cannot be deleted.",
}

API_REJECTED: Final[Mapping[str, tuple[str, Advice]]] = {
    code: ours for ours, theirs in _REJECTED.items() for code in theirs
}
"""Their code -> our decline code, and what may be done next."""

TEXTS: Final[Mapping[str, str]] = {
    code: text
    for theirs in (ACCOUNT_REFUSED, *_REJECTED.values(), _UNKNOWN)
    for code, text in theirs.items()
}
"""Every code we know -> its text."""
