"""API keys, sealed credentials and cursors work only where they belong; pointers name a field."""

import base64
import json
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easypay.api.http import Request, decode
from easypay.api.paging import Cursors
from easypay.errors import EasyPayError, MalformedBody, UnsupportedMediaType, ValidationFailed
from easypay.merchants.model import (
    KEY_PATTERN,
    Caller,
    digest_of,
    is_well_formed,
    new_key,
)
from easypay.merchants.vault import Vault, VaultError, new_encryption_key
from easypay.mode import Mode
from easypay.problems import render

uuids = st.integers(0, (1 << 128) - 1).map(lambda value: UUID(int=value))
VAULT = Vault(new_encryption_key())


# API keys --------------------------------------------------------------------------------------


@given(st.sampled_from(Mode), st.data())
def test_one_wrong_character_in_a_key_is_noticed(mode: str, data: st.DataObject) -> None:
    key = new_key(mode)
    assert KEY_PATTERN.fullmatch(key)
    assert is_well_formed(key)
    assert key.startswith(f"ep_{mode}_sk_")
    at = data.draw(st.integers(0, len(key) - 1))
    wrong = data.draw(st.characters(max_codepoint=127).filter(lambda c: c != key[at]))
    assert not is_well_formed(key[:at] + wrong + key[at + 1 :])


@given(st.text(max_size=80))
def test_junk_is_not_a_key(text: str) -> None:
    assert not is_well_formed(text)


def test_keys_are_distinct_and_so_are_their_digests() -> None:
    keys = {new_key("test") for _ in range(1000)}
    assert len(keys) == len({digest_of(key) for key in keys}) == 1000
    assert all(len(digest_of(key)) == 32 for key in keys)


# The vault -------------------------------------------------------------------------------------


processors = st.sampled_from(["authorize_net", "second"])


@given(
    uuids,
    uuids,
    st.sampled_from(Mode),
    processors,
    st.dictionaries(st.text(), st.text(), max_size=3),
)
def test_sealed_credentials_open_for_their_merchant_mode_and_processor_only(
    merchant: UUID, other: UUID, mode: str, processor: str, credentials: dict[str, str]
) -> None:
    sealed = VAULT.seal(credentials, merchant, mode, processor)
    assert VAULT.open(sealed, merchant, mode, processor) == credentials
    elsewhere = "second" if processor == "authorize_net" else "authorize_net"
    with pytest.raises(VaultError):
        VAULT.open(sealed, merchant, mode, elsewhere)
    with pytest.raises(VaultError):
        VAULT.open(sealed, merchant, "live" if mode == "test" else "test", processor)
    if other != merchant:
        with pytest.raises(VaultError):
            VAULT.open(sealed, other, mode, processor)
    with pytest.raises(VaultError):
        Vault(new_encryption_key()).open(sealed, merchant, mode, processor)


@given(st.integers(1, 60), st.integers(1, 255))
def test_a_changed_box_does_not_open(at: int, bits: int) -> None:
    credentials = {"login_id": "login", "transaction_key": "transaction-key1"}
    sealed = bytearray(VAULT.seal(credentials, UUID(int=1), "test", "second"))
    sealed[at] ^= bits
    with pytest.raises(VaultError):
        VAULT.open(bytes(sealed), UUID(int=1), "test", "second")


def test_the_same_secret_is_sealed_differently_each_time_and_never_in_clear() -> None:
    secret = {"login_id": "login-id-here", "transaction_key": "transaction-key1"}
    boxes = {VAULT.seal(secret, UUID(int=1), "test", "second") for _ in range(100)}
    assert len(boxes) == 100
    assert not any(b"login-id-here" in box or b"transaction-key1" in box for box in boxes)


@pytest.mark.parametrize("key", ["", "short", "A" * 44, base64.b64encode(bytes(31)).decode(), "é"])
def test_a_bad_encryption_key_is_refused(key: str) -> None:
    with pytest.raises(VaultError, match="32 random bytes"):
        Vault(key)


def test_every_purpose_has_a_key_of_its_own() -> None:
    purposes = ("cursors", "request fingerprint", "card fingerprint")
    assert len({VAULT.derive(purpose) for purpose in purposes}) == 3
    assert VAULT.derive("cursors") == VAULT.derive("cursors")


# Cursors ---------------------------------------------------------------------------------------

CURSORS = Cursors(VAULT.derive("cursors"))


