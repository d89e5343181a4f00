"""The gateway's address, opened in a browser."""

from harness import Gateway, http_client


async def test_the_root_redirects_to_the_documentation(gateway: Gateway) -> None:
    async with http_client(base_url=gateway.url, follow_redirects=True) as client:
        page = await client.get("/")
        assert (await client.head("/")).status_code == 200
        assert (await client.post("/")).status_code == 405
    assert (page.status_code, page.url.path) == (200, "/docs")
    assert page.headers["content-type"].startswith("text/html")
