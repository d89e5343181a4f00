"""Judge what a reply of Authorize.Net's customer vault proves: pure functions to answers.

Nothing in a reply can raise. What cannot be read is unknown. A duplicate (E00039) is no answer
yet: it says that a profile or a method exists, and `customer_vault.py` finds out which.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from easypay.processors.authorize_net import reason_meanings, vault_codes, wire
from easypay.processors.authorize_net.connection import Reply
from easypay.processors.authorize_net.message_codes import ACCOUNT_REFUSED
from easypay.processors.authorize_net.vault_codes import Call
from easypay.processors.base import AccountRefusal, NotSent, Unknown
from easypay.processors.customer_vault import (
    ChangeAnswer,
    FindAnswer,
    FoundProfile,
    MethodIds,
    NoProfile,
    VaultDone,
    VaultedMethod,
    VaultNotSent,
    VaultRefused,
    VaultUnknown,
)

_DUPLICATE_ID: Final = re.compile(r"\bID ([0-9]{1,20}) already exists")
_EXPIRY: Final = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
_DIRECT: Final = re.compile(r"(?P<q>\W?)(?P<code>[1-5])(?P=q)(?P<d>\W)(?P=q)\d{1,5}(?P=q)(?P=d)"
                            r"(?P=q)(?P<reason>\d{1,5})(?P=q)(?P=d)")  # fmt: skip
"""The delimited text of a check: response code, a sub-code, reason code. An account chooses the
delimiter and the quote, which may be none."""
_MASKED: Final = re.compile(r"X{4}[0-9]{4}")
_NUMBER_AT: Final = 50
_BRAND_AT: Final = 51
"""Where the delimited text has the masked number and the brand."""
_ACCEPTED: Final = ("1", "4")
_DECLINED: Final = "2"

Failure = VaultRefused | VaultNotSent | VaultUnknown


class Answer(NamedTuple):
    """A reply that could be read: whether it says Ok, its (code, text) messages, and the rest."""

    ok: bool
    messages: list[tuple[str, str]]
    body: dict[str, Any]


class Created(NamedTuple):
    """A method was stored. `shown`: what the check beside it tells of the method."""

    ids: MethodIds
    shown: VaultedMethod


class Duplicate(NamedTuple):
    """A profile or a method exists already. An id is None if the reply does not tell it."""

    customer_profile_id: str | None
    payment_profile_id: str | None


class Method(NamedTuple):
    """One method, and the object in which the processor showed it."""

    method: VaultedMethod
    shown: dict[str, Any]


def read(reply: Reply | NotSent | Unknown, ref_id: str) -> Answer | VaultNotSent | VaultUnknown:
    """Read a reply to the call with this `ref_id`."""
    if isinstance(reply, NotSent):
        return VaultNotSent(reason=reply.reason, account_refusal=reply.account_refusal)
    if isinstance(reply, Unknown):
        return VaultUnknown(reason=reply.reason)
    body = wire.decode(reply)
    if isinstance(body, Unknown):
        return VaultUnknown(reason=body.reason)
    if body.get("refId") not in (None, ref_id):
        return VaultUnknown(reason="the reply carries another reference")
    ok, messages = wire.top_level(body)
    return Answer(ok, messages, body)


def created(
    answer: Answer | VaultNotSent | VaultUnknown,
    call: Call,
    customer_profile_id: str | None = None,
) -> Created | Duplicate | Failure:
    """Return what an answer to a creation proves. `customer_profile_id`: that of the request; the
    reply must not name another."""
    if not isinstance(answer, Answer):
        return answer
    profile_id = wire.identifier(answer.body.get("customerProfileId"))
    payment_id = _payment_profile_id(answer.body)
    other = customer_profile_id is not None and profile_id not in (None, customer_profile_id)
    if not answer.ok and _codes(answer) == {vault_codes.DUPLICATE}:
        if other:
            return VaultUnknown(reason=f"a duplicate, but of profile {profile_id}")
        named = _DUPLICATE_ID.search(answer.messages[0][1])
        told = None if named is None else named[1]
        return Duplicate(profile_id or customer_profile_id or told, payment_id)
    if not answer.ok:
        return failure(answer, call)
    profile_id = profile_id or customer_profile_id
    if other or profile_id is None or payment_id is None:
        return VaultUnknown(reason="stored, but the reply does not say as what")
    ids = MethodIds(profile_id, payment_id)
    return Created(ids, _checked(ids, _direct_response(answer.body)))


def changed(answer: Answer | VaultNotSent | VaultUnknown, call: Call) -> ChangeAnswer:
    """Return what an answer to an update or a validation proves."""
    if not isinstance(answer, Answer):
        return answer
    if not answer.ok:
        return failure(answer, call)
    verdict = _verdict(_direct_response(answer.body))
    if call == "validate" and verdict is not None and verdict[0] not in _ACCEPTED:
        return _declined(*verdict, "")
    return VaultDone()


def deleted(answer: Answer | VaultNotSent | VaultUnknown) -> ChangeAnswer:
    """Return what an answer to a deletion proves. If there is nothing to delete, it is done."""
    if not isinstance(answer, Answer):
        return answer
    if answer.ok:
        return VaultDone()
    if _codes(answer) == {vault_codes.NOT_FOUND}:
        return VaultDone(was_gone=True)
    return failure(answer, "delete")


def found(
    answer: Answer | VaultNotSent | VaultUnknown,
    *,
    customer_profile_id: str | None = None,
    reference: str | None = None,
) -> FindAnswer:
    """Return the profile that was asked for, by its id or its reference."""
    profile = _shown(answer, "profile")
    if not isinstance(profile, dict):
        return profile
    profile_id = wire.identifier(profile.get("customerProfileId"))
    if profile_id is None or customer_profile_id not in (None, profile_id):
        return VaultUnknown(reason="the reply shows another profile")
    if reference is not None and profile.get("merchantCustomerId") != reference:
        return VaultUnknown(reason=f"profile {profile_id} has another reference")
    listed = profile.get("paymentProfiles") or []
    items = listed if isinstance(listed, list) else [listed]
    methods: list[VaultedMethod] = []
    for item in items:
        method = _method(item, profile_id)
        if method is None:
            return VaultUnknown(reason=f"a method of profile {profile_id} cannot be read")
        methods.append(method)
    return FoundProfile(customer_profile_id=profile_id, methods=methods)


def one_method(
    answer: Answer | VaultNotSent | VaultUnknown, ids: MethodIds
) -> Method | NoProfile | VaultNotSent | VaultUnknown:
    """Return the method that was asked for; NoProfile if there is none."""
    shown = _shown(answer, "paymentProfile")
    if not isinstance(shown, dict):
        return shown
    method = _method(shown, ids.customer_profile_id)
    if method is None or method.ids != ids:
        return VaultUnknown(reason="the reply shows another method, or one that cannot be read")
    return Method(method, shown)


def failure(answer: Answer, call: Call) -> Failure:
    """Return what an error proves: a refusal only if every code of it is one."""
    codes = _codes(answer)
    verdict = "unknown" if answer.ok else reason_meanings.api_verdict(codes)
    if verdict == "account_refused":
        return account_refused(*answer.messages[0])
    if not answer.ok and codes == {vault_codes.UNSUCCESSFUL} and call in vault_codes.CHECKS:
        return _unsuccessful(answer)
    meanings = [vault_codes.meaning(code, call) for code, _ in answer.messages]
    # Codes about our account may stand beside others, as in a payment.
    said = [
        (meaning, message)
        for meaning, message in zip(meanings, answer.messages, strict=True)
        if meaning is not None
    ]
    others = codes - {code for _, (code, _) in said}
    if answer.ok or not said or not others <= ACCOUNT_REFUSED.keys():
        return VaultUnknown(reason=_told(answer))
    (word, advice), (code, message) = said[0]
    return VaultRefused(word=word, code=code, message=message, retry=reason_meanings.RETRY[advice])


def account_refused(code: str, message: str) -> VaultNotSent:
    """Return the answer to a call with credentials that are not accepted."""
    return VaultNotSent(
        reason=f"the processor refused our account: {code} {message}"[:255],
        account_refusal=AccountRefusal(code=code, message=message),
    )


def _shown(
    answer: Answer | VaultNotSent | VaultUnknown, name: str
) -> dict[str, Any] | NoProfile | VaultNotSent | VaultUnknown:
    """Return the object of that name in an answer to a read."""
    if not isinstance(answer, Answer):
        return answer
    if not answer.ok:
        codes = _codes(answer)
        if codes == {vault_codes.NOT_FOUND}:
            return NoProfile()
        if reason_meanings.api_verdict(codes) == "account_refused":
            return account_refused(*answer.messages[0])
        return VaultUnknown(reason=_told(answer))
    shown = answer.body.get(name)
    return shown if isinstance(shown, dict) else VaultUnknown(reason=f"no {name} in the reply")


def _method(item: object, profile_id: str) -> VaultedMethod | None:
    """Read one method; None if it has no id, or is another profile's."""
    if not isinstance(item, dict):
        return None
    payment_id = wire.identifier(item.get("customerPaymentProfileId"))
    owner = wire.identifier(item.get("customerProfileId"))
    if payment_id is None or owner not in (None, profile_id):
        return None
    ids = MethodIds(profile_id, payment_id)
    is_default = item.get("defaultPaymentProfile") is True
    payment = item.get("payment")
    shown = payment if isinstance(payment, dict) else {}
    if isinstance(bank := shown.get("bankAccount"), dict):
        _, last4 = wire.card(None, bank.get("accountNumber"))
        return VaultedMethod(ids=ids, type="bank_account", last4=last4, is_default=is_default)
    card = shown.get("creditCard")
    fields = card if isinstance(card, dict) else {}
    brand, last4 = wire.card(fields.get("cardType"), fields.get("cardNumber"))
    year, month = _expiry(fields.get("expirationDate"))
    return VaultedMethod(
        ids=ids,
        type="card",
        last4=last4,
        brand=brand,
        exp_year=year,
        exp_month=month,
        is_default=is_default,
    )


