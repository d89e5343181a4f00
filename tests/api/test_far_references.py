"""A reference of 20 characters that no operation of ours can have finds nothing."""

import pytest

from harness import Shop

FAR = ("Z" * 20, "77777777777777777777", "0" * 20)


@pytest.mark.parametrize("reference", FAR)
async def test_a_reference_that_is_not_ours_finds_nothing(shop: Shop, reference: str) -> None:
    await shop.paid(2500)
    found = await shop.client.get("/payments", params={"processor_reference": reference})
    assert (found.status_code, found.json().get("data")) == (200, []), found.text
    paged = await shop.client.get(
        "/payments", params={"processor_reference": reference, "page": 1, "size": 5}
    )
    assert paged.status_code == 200, paged.text
    exported = await shop.client.get(
        "/payments",
        params={"processor_reference": reference},
        headers={"accept": "application/jsonl"},
    )
    assert exported.status_code in (200, 403), exported.text
