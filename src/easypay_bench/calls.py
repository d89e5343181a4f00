"""One HTTP call to a gateway or its simulator. A call that fails says what to correct: the address,
because nothing listens there or it is no EasyPay gateway, or the key."""

import http.client
import json
import socket
from typing import Any, Final
from urllib.parse import urlsplit

PROBLEM: Final = "application/problem+json"


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
    """The status, media type and body of an answer. Raises StackFailed where there is none."""
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
        return answer.status, answer.headers.get_content_type(), answer.read()
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
    """One JSON call and its answer's body, None where that is no JSON. `key` says in words which
    key `bearer` is and what to do where it is refused. Raises StackFailed."""
    status, media_type, said = exchange(method, url, body, bearer=bearer)
    if not 200 <= status < 300:
        raise refusal(url, status, media_type, said, key)
    return json.loads(said) if said and media_type == "application/json" else None


def check_key(api_url: str, api_key: str, key: str) -> None:
    """Raises StackFailed unless an EasyPay gateway is there and accepts this key of a merchant."""
    url = f"{api_url}/api/v1/payments?limit=1"
    status, media_type, said = exchange("GET", url, bearer=api_key, within_s=10)
    if status == 403 and media_type == PROBLEM:
        return  # a good key that may not read; what the load does may be allowed
    if status != 200 or not said.startswith(b'{"data":['):
        raise refusal(url, status, media_type, said, key)


def refusal(url: str, status: int, media_type: str, said: bytes, key: str) -> StackFailed:
    """Why an answer is no success, and what to do."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if parts.path.startswith("/simulator"):
        text = said[:300].decode(errors="replace")
        return StackFailed(f"{url} answers {status}, not as the simulator should: {text}")
    if media_type != PROBLEM:
        return StackFailed(_not_easypay(origin))
    if status == 401:
        return StackFailed(f"{origin} refuses {key}")
    detail = json.loads(said).get("detail", "")
    return StackFailed(f"{origin} answers {status}: {detail}")


def _not_easypay(origin: str) -> str:
    return f"{origin} answers, but not as an EasyPay gateway: correct the address"
