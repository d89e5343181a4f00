"""The gateway's address, opened in a browser."""

import httpx

from harness import Gateway


async def test_the_root_redirects_to_the_documentation(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, follow_redirects=True) as client:
        page = await client.get("/")
        assert (await client.head("/")).status_code == 200
        assert (await client.post("/")).status_code == 405
    assert (page.status_code, page.url.path) == (200, "/docs")
    assert page.headers["content-type"].startswith("text/html")
