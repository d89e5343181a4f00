"""The sizes and times in nginx.conf are those of the gateway."""

import re

from easypay.api.http import MAX_BODY
from easypay.server.serve import KEEP_ALIVE_S
from easypay.settings import Settings
from harness.nginx import CONFIGURATION

UNITS = {"k": 1024, "s": 1, "": 1}


def configured(name: str) -> int:
    """Return the last number of a line, such as `client_max_body_size 128k;`, where it stands."""
    (found,) = re.findall(rf"^ *{name} (?:\d+ )?(\d+)([ks]?);", CONFIGURATION.read_text(), re.M)
    return int(found[0]) * UNITS[found[1]]


def test_nginx_and_the_gateway_agree() -> None:
    settings = Settings(database_url="postgresql://a/b", encryption_key="k")
    # The gateway refuses first, in its own words; and what nginx takes, it keeps in memory.
    assert configured("client_max_body_size") == 2 * MAX_BODY
    assert configured("client_body_buffer_size") == configured("client_max_body_size")
    assert configured("large_client_header_buffers") == settings.max_head_bytes
    assert configured("client_header_timeout") == settings.head_timeout_s
    assert configured("client_body_timeout") == settings.body_timeout_s
    assert configured("send_timeout") == settings.answer_timeout_s
    # nginx gives up a connection first, and waits longer than the longest payment.
    (to_gateway, *_) = re.findall(r"keepalive_timeout (\d+)s;", CONFIGURATION.read_text())
    assert int(to_gateway) < KEEP_ALIVE_S
    longest = settings.database_patience_s + settings.processor_deadline_s
    assert configured("proxy_read_timeout") > longest + settings.record_patience_s
    assert configured("limit_conn addresses") == settings.max_connections_per_address
