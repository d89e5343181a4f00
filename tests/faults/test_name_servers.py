"""Payments go to the processor by its name, and go on while its name server is away."""

from pathlib import Path

import pytest

from dns_server import Records, dns_serving
from easypay.addresses import resolver_address
from easypay.db.embedded import Cluster
from harness import QUICK, Simulator, audit, stack_over, until
from harness.metrics import counted

NAME = "processor.example"


async def test_payments_go_on_while_the_name_server_fails(
    cluster: Cluster, template: str, simulator: Simulator, tmp_path: Path
) -> None:
    there = Records(("127.0.0.1",), ttl=0)
    async with dns_serving() as dns, stack_over(cluster, template, simulator, tmp_path) as stack:
        host, port = dns.address
        gateway = await stack.gateway(
            **QUICK | {"not_sent_ends_after_s": "30", "processor_deadline_s": "10"},
            authorize_net_test_url=f"http://{NAME}:{simulator.port}/xml/v1/request.api",
            processor_resolver=f"{host}:{port}",
        )
        shop = await stack.shop(gateway)
        key = "before-there-is-a-name"
        refused = await shop.pay(key=key)
        assert (refused.status_code, refused.json()["code"]) == (503, "processor_unavailable")
        dns.set(NAME, there)
        dns.records[NAME, "AAAA"] = Records(way="silent")

        async def paid() -> bool:  # that there is no such name is believed for a second
            return (await shop.pay(key=key)).status_code == 201

        await until(paid, what="the payment is repeated once there is a name")
        dns.set(NAME, Records(way="servfail"), Records(way="servfail"))
        for _ in range(3):
            await shop.paid()
        assert await audit(stack, shop) == []

        async def metric(name: str, **labels: str) -> float:
            return await counted(gateway.url, name, processor="authorize_net", **labels)

        assert await metric("easypay_processor_connections_made_total", result="opened") >= 1
        assert await metric("easypay_processor_connection_reuses_total") >= 3
        assert await metric("easypay_processor_connections", state="idle") >= 1
        assert await metric("easypay_processor_connection_age_seconds") > 0
        assert await metric("easypay_dns_lookups_total", result="found") >= 1
        assert await metric("easypay_dns_lookups_total", result="absent") >= 2


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.2", ("10.0.0.2", 53)),
        ("10.0.0.2:5353", ("10.0.0.2", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("dns.example", None),
        ("dns.example:53", None),
        ("10.0.0.2:0", None),
    ],
)
def test_a_resolver_is_named_by_its_address(text: str, address: tuple[str, int] | None) -> None:
    if address is None:
        with pytest.raises(ValueError):  # noqa: PT011
            resolver_address(text)
    else:
        assert resolver_address(text) == address
