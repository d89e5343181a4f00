"""Make one call through Py-Authorize.

It raises AuthorizeResponseError for declines and errors, and renames all elements to lower_case.
"""

import sys
import xml.etree.ElementTree

# It imports a module name that Python dropped in 3.9.
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
