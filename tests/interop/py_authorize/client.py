"""Makes one call through Py-Authorize.

It raises AuthorizeResponseError for whatever was not approved, and renames all elements to
lower_case.
"""

import sys
import xml.etree.ElementTree

# It is older than Python 3.9, which dropped this second name of the same module.
sys.modules["xml.etree.cElementTree"] = xml.etree.ElementTree

import authorize  # noqa: E402


def call(url, login, key, method, fields):
    """Call `Class.method`; return the reply, also if the client raised it, and the code raised."""
    authorize.Configuration.configure(url, login, key)
    kind, _, name = method.partition(".")
    try:
        return {**(getattr(getattr(authorize, kind), name)(*fields) or {}), "raised": None}
    except authorize.AuthorizeResponseError as error:
        return {**error.full_response, "raised": error.code}
