"""What the issuer checked beside the money: their letters, and our words for them.

Address (AVS), card code (CVV) and cardholder authentication (CAVV). A letter we do not know has
no word, and stays beside it as it came.
"""

from collections.abc import Mapping
from typing import Final, TypedDict

from easypay.processors.authorize_net import wire
from easypay.processors.base import AvsResult, CavvResult, CvvResult

AVS: Final[Mapping[str, AvsResult]] = {
    "A": AvsResult.ADDRESS_ONLY,
    "B": AvsResult.NOT_PROVIDED,
    "E": AvsResult.ERROR,
    "G": AvsResult.INTERNATIONAL,
    "N": AvsResult.NO_MATCH,
    "P": AvsResult.NOT_APPLICABLE,
    "R": AvsResult.RETRY,
    "S": AvsResult.NOT_SUPPORTED,
    "U": AvsResult.UNAVAILABLE,
    "W": AvsResult.POSTAL_CODE_ONLY,
    "X": AvsResult.FULL_MATCH,
    "Y": AvsResult.FULL_MATCH,
    "Z": AvsResult.POSTAL_CODE_ONLY,
}

CVV: Final[Mapping[str, CvvResult]] = {
    "M": CvvResult.MATCH,
    "N": CvvResult.NO_MATCH,
    "P": CvvResult.NOT_PROCESSED,
    "S": CvvResult.SHOULD_HAVE_BEEN_PRESENT,
    "U": CvvResult.UNAVAILABLE,
}

CAVV: Final[Mapping[str, CavvResult]] = {
    "0": CavvResult.ERROR,
    "1": CavvResult.FAILED,
    "2": CavvResult.PASSED,
    "3": CavvResult.NOT_PERFORMED,
    "4": CavvResult.NOT_PERFORMED,
    "7": CavvResult.FAILED,
    "8": CavvResult.PASSED,
    "9": CavvResult.FAILED,
    "A": CavvResult.PASSED,
    "B": CavvResult.INFORMATION_ONLY,
}
"""5 and 6 are reserved; an empty one was not validated."""


class Checks(TypedDict):
    """The fields of an outcome that tell of the checks."""

    avs_result: str | None
    cvv_result: str | None
    cavv_result: str | None
    avs: str | None
    cvv: str | None
    cavv: str | None


def read(avs: object, cvv: object, cavv: object) -> Checks:
    """From the three results as they came, which may be anything."""
    avs_result, cvv_result, cavv_result = wire.letter(avs), wire.letter(cvv), wire.letter(cavv)
    return {
        "avs_result": avs_result,
        "cvv_result": cvv_result,
        "cavv_result": cavv_result,
        "avs": AVS.get(avs_result) if avs_result else None,
        "cvv": CVV.get(cvv_result) if cvv_result else None,
        "cavv": CAVV.get(cavv_result) if cavv_result else None,
    }
