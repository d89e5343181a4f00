"""Settings that no payment could be made with end the start, and say what to write."""

from typing import Any

import pytest
from pydantic import ValidationError

from easypay.settings import PRODUCTION_URL, SANDBOX_URL, Settings

BAD = (
    "ftp://bank.example/",
    "bank.example/pay",
    "http://",
    "https:///pay",
    "http://bank.example:99999/",
    "http://bank.example:0/",
    "http://bank.example:port/",
    "http://[::1/",
    "https://bänk.example/",
    "https://bank.example/a b",
)
GOOD = ("https://bank.example/pay", "http://127.0.0.1:8080", "http://[::1]:8080/pay?x=1")


def settings(**given: Any) -> Settings:
    return Settings(database_url="postgresql://a/b", encryption_key="k", **given)


@pytest.mark.parametrize("url", BAD)
@pytest.mark.parametrize("name", ["authorize_net_test_url", "authorize_net_live_url"])
def test_an_address_without_a_host_is_refused(name: str, url: str) -> None:
    with pytest.raises(ValidationError, match="is no address: use https://host/path"):
        settings(**{name: url})
    with pytest.raises(ValidationError, match="use "):
        settings(processor_urls=f"other.test={url}")


@pytest.mark.parametrize("url", GOOD)
def test_an_address_may_have_a_port_and_be_one_of_ipv6(url: str) -> None:
    assert settings(authorize_net_test_url=url).authorize_net_test_url == url
    found = settings(processor_urls=f"other.test={url}").processor_addresses
    assert found["other.test"] == url


def test_an_empty_address_is_the_processors_own() -> None:
    found = settings(authorize_net_test_url="", authorize_net_live_url="")
    assert found.authorize_net_test_url == SANDBOX_URL
    assert found.authorize_net_live_url == PRODUCTION_URL


@pytest.mark.parametrize(
    ("batch_days", "key_days", "kept_days"), [(90, 30, 90), (1, 30, 30), (90, 400, 400)]
)
def test_a_batch_is_kept_for_as_long_as_keys_are(
    batch_days: int, key_days: int, kept_days: int
) -> None:
    """An upload that is repeated with its key would run the whole file a second time."""
    given = settings(batch_days=batch_days, idempotency_key_days=key_days)
    assert given.batches_kept_days == kept_days
