"""The issuer's checks of address (AVS) and card code (CVV): their letters and our words.

A letter that we do not know has no word; the letter itself is kept.
"""

from collections.abc import Mapping
from typing import Final, TypedDict

from easypay.processors.authorize_net import wire
from easypay.processors.base import AvsMatch, CvvMatch

AVS: Final[Mapping[str, AvsMatch]] = {
    "A": AvsMatch.ADDRESS_ONLY,
    "B": AvsMatch.NOT_PROVIDED,
    "E": AvsMatch.ERROR,
    "G": AvsMatch.INTERNATIONAL,
    "N": AvsMatch.NO_MATCH,
    "P": AvsMatch.NOT_APPLICABLE,
    "R": AvsMatch.RETRY,
    "S": AvsMatch.NOT_SUPPORTED,
    "U": AvsMatch.UNAVAILABLE,
    "W": AvsMatch.POSTAL_CODE_ONLY,
    "X": AvsMatch.FULL_MATCH,
    "Y": AvsMatch.FULL_MATCH,
    "Z": AvsMatch.POSTAL_CODE_ONLY,
}

CVV: Final[Mapping[str, CvvMatch]] = {
    "M": CvvMatch.MATCH,
    "N": CvvMatch.NO_MATCH,
    "P": CvvMatch.NOT_PROCESSED,
    "S": CvvMatch.SHOULD_HAVE_BEEN_PRESENT,
    "U": CvvMatch.UNAVAILABLE,
}


class Checks(TypedDict):
    """The fields of a `ProcessorAnswer` about the checks."""

    avs_result: str | None
    cvv_result: str | None
    avs: AvsMatch | None
    cvv: CvvMatch | None


def read(avs: object, cvv: object) -> Checks:
    """Read the two results as received, which may be anything."""
    avs_result, cvv_result = wire.letter(avs), wire.letter(cvv)
    return {
        "avs_result": avs_result,
        "cvv_result": cvv_result,
        "avs": AVS.get(avs_result) if avs_result else None,
        "cvv": CVV.get(cvv_result) if cvv_result else None,
    }
