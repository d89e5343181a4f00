"""Authentication: transaction keys, client keys, and session tokens of mobile devices."""

import secrets
from typing import Final

from authorizenet_simulator.state import device_sessions
from authorizenet_simulator.state.accounts import Account
from authorizenet_simulator.state.ledger import Ledger
from authorizenet_simulator.transactions import reporting
from authorizenet_simulator.wire.codes import MESSAGES
from authorizenet_simulator.wire.replies import ApiError, Reply, Tree

_OTHER_WAYS: Final = frozenset(
    {"password", "impersonationAuthentication", "fingerPrint", "clientKey", "accessToken"}
)
"""Ways to prove who one is that no account here is set up for."""
_PERMISSIONS: Final = (
    "API_Merchant_BasicReporting",
    "Submit_Charge",
    "Submit_Refund",
    "Submit_Update",
    "Mobile_Admin",
)


def authenticate(ledger: Ledger, method: str, body: Tree, now: int) -> Account:
    """Whose credentials a checked request carries. Raises ApiError E00005, E00006, E00007, and
    E00059 for a browser's key with a method that is not for browsers."""
    said: Tree = body["merchantAuthentication"]
    if (token := said.get("sessionToken")) is not None:
        return _of_session(ledger, said, token, now)
    name = said.get("name")
    if name is None:
        raise ApiError("E00006")
    account = ledger.accounts.get(name)
    if method == "securePaymentContainerRequest" and (key := said.get("clientKey")):
        expected = "" if account is None else reporting.client_key(account)
    else:
        key = said.get("transactionKey")
        if key is None:
            if account is not None and said.get("clientKey") == reporting.client_key(account):
                raise ApiError("E00059")
            raise ApiError("E00005" if _OTHER_WAYS.isdisjoint(said) else "E00007")
        expected = "" if account is None else account.transaction_key
    if account is None or key != expected:
        raise ApiError("E00007")
    return account


def _of_session(ledger: Ledger, said: Tree, token: str, now: int) -> Account:
    opened = ledger.sessions.find(token, now)
    if opened is None:
        raise ApiError("E00007")
    for given, expected in (("name", opened.login), ("mobileDeviceId", opened.device)):
        if said.get(given, expected) != expected:
            raise ApiError("E00007")
    return ledger.accounts[opened.login]


def accept(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """authenticateTestRequest: that the credentials were right is the whole answer."""
    return Reply({})


def register_device(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """mobileDeviceRegistrationRequest: approved at once; the same request switches it off."""
    device = body["mobileDevice"]
    enabled = device.get("deviceActivation") != "Disable"
    ledger.do(device_sessions.DeviceRegistered(account.login, device["mobileDeviceId"], enabled))
    return Reply({}, "Ok", "I00006", MESSAGES["I00006"]) if enabled else Reply({})


def log_in(ledger: Ledger, account: Account, body: Tree, now: int) -> Reply:
    """mobileDeviceLoginRequest: a session token. Raises ApiError: E00054 for a device that is not
    registered, E00056 for one that is switched off; a login without a device needs none."""
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
    """logoutRequest: its session token is worth nothing from now on."""
    token = body["merchantAuthentication"].get("sessionToken")
    if token is not None:
        ledger.do(device_sessions.SessionClosed(token))
    return Reply({})
