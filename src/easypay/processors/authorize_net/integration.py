"""Authorize.Net as the gateway's registry knows it."""

from typing import Final

from easypay.processors.authorize_net.notifications import AuthorizeNetNotifications
from easypay.processors.base import Processor
from easypay.processors.integration import ClientOptions, Integration
from easypay.settings import PRODUCTION_URL, SANDBOX_URL

_BOTH: Final = ("login_id", "transaction_key")


def _make(options: ClientOptions) -> Processor:
    # `easypay up` reads this table, but sends nothing: it starts sooner without the client.
    from easypay.processors.authorize_net.processor import AuthorizeNet
    from easypay.processors.host_names import HostNames

    return AuthorizeNet(
        connect_timeout_s=options.connect_timeout_s,
        max_connections=options.max_connections,
        connection_age_s=options.connection_age_s,
        names=HostNames(resolver=options.resolver, stale_s=options.dns_stale_s),
        after_write=options.after_write,
        more_headers=options.more_headers,
    )


AUTHORIZE_NET: Final = Integration(
    name="authorize_net",
    urls={"test": SANDBOX_URL, "live": PRODUCTION_URL},
    credentials={"login_id": 25, "transaction_key": 16},
    make=_make,
    optional={"signature_key": 128},
    notifications=AuthorizeNetNotifications(),
    refused_fields={"E00005": ("transaction_key",), "E00006": ("login_id",), "E00007": _BOTH},
)
