"""One HTTP call to a gateway or its simulator. If it fails, the error says what to correct: the
address (nothing listens there, or it is not an EasyPay gateway) or the key."""

import http.client
import json
import socket
from typing import Any, Final
from urllib.parse import urlsplit

PROBLEM: Final = "application/problem+json"
MOST_BYTES: Final = 1 << 28
"""No list of our own is longer; a server that is not ours may never end its answer."""


class StackFailed(Exception):
    """The stack cannot be started, reached or measured; the message says what to do."""


def exchange(
    method: str,
    url: str,
    body: object = None,
    *,
    bearer: str | None = None,
    within_s: float = 60.0,
) -> tuple[int, str, bytes]:
    """Return the status, media type and body of the answer. Raises StackFailed without one."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    headers = {"Content-Type": "application/json"}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=within_s)
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, f"{parts.path}?{parts.query}", payload, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers.get_content_type(), answer.read(MOST_BYTES)
    except ConnectionRefusedError:
        why = f"nothing listens at {origin}: start the gateway there, or correct the address"
    except socket.gaierror:
        why = f"there is no host {parts.hostname}: correct the address {origin}"
    except TimeoutError:
        why = f"{origin} does not answer within {within_s:.0f} s: correct the address, or try again"
    except OSError as error:
        why = f"the connection to {origin} failed ({error}): correct the address, or try again"
    except http.client.HTTPException:
        why = _not_easypay(origin)
    finally:
        connection.close()
    raise StackFailed(why)


def call(
    method: str, url: str, body: object = None, *, bearer: str | None = None, key: str = "the key"
) -> Any:
    """Make a JSON call; return the answer's body, or None if it is not JSON. Raises StackFailed.

    `key`: which key `bearer` is, and what to do if it is refused, in words.
    """
    status, media_type, content = exchange(method, url, body, bearer=bearer)
    if not 200 <= status < 300:
        raise refusal(url, status, media_type, content, key)
    if not content or media_type != "application/json":
        return None
    try:
        return json.loads(content)
    except ValueError:
        parts = urlsplit(url)
        raise StackFailed(_not_easypay(f"{parts.scheme}://{parts.netloc}")) from None


def check_key(api_url: str, api_key: str, key: str) -> None:
    """Raise StackFailed unless an EasyPay gateway is there and accepts this merchant's key."""
    url = f"{api_url}/api/v1/payments?limit=1"
    status, media_type, content = exchange("GET", url, bearer=api_key, within_s=10)
    if status == 403 and media_type == PROBLEM:
        return  # a valid key without the right to read; the load may still be allowed
    if status != 200 or not content.startswith(b'{"data":['):
        raise refusal(url, status, media_type, content, key)


def refusal(url: str, status: int, media_type: str, content: bytes, key: str) -> StackFailed:
    """Return why the answer is not a success, and what to do."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if parts.path.startswith("/simulator"):
        text = content[:300].decode(errors="replace")
        return StackFailed(f"{url} answers {status}, not as the simulator should: {text}")
    if media_type != PROBLEM:
        return StackFailed(_not_easypay(origin))
    if status == 401:
        return StackFailed(f"{origin} refuses {key}")
    try:
        problem = json.loads(content)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return StackFailed(_not_easypay(origin))
    return StackFailed(f"{origin} answers {status}: {problem.get('detail', '')}")


def _not_easypay(origin: str) -> str:
    return f"{origin} answers, but not as an EasyPay gateway: correct the address"
