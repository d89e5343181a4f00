"""Answers in pieces: what is held back, and for how long."""

import zlib
from typing import Any

import pytest

from easypay.api import streaming
from easypay.api.compression import GZIP, IDENTITY
from easypay.api.streaming import Streamed, Write


async def _nothing(write: Write) -> None:
    pass


@pytest.mark.parametrize("coding", [GZIP, IDENTITY])
async def test_what_was_held_too_long_is_sent_however_little_it_is(
    monkeypatch: pytest.MonkeyPatch, coding: bytes
) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    decoder: Any = zlib.decompressobj(31)
    read = decoder.decompress if coding == GZIP else bytes
    answer = Streamed(200)
    answer.write = _nothing
    pipe = streaming._Pipe(send, answer, coding)
    await pipe.begin({"type": "http.response.start"})
    await pipe.write(b"one")
    assert len(sent) == 1, "not a second has passed"
    monkeypatch.setattr(streaming, "_HELD_S", 0.0)
    await pipe.write(b"two")
    await pipe.write(b"three")
    await pipe.end()
    bodies = [message["body"] for message in sent[1:]]
    assert [read(body) for body in bodies] == [b"onetwo", b"three", b""]
    assert [message["more_body"] for message in sent[1:]] == [True, True, False]
    told = pipe.told(200)
    assert told.sent == sum(map(len, bodies))
    assert told.coding == (None if coding == IDENTITY else "gzip")
