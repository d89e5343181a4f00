"""The processors that this installation can use: those built in, and those of other packages.

Another package registers its `Integration` under the entry point group `easypay.processors`.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Final

from msgspec.structs import replace

from easypay.errors import EasyPayError, FieldError, ValidationFailed
from easypay.processors.authorize_net.integration import AUTHORIZE_NET
from easypay.processors.integration import Integration

BUILT_IN: Final = (AUTHORIZE_NET,)
DEFAULT: Final = AUTHORIZE_NET.name
"""The processor of an account that names none."""
_GROUP: Final = "easypay.processors"


class RegistrationError(EasyPayError):
    """What is installed or set cannot be used."""


def installed(addresses: Mapping[str, str]) -> dict[str, Integration]:
    """Return every processor by its name.

    `addresses` replaces URLs: `{"authorize_net.test": "https://…"}`. Raises RegistrationError if
    two processors share a name, an entry point leads to something else, or an address is of none.
    """
    found: dict[str, Integration] = {}
    for each in (*BUILT_IN, *(point.load() for point in entry_points(group=_GROUP))):
        if not isinstance(each, Integration):
            raise RegistrationError(
                f"An entry point of {_GROUP} leads to {each!r}, which is no Integration."
            )
        if each.name in found:
            raise RegistrationError(f"Two processors are named {each.name}.")
        urls = {mode: addresses.get(f"{each.name}.{mode}", url) for mode, url in each.urls.items()}
        found[each.name] = replace(each, urls=urls)
    known = {f"{name}.{mode}" for name, each in found.items() for mode in each.urls}
    if unknown := addresses.keys() - known:
        raise RegistrationError(
            f"EASYPAY_PROCESSOR_URLS: {min(unknown)} is not one of {', '.join(sorted(known))}."
        )
    return found


def named(integrations: Mapping[str, Integration], name: str) -> Integration:
    """Return one processor. Raises ValidationFailed, with the names that would do."""
    if name not in integrations:
        known = ", ".join(sorted(integrations))
        raise ValidationFailed.of(
            [FieldError("#/processor", "unknown_processor", f"processor must be one of: {known}.")]
        )
    return integrations[name]
