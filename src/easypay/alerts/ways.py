"""The ways by which alerts reach a person: a webhook, mail, a command. Each call ends in time.

A way either took the messages or raises NotTold with the reason. Nothing is repeated here: the
watch tries again. A receiver that gets a message twice sees it by its `id`. Addresses and the
words of a command may be secrets: no reason quotes them.
"""

import asyncio
import base64
import http.client
import logging
import os
import shlex
import signal
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from easypay.alerts.states import Message
from easypay.settings import Settings

log = logging.getLogger(__name__)

CALL_S: Final = 5.0
"""The longest wait for the next bytes on a connection."""
WHOLE_CALL_S: Final = 10.0
"""The longest that an HTTP call may take once it is connected, though bytes keep coming."""
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


async def tell(way: Way, messages: Sequence[Message]) -> None:
    """Tell by a way. Raises NotTold, whatever went wrong: no receiver may stop the others."""
    try:
        await way.tell(messages)
    except NotTold:
        raise
    except OSError as error:
        raise NotTold(f"{type(error).__name__}: {error}") from error
    except Exception as error:
        raise NotTold(type(error).__name__) from error


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
        rest = f".\n{each.means}\nLook: {each.look}\nDo: {each.do}"
        if each.over_at is not None:
            rest = f", until {each.over_at:%Y-%m-%d %H:%M:%S} UTC."
        parts.append(f"{each.line}\nSince {each.since:%Y-%m-%d %H:%M:%S} UTC{rest}")
    return "\n\n".join(parts)


def exchange(
    method: str, url: str, body: bytes | None = None, within_s: float = WHOLE_CALL_S
) -> tuple[int, bytes]:
    """Make one HTTP call and follow nothing. Only a GET's answer is read. Raises OSError,
    http.client.HTTPException."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(
            host, parts.port, timeout=CALL_S, context=ssl.create_default_context()
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=CALL_S)
    )
    headers = {"content-type": "application/json", "connection": "close"}
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.connect()
        with _cut_off(connection.sock, within_s):
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            if method != "GET":
                return answer.status, b""
            text = answer.read(LONGEST_ANSWER)
            if answer.length:
                raise http.client.IncompleteRead(text, answer.length)
            return answer.status, text
    finally:
        connection.close()


@contextmanager
def _cut_off(connected: socket.socket, within_s: float) -> Iterator[None]:
    """End a connection in time: who sends a byte now and then would keep it for ever. Raises
    TimeoutError."""
    over = threading.Event()

    def cut() -> None:
        over.set()
        with suppress(OSError):
            socket.socket.shutdown(connected, socket.SHUT_RDWR)

    timer = threading.Timer(within_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not over.is_set():
            raise
    finally:
        timer.cancel()
    if over.is_set():
        raise TimeoutError(f"it took longer than {within_s:g} s")


class Webhook:
    """POSTs JSON to an address; any 2xx means that it was taken."""

    name = "webhook"

    def __init__(self, url: str) -> None:
        self._url = url

    async def tell(self, messages: Sequence[Message]) -> None:
        status, _ = await asyncio.to_thread(exchange, "POST", self._url, body_of(messages))
        if not 200 <= status < 300:
            raise NotTold(f"it answered {status}")


class Mail:
    """Sends one mail, over TLS from the start (`smtps://`) or if the server offers it. A password
    is sent over TLS only: whoever is in between could take the offer away."""

    name = "mail"

    def __init__(self, url: str, sender: str, to: Sequence[str]) -> None:
        self._url = urlsplit(url)
        self._sender = sender
        self._to = to

    async def tell(self, messages: Sequence[Message]) -> None:
        await asyncio.to_thread(self._send, messages)

    def _send(self, messages: Sequence[Message]) -> None:
        mail = EmailMessage()
        more = f" and {len(messages) - 1} more" if len(messages) > 1 else ""
        mail["Subject"] = f"EasyPay {messages[0].line}{more}"
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._to)
        mail["Date"] = formatdate()
        mail["Message-ID"] = make_msgid(domain=self._sender.rpartition("@")[2].strip("> "))
        mail.set_content(text_of(messages))
        url, context = self._url, ssl.create_default_context()
        host = url.hostname or ""
        server: smtplib.SMTP = (
            smtplib.SMTP_SSL(host, url.port or 465, timeout=CALL_S, context=context)
            if url.scheme == "smtps"
            else smtplib.SMTP(host, url.port or 25, timeout=CALL_S)
        )
        with server:
            secure = url.scheme == "smtps"
            if not secure and _offers_tls(server):
                server.starttls(context=context)
                secure = True
            if url.username:
                if not secure:
                    raise NotTold("it offers no TLS, and a password is sent over TLS only")
                server.login(unquote(url.username), unquote(url.password or ""))
            if refused := server.send_message(mail):
                log.warning("the mail server refused %d of the alerts' recipients", len(refused))


def _offers_tls(server: smtplib.SMTP) -> bool:
    server.ehlo_or_helo_if_needed()
    return server.has_extn("starttls")


class Command:
    """Runs a program that gets the JSON on its standard input; status 0 means that it was taken.

    No shell reads the command. The program gets none of EasyPay's settings, for among them are the
    encryption key and the database's password. What it starts ends with it if it takes too long.
    """

    name = "command"

    def __init__(self, command: str, within_s: float = COMMAND_S) -> None:
        self._words = shlex.split(command)
        self._within_s = within_s

    async def tell(self, messages: Sequence[Message]) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=_without_settings(os.environ),
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._within_s):
                await process.communicate(body_of(messages))
        except TimeoutError:
            raise NotTold(f"it took longer than {self._within_s:g} s and was killed") from None
        except (BrokenPipeError, ConnectionResetError):
            await process.wait()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode != 0:
            raise NotTold(f"it ended with status {process.returncode}")


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("EASYPAY_")}