def caller(merchant: int = 1, mode: str = "test") -> Caller:
    return Caller(
        merchant_id=UUID(int=merchant),
        mode=mode,
        key_id=UUID(int=9),
        scopes=frozenset(),
        currencies=frozenset(),
        allow_raw_cards=False,
        expires_at=None,
        login=None,
    )


@given(uuids, st.integers(0, 2**64 - 1))
def test_a_cursor_works_for_the_caller_it_was_made_for(last: UUID, position: int) -> None:
    text = CURSORS.write(last, caller(), "payments None None", position)
    assert CURSORS.read(text, caller(), "payments None None") == (last, position)
    for who, scope in (
        (caller(2), "payments None None"),
        (caller(1, "live"), "payments None None"),
        (caller(), "payments 2026-01-01T00:00:00Z None"),
        (caller(), "events"),
    ):
        with pytest.raises(ValidationFailed, match="cursor"):
            CURSORS.read(text, who, scope)


@given(uuids, st.sampled_from([0, 7]), st.data())
def test_a_forged_cursor_is_refused(last: UUID, position: int, data: st.DataObject) -> None:
    text = CURSORS.write(last, caller(), "s", position)
    raw = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    forged = base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode()
    with pytest.raises(ValidationFailed):
        CURSORS.read(forged, caller(), "s")


@given(st.text(max_size=60))
def test_junk_is_not_a_cursor(text: str) -> None:
    with pytest.raises(ValidationFailed):
        CURSORS.read(text, caller(), "s")


# Bodies and problems -----------------------------------------------------------------------------


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    count: int


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    inner: Inner | None = None
    rows: list[Inner] = []


DECODER = msgspec.json.Decoder(Outer)


def asked(body: bytes, content_type: bytes = b"application/json") -> Request:
    return Request(
        method="POST",
        path="/",
        params={},
        headers={b"content-type": content_type},
        query_string=b"",
        body=body,
        id="req_1",
    )


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "#/name", "missing"),
        ({"name": 1}, "#/name", "invalid"),
        ({"name": "a", "nmae": 1}, "#/nmae", "unknown_field"),
        ({"name": "a", "inner": {}}, "#/inner/count", "missing"),
        ({"name": "a", "inner": {"count": "x"}}, "#/inner/count", "invalid"),
        ({"name": "a", "inner": {"count": 1, "x": 1}}, "#/inner/x", "unknown_field"),
        ([], "#", "invalid"),
    ],
)
def test_a_bad_field_has_a_json_pointer(body: Any, pointer: str, code: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        decode(asked(json.dumps(body).encode()), DECODER)
    (field,) = caught.value.fields
    assert (field.pointer, field.code) == (pointer, code)
    assert "`" not in field.detail


def test_a_body_that_is_not_json_is_malformed() -> None:
    for body in (b"", b"{", b"\xff", b'{"name": "a"} x'):
        with pytest.raises(MalformedBody):
            decode(asked(body), DECODER)
    with pytest.raises(UnsupportedMediaType):
        decode(asked(b'{"name": "a"}', b"text/plain"), DECODER)
    empty = msgspec.json.Decoder(Inner | None)
    with pytest.raises(ValidationFailed):
        decode(asked(b"", b""), empty, may_be_empty=True)


def _all(kind: type[EasyPayError]) -> list[type[EasyPayError]]:
    return [kind, *(each for sub in kind.__subclasses__() for each in _all(sub))]


def test_every_error_renders_and_has_a_code_of_its_own() -> None:
    kinds = [kind for kind in _all(EasyPayError) if kind.__module__.startswith("easypay.")]
    assert len(kinds) > 15
    codes = [kind.code for kind in kinds[1:] if kind.code != "internal"]
    assert len(codes) == len(set(codes))
    for kind in kinds:
        problem = json.loads(render(kind("what happened"), request_id="req_1"))
        assert problem["type"] == f"/problems/{kind.code}"
        assert problem["status"] == kind.http_status
        assert 400 <= kind.http_status < 600
        assert problem["detail"] == "what happened"
        assert problem["title"]
        assert problem["request_id"] == "req_1"


def test_a_problem_contains_only_what_it_was_given() -> None:
    problem = json.loads(render(EasyPayError("x", retry_after_s=3)))
    assert set(problem) == {"type", "title", "status", "detail", "code"}