def _expiry(value: object) -> tuple[int, int] | tuple[None, None]:
    read = _EXPIRY.fullmatch(value) if isinstance(value, str) else None
    return (None, None) if read is None else (int(read[1]), int(read[2]))


def _payment_profile_id(body: dict[str, Any]) -> str | None:
    """Return the one payment profile that a creation names; None if there is not exactly one."""
    if "customerPaymentProfileId" in body:
        return wire.identifier(body["customerPaymentProfileId"])
    listed = body.get("customerPaymentProfileIdList")
    items: Sequence[object] = listed if isinstance(listed, list) else ()
    return wire.identifier(items[0]) if len(items) == 1 else None


def _direct_response(body: dict[str, Any]) -> str:
    """Return the delimited text of a check; empty if there is none."""
    listed = body.get("validationDirectResponseList")
    texts: list[object] = listed if isinstance(listed, list) else []
    for text in (body.get("validationDirectResponse"), body.get("directResponse"), *texts):
        if isinstance(text, str) and text:
            return text
    return ""


def _verdict(direct: str) -> tuple[str, str] | None:
    """Return the response code and the reason code of a check; None if they cannot be read."""
    read = _DIRECT.match(direct)
    return None if read is None else (read["code"], str(int(read["reason"])))


def _checked(ids: MethodIds, direct: str) -> VaultedMethod:
    """Return what a check tells of a method. It may tell nothing."""
    read = _DIRECT.match(direct)
    fields = [] if read is None else direct.split(read["d"])
    if read is None or len(fields) <= _BRAND_AT:
        return VaultedMethod(ids=ids, type="card")
    number, brand = (fields[at].strip(read["q"] or None) for at in (_NUMBER_AT, _BRAND_AT))
    if not _MASKED.fullmatch(number):  # a delimiter within a text moves all that follows
        return VaultedMethod(ids=ids, type="card")
    known, last4 = wire.card(brand.replace(" ", ""), number)
    if brand.lower() == wire.ECHECK:
        return VaultedMethod(ids=ids, type="bank_account", last4=last4)
    return VaultedMethod(ids=ids, type="card", last4=last4, brand=known)


def _unsuccessful(answer: Answer) -> VaultRefused | VaultUnknown:
    """Return why a check failed: nothing was stored or changed."""
    verdict = _verdict(_direct_response(answer.body))
    if verdict is not None and verdict[0] in _ACCEPTED:
        return VaultUnknown(reason=f"a check that passed, but {_told(answer)}"[:255])
    code, message = answer.messages[0]
    if verdict is None:
        return _declined(_DECLINED, code, message)
    return _declined(*verdict, message)


def _declined(response_code: str, reason: str, message: str) -> VaultRefused:
    word = reason_meanings.decline_code(reason, response_code)
    advice = reason_meanings.retry(word)
    if response_code != _DECLINED:
        return VaultRefused(word=word, code=reason, message=message, retry=advice)
    return VaultRefused(
        word="card_declined", code=reason, message=message, retry=advice, decline_code=word
    )


def _codes(answer: Answer) -> set[str]:
    return {code for code, _ in answer.messages}


def _told(answer: Answer) -> str:
    text = "; ".join(f"{code} {message}" for code, message in answer.messages)
    return text[:255] or "an answer without a code"
