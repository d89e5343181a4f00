"""A shared cache with a user of its own and TLS: what the documentation says is enough, and what is
wrong is said with what to do."""

import re
import ssl
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from easypay.cache.connection import CacheUnavailable
from easypay.cache.forgetting import forget_merchant
from easypay.cache.url import parse
from harness.cached_processes import Rows, processes
from harness.valkey import Valkey, proxied, running

DOCUMENTED = Path(__file__).parents[2] / "docs" / "caching.md"
LOGIN = "shop:p%40ss%2F%25"
PASSWORD = "p@ss/%"


def documented_commands() -> list[str]:
    """Return the commands that the documentation lets the user run."""
    text = " ".join(DOCUMENTED.read_text().split())
    found = re.search(r"needs the commands `([A-Z ]+)`", text)
    assert found is not None
    return found[1].lower().split()


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    may = " ".join(f"+{each}" for each in documented_commands())
    user = ["on", f">{PASSWORD}", "-@all", *may.split(), "~easypay:*"]
    folder = tmp_path_factory.mktemp("valkey")
    with running(folder, "--user", "shop", *user, "--user", "less", "on", ">x", "+hello") as server:
        yield server


class Authority:
    """Who signs the server's certificate, for `localhost`."""

    def __init__(self, folder: Path) -> None:
        ca = trustme.CA()
        self.file = folder / "ca.pem"
        ca.cert_pem.write_to_path(str(self.file))
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("localhost").configure_cert(self.server)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


async def test_the_documented_commands_are_enough_over_tls(
    valkey: Valkey, authority: Authority, database: Any, rows: Rows
) -> None:
    async with proxied(valkey, authority.server) as proxy:
        url = f"rediss://{LOGIN}@localhost:{proxy.port}/0?ca={authority.file}"
        async with processes(2, url, database) as (one, two):
            name = rows.name()
            assert await one.body(rows, name) == await two.body(rows, name) == rows.body(name)
            assert (one.queries, two.queries) == (1, 0)
            rows.versions[name] = 2
            one.caches.delete(name)
            await one.told()
            assert await two.body(rows, name) == rows.body(name)
            assert one.count("error") == two.count("error") == 0
            merchant = uuid.UUID(name.split(":")[1])
            assert await forget_merchant(parse(url), merchant, within_s=5)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://shop:wrong@127.0.0.1:{plain}", "WRONGPASS.*correct user and password"),
        ("redis://less:x@127.0.0.1:{plain}", "CLIENT.*NOPERM.*the commands that docs/caching.md"),
        ("rediss://127.0.0.1:{tls}?ca={ca}", "certificate is refused .*IP address mismatch"),
        ("rediss://localhost:{tls}", r"certificate is refused .*by \?ca=/path"),
        ("rediss://localhost:{tls}?ca=/no/such", r"file of \?ca=/no/such cannot be used"),
        ("redis://127.0.0.1:{tls}", "if the server wants TLS, write rediss://"),
    ],
)
async def test_what_is_wrong_is_said_with_what_to_do(
    valkey: Valkey, authority: Authority, url: str, said: str
) -> None:
    async with proxied(valkey, authority.server) as proxy:
        at = parse(url.format(plain=valkey.port, tls=proxy.port, ca=authority.file))
        with pytest.raises(CacheUnavailable) as refused:
            await forget_merchant(at, uuid.uuid4(), within_s=5)
    assert re.search(said, str(refused.value)), refused.value
    assert "p@ss" not in str(refused.value)
