"""Rejects methods if the account is inactive, in test mode or lacks the service."""

from collections.abc import Mapping
from typing import Final

from authorizenet_simulator.profiles import profile_requests
from authorizenet_simulator.state.settings import Service, Settings
from authorizenet_simulator.subscriptions import subscription_requests
from authorizenet_simulator.wire.replies import ApiError

_REFUSALS: Final[Mapping[Service, str]] = {
    "account": "E00008",
    "api": "E00010",
    "arb": "E00025",
    "cim": "E00044",
}
_NEEDED: Final[Mapping[Service, frozenset[str]]] = {
    "arb": frozenset(subscription_requests.METHODS),
    "cim": frozenset({*profile_requests.METHODS, "getHostedProfilePageRequest"}),
}
"""The methods that need a service; a service not named here is needed by every method."""
_NOT_IN_TEST_MODE: Final = frozenset(
    {
        "ARBCreateSubscriptionRequest",
        "ARBUpdateSubscriptionRequest",
        "createCustomerProfileTransactionRequest",
    }
)


def check(settings: Settings, method: str) -> None:
    """Check that the account may use the method. Raises ApiError E00008, E00010, E00025 or E00044
    if a needed service is switched off, E00009 if test mode forbids it."""
    for service, code in _REFUSALS.items():
        if service in settings.switched_off and method in _NEEDED.get(service, (method,)):
            raise ApiError(code)
    if settings.test_mode and method in _NOT_IN_TEST_MODE:
        raise ApiError("E00009")
