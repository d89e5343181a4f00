"""Authentication by transaction key, client key or a mobile device's session token."""

import secrets
from typing import Final

from authorizenet_simulator.state import device_sessions
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.transactions import reporting
from authorizenet_simulator.wire.codes import MESSAGES
from authorizenet_simulator.wire.replies import ApiError, Reply, Tree

_UNSUPPORTED_CREDENTIALS: Final = frozenset(
    {"password", "impersonationAuthentication", "fingerPrint", "clientKey", "accessToken"}
)
"""Kinds of credentials that no account here is configured for."""
_PERMISSIONS: Final = (
    "API_Merchant_BasicReporting",
    "Submit_Charge",
    "Submit_Refund",
    "Submit_Update",
    "Mobile_Admin",
)


def authenticate(ledger: Ledger, method: str, body: Tree, now: int) -> Account:
    """Return the account that the request authenticates as. Raises ApiError E00005, E00006, E00007,
    and E00059 for a client key with a method that does not accept one."""
    auth: Tree = body["merchantAuthentication"]
    if (token := auth.get("sessionToken")) is not None:
        return _of_session(ledger, auth, token, now)
    name = auth.get("name")
    if name is None:
        raise ApiError("E00006")
    account = ledger.accounts.get(name)
    if method == "securePaymentContainerRequest" and (key := auth.get("clientKey")):
        expected = "" if account is None else reporting.client_key(account)
    else:
        key = auth.get("transactionKey")
        if key is None:
            if account is not None and auth.get("clientKey") == reporting.client_key(account):
                raise ApiError("E00059")
            raise ApiError("E00005" if _UNSUPPORTED_CREDENTIALS.isdisjoint(auth) else "E00007")
        expected = "" if account is None else account.transaction_key
    if account is None or key != expected:
        raise ApiError("E00007")
    return account


def _of_session(ledger: Ledger, auth: Tree, token: str, now: int) -> Account:
    opened = ledger.sessions.find(token, now)
    if opened is None:
        raise ApiError("E00007")
    for given, expected in (("name", opened.login), ("mobileDeviceId", opened.device)):
        if auth.get(given, expected) != expected:
            raise ApiError("E00007")
    return ledger.accounts[opened.login]


def accept(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """authenticateTestRequest: answer Ok, as the credentials are checked already."""
    return Reply({})


def register_device(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """mobileDeviceRegistrationRequest: enable the device at once, or disable it."""
    device = body["mobileDevice"]
    enabled = device.get("deviceActivation") != "Disable"
    ledger.do(device_sessions.DeviceRegistered(account.login, device["mobileDeviceId"], enabled))
    return Reply({}, "Ok", "I00006", MESSAGES["I00006"]) if enabled else Reply({})


def log_in(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """mobileDeviceLoginRequest: open a session. Raises ApiError E00054 for a device that is not
    registered, E00056 for a disabled one; a login may name no device."""
    device = body["merchantAuthentication"].get("mobileDeviceId", "")
    if device:
        enabled = ledger.sessions.device(account.login, device)
        if enabled is None:
            raise ApiError("E00054")
        if not enabled:
            raise ApiError("E00056")
    token = secrets.token_urlsafe(32)
    ledger.do(device_sessions.SessionOpened(token, account.login, device, now))
    return Reply(
        {
            "merchantContact": {"merchantName": account.login},
            "userPermissions": [{"permissionName": name} for name in _PERMISSIONS],
            "merchantAccount": {"marketType": "0", "deviceType": "7"},
            "sessionToken": token,
        }
    )


def log_out(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """logoutRequest: invalidate the session token."""
    token = body["merchantAuthentication"].get("sessionToken")
    if token is not None:
        ledger.do(device_sessions.SessionClosed(token))
    return Reply({})
