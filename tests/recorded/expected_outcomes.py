"""The table of what each recorded body proves as the answer to each kind of operation."""

from collections.abc import Iterator
from typing import Final, NamedTuple

TABLE: Final = """
body                 code    decline_code               pay      capture  void     refund
approved             1       -                          done     .        .        .
approved_2026        1       -                          done     .        .        .
approved_bank        1       -                          done     .        .        .
approved_stored      1       -                          done     .        .        .
approved_wallet      1       -                          done     .        .        .
authorized_mastercard 1      -                          done     .        .        .
charged_profile      1       -                          done     .        .        .
debited              1       -                          done     .        .        .
prepaid_whole        1       -                          done     .        .        .
changed              1       -                          .        done     done     .
captured             1       -                          .        done     .        .
captured_plain       1       -                          .        done     .        .
voided               1       -                          .        .        done     .
voided_plain         1       -                          .        .        done     .
refunded             1       -                          .        .        .        done
refunded_mastercard  1       -                          .        .        .        done
refunded_plain       1       -                          .        .        .        done
voided_before        310     -                          unknown  unknown  done     unknown
captured_before      311     -                          unknown  done     unknown  unknown

declined             2       generic_decline            declined declined declined declined
declined_old         2       generic_decline            declined declined declined declined
declined_bank        2       generic_decline            declined .        .        declined
declined_3           3       call_issuer                declined declined declined declined
declined_4           4       pick_up_card               declined declined declined declined
declined_27          27      address_mismatch           declined .        .        .
declined_44          44      cvc_mismatch               declined .        .        .
declined_45          45      address_or_cvc_mismatch    declined .        .        .
declined_65          65      cvc_mismatch               declined .        .        .
declined_251         251     fraud_suspected            declined declined .        declined
declined_315         315     invalid_card_number        declined .        .        declined
declined_317         317     expired_card               declined declined .        declined
partial              1       insufficient_funds         declined .        .        .
partial_open         295     insufficient_funds         declined unknown  unknown  .
review_declined      2       generic_decline            declined declined declined declined

refused_5            5       invalid_amount             refused  refused  .        refused
refused_6            6       invalid_card_number        refused  .        .        refused
refused_7            7       invalid_expiry             refused  .        .        refused
refused_8            8       expired_card               refused  refused  .        refused
refused_9            9       invalid_bank_account       refused  .        .        refused
refused_16           16      transaction_not_found      refused  refused  refused  refused
refused_16_bank      16      transaction_not_found      .        refused  refused  refused
refused_17           17      card_not_accepted          refused  .        .        refused
refused_39           39      currency_not_supported     refused  refused  .        refused
refused_47           47      amount_exceeds_authorization .      refused  .        .
refused_50           50      not_refundable             .        .        .        refused
refused_54           54      not_refundable             .        .        .        refused
refused_54_2026      54      not_refundable             .        .        .        refused
refused_55           55      amount_exceeds_captured    .        .        .        refused
refused_78           78      invalid_cvc                refused  .        .        .
refused_128          128     transaction_not_allowed    refused  refused  refused  refused
refused_153          153     invalid_payment_token      refused  .        .        .
refused_327          327     not_voidable               .        .        refused  .
refused_901          901     processor_unavailable      refused  refused  .        refused
refused_2001         2001    account_not_set_up         refused  .        .        .
refused_cvc          E00003  generic_error              refused  .        .        .
refused_too-long     E00003  generic_error              refused  .        .        .
refused_nonce        E00114  invalid_payment_token      refused  .        .        .
refused_stored       E00040  stored_method_not_found    refused  .        .        .
no_root              E00003  generic_error              refused  refused  refused  refused
shell                E00003  generic_error              refused  refused  refused  refused

refused_login        E00007  -                          not_sent not_sent not_sent not_sent
inactive             E00008  -                          not_sent not_sent not_sent not_sent

held                 253     -                          held     unknown  unknown  unknown
held_252             252     -                          held     unknown  unknown  unknown

duplicate            11      -                          unknown  unknown  unknown  unknown
duplicate_named      11      -                          unknown  unknown  unknown  unknown
duplicate_318        318     -                          unknown  unknown  unknown  unknown
review_ended         254     -                          unknown  unknown  unknown  unknown
consent_needed       2000    -                          unknown  unknown  unknown  unknown
unclear_19           19      -                          unknown  unknown  unknown  unknown
unclear_26           26      -                          unknown  unknown  unknown  unknown
unclear_36           36      -                          unknown  unknown  unknown  unknown
unclear_52           52      -                          unknown  unknown  unknown  unknown
unclear_235          235     -                          unknown  unknown  unknown  unknown
unclear_261          261     -                          unknown  unknown  unknown  unknown
unclear_9999         9999    -                          unknown  unknown  unknown  unknown
unsuccessful         E00027  -                          unknown  unknown  unknown  unknown
busy                 E00053  -                          unknown  unknown  unknown  unknown
maintenance          E00104  -                          unknown  unknown  unknown  unknown
trouble              E00001  -                          unknown  unknown  unknown  unknown
token_reader         E00001  -                          unknown  unknown  unknown  unknown
bare_ok              I00001  -                          unknown  unknown  unknown  unknown
elsewhere            1       -                          unknown  unknown  unknown  unknown
no_id                1       -                          unknown  unknown  unknown  unknown
test_mode            1       -                          unknown  unknown  unknown  unknown
another_transaction  1       -                          .        unknown  unknown  .
xml                  -       -                          unknown  unknown  unknown  unknown
truncated            -       -                          unknown  unknown  unknown  unknown
empty                -       -                          unknown  unknown  unknown  unknown
list                 -       -                          unknown  unknown  unknown  unknown
html_ok              -       -                          unknown  unknown  unknown  unknown
html_500             -       -                          unknown  unknown  unknown  unknown
html_503             -       -                          unknown  unknown  unknown  unknown
json_502             -       -                          unknown  unknown  unknown  unknown
lost                 -       -                          unknown  unknown  unknown  unknown
"""
"""A merchant sees these codes, except if nothing is proven. `.` means that the body is no answer to
this kind of operation."""

KINDS: Final = ("sale", "authorize", "capture", "void", "refund")


class Line(NamedTuple):
    """What a body proves about one kind of operation."""

    body: str
    kind: str
    proves: str
    code: str | None
    decline_code: str | None


def lines() -> Iterator[Line]:
    _, *rows = (row.split() for row in TABLE.strip().splitlines() if row)
    for body, code, word, pay, *others in rows:
        for kind, proves in zip(KINDS, (pay, pay, *others), strict=True):
            if proves != ".":
                shown = (None if code == "-" else code, None if word == "-" else word)
                yield Line(body, kind, proves, *shown)


LINES: Final = list(lines())
