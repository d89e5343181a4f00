"""The ways by which alerts reach a person: a webhook, mail, a command. Each call ends in time.

A way either took the messages or raises NotTold with the reason. Nothing is repeated here: the
watch tries again. A receiver that gets a message twice sees it by its `id`.
"""

import asyncio
import http.client
import shlex
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from easypay.alerts.states import Message
from easypay.settings import Settings

CALL_S: Final = 5.0
"""The longest wait for one answer on a connection."""
COMMAND_S: Final = 20.0
LONGEST_ANSWER: Final = 8 << 20
"""Bytes that are read of an answer: a host's metrics are below 1 MB."""


class NotTold(Exception):
    """The receiver did not take it; the text says why."""


class Way(Protocol):
    """One receiver."""

    name: str

    async def tell(self, messages: Sequence[Message]) -> None:
        """Tell, or raise NotTold."""


def ways_of(settings: Settings) -> list[Way]:
    """Return the ways that are set up."""
    found: list[Way] = []
    if settings.alerts_webhook is not None:
        found.append(Webhook(settings.alerts_webhook.get_secret_value()))
    if settings.alerts_smtp is not None:
        smtp = settings.alerts_smtp.get_secret_value()
        found.append(Mail(smtp, settings.alerts_mail_from, settings.alerts_mail_to))
    if settings.alerts_command is not None:
        found.append(Command(settings.alerts_command))
    return found


def body_of(messages: Sequence[Message]) -> bytes:
    """Return what a webhook and a command get. Chats that read `text` show it as it is."""
    return msgspec.json.encode({"text": text_of(messages), "alerts": messages})


def text_of(messages: Sequence[Message]) -> str:
    """Return the messages for a person."""
    parts = []
    for each in messages:
        rest = "" if each.state == "over" else f"\n{each.means}\nLook: {each.look}\nDo: {each.do}"
        parts.append(f"{each.line}\nSince {each.since:%Y-%m-%d %H:%M:%S} UTC{rest}")
    return "\n\n".join(parts)


def exchange(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Make one HTTP call and follow nothing. Raises OSError, http.client.HTTPException."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(
            host, parts.port, timeout=CALL_S, context=ssl.create_default_context()
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=CALL_S)
    )
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read(LONGEST_ANSWER)
    finally:
        connection.close()


class Webhook:
    """POSTs JSON to an address; any 2xx means that it was taken."""

    name = "webhook"

    def __init__(self, url: str) -> None:
        self._url = url

    async def tell(self, messages: Sequence[Message]) -> None:
        try:
            status, _ = await asyncio.to_thread(exchange, "POST", self._url, body_of(messages))
        except (OSError, http.client.HTTPException) as error:
            raise NotTold(f"{type(error).__name__}: {error}") from None
        if not 200 <= status < 300:
            raise NotTold(f"it answered {status}")


class Mail:
    """Sends one mail, over TLS from the start (`smtps://`) or if the server offers it."""

    name = "mail"

    def __init__(self, url: str, sender: str, to: Sequence[str]) -> None:
        self._url = urlsplit(url)
        self._sender = sender
        self._to = to

    async def tell(self, messages: Sequence[Message]) -> None:
        try:
            await asyncio.to_thread(self._send, messages)
        except (OSError, smtplib.SMTPException) as error:
            raise NotTold(f"{type(error).__name__}: {error}") from None

    def _send(self, messages: Sequence[Message]) -> None:
        mail = EmailMessage()
        more = f" and {len(messages) - 1} more" if len(messages) > 1 else ""
        mail["Subject"] = f"EasyPay {messages[0].line}{more}"
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._to)
        mail.set_content(text_of(messages))
        url, context = self._url, ssl.create_default_context()
        host = url.hostname or ""
        server: smtplib.SMTP = (
            smtplib.SMTP_SSL(host, url.port or 465, timeout=CALL_S, context=context)
            if url.scheme == "smtps"
            else smtplib.SMTP(host, url.port or 25, timeout=CALL_S)
        )
        with server:
            if url.scheme == "smtp" and _offers_tls(server):
                server.starttls(context=context)
            if url.username:
                server.login(unquote(url.username), unquote(url.password or ""))
            server.send_message(mail)


def _offers_tls(server: smtplib.SMTP) -> bool:
    server.ehlo_or_helo_if_needed()
    return server.has_extn("starttls")


class Command:
    """Runs a program that gets the JSON on its standard input; status 0 means that it was taken."""

    name = "command"

    def __init__(self, command: str) -> None:
        self._words = shlex.split(command)

    async def tell(self, messages: Sequence[Message]) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            raise NotTold(f"{type(error).__name__}: {error}") from None
        try:
            async with asyncio.timeout(COMMAND_S):
                await process.communicate(body_of(messages))
        except TimeoutError:
            raise NotTold(f"it took longer than {COMMAND_S:g} s and was killed") from None
        except (BrokenPipeError, ConnectionResetError):
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise NotTold(f"it ended with status {process.returncode}")
