"""A real nginx before a test's gateways, with the configuration of deploy/cdn."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
from functools import cached_property
from pathlib import Path

import httpx
import pytest
import trustme

from harness.processes import free_port
from harness.waiting import until

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "cdn" / "nginx.conf"
HOST = "pay.example.com"
GATEWAYS = ("127.0.0.1:8000", "127.0.0.1:8001")
_SPOOL = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Nginx:
    """nginx with TLS before some gateways, given as `host:port`, in the order of their turns."""

    def __init__(self, folder: Path, *gateways: str) -> None:
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            pytest.skip("nginx is not installed: run tests/install-servers as root")
        self.port = free_port()
        self.url = f"https://{HOST}:{self.port}"
        self.folder = folder
        self.cache = folder / "cache"
        self.spool = folder / "spool"
        self._ca = trustme.CA()
        folder.mkdir()
        self.spool.mkdir()
        self._write(gateways)
        # Without its own user, which may not read a test's folder.
        user = "user root;" if os.getuid() == 0 else ""
        self._process = subprocess.Popen(
            [program, *f"-p {folder} -c nginx.conf -e error.log -g".split(), f"daemon off; {user}"],
            stderr=subprocess.DEVNULL,
        )

    def _write(self, gateways: tuple[str, ...]) -> None:
        pem = self.folder / "certificate.pem"
        self._ca.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(pem))
        text = CONFIGURATION.read_text()
        spools = "".join(f"    {each}_temp_path {self.spool / each};\n" for each in _SPOOL)
        for before, after in {
            "worker_processes auto": "worker_processes 1",
            "worker_rlimit_nofile 65536;\n": "",
            "worker_connections 16384": "worker_connections 512",
            "/run/nginx.pid": f"{self.folder}/pid",
            "/var/log/nginx": str(self.folder),
            "/var/cache/nginx/easypay": str(self.cache),
            "/etc/ssl/pay.example.com.pem": str(pem),
            "/etc/ssl/private/pay.example.com.key": str(pem),
            "listen 443": f"listen 127.0.0.1:{self.port}",
            _servers(GATEWAYS): _servers(gateways),
            _servers(GATEWAYS, " backup max_fails=0"): _servers(gateways, " backup max_fails=0"),
            "http {\n": f"http {{\n{spools}",
        }.items():
            assert before in text, before
            text = text.replace(before, after)
        (self.folder / "nginx.conf").write_text(text)

    @cached_property
    def trusting(self) -> ssl.SSLContext:
        """A context that trusts the certificate."""
        context = ssl.create_default_context()
        self._ca.configure_trust(context)
        return context

    async def ready(self) -> "Nginx":
        """Wait until it listens. Then take its directories for bodies away: whatever would be
        written there, a card number perhaps, makes the request fail."""

        async def listens() -> bool:
            assert self._process.poll() is None, (self.folder / "error.log").read_text()
            with socket.socket() as probe:
                return await asyncio.to_thread(probe.connect_ex, ("127.0.0.1", self.port)) == 0

        await until(listens, what="nginx listens")
        shutil.rmtree(self.spool)
        return self

    def client(
        self, secret: str = "", *, http2: bool = True, **options: object
    ) -> httpx.AsyncClient:
        """Return a client that finds the name at this nginx."""
        context = ssl.create_default_context()  # its own: httpx changes the one that it gets
        self._ca.configure_trust(context)
        headers = {"host": f"{HOST}:{self.port}"}
        if secret:
            headers["authorization"] = f"Bearer {secret}"
        return httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{self.port}",
            headers=headers,
            verify=context,
            trust_env=False,
            http2=http2,
            http1=not http2,
            timeout=30,
            event_hooks={"request": [_with_name]},
            **options,  # type: ignore[arg-type]
        )

    def stored(self) -> bytes:
        """Return all that its cache has on disk."""
        return b"".join(each.read_bytes() for each in self.cache.rglob("*") if each.is_file())

    def kill(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)


def _servers(gateways: tuple[str, ...], how: str = "") -> str:
    return "".join(f"        server {each}{how};\n" for each in gateways)


async def _with_name(request: httpx.Request) -> None:
    """Ask TLS for the name, not for the address."""
    request.extensions["sni_hostname"] = HOST
