"""Make one call through the official Python SDK."""

from authorizenet import apicontractsv1 as contracts
from authorizenet import apicontrollers as controllers


def call(url, login, key, method, fields):
    """Send `method` with these fields; return the reply as a tree of dicts."""
    auth = {"class": "merchantAuthenticationType", "name": login, "transactionKey": key}
    request = made({"class": f"{method}Request", "merchantAuthentication": auth, **fields})
    controller = getattr(controllers, f"{method}Controller")(request)
    controller.setenvironment(url)  # the constructor sets the sandbox's URL
    controller.execute()
    return tree(controller.getresponse())


def made(value):
    """Return an SDK object of the type named by `class`."""
    if isinstance(value, list):
        return [made(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = getattr(contracts, value["class"])()
    for name, field in value.items():
        if name != "class":
            setattr(found, name, made(field))
    return found


def tree(element):
    """Return an element as text, or as a dict of its children."""
    children = element.getchildren()
    if not children:
        return element.text or ""
    found = {}
    for child in children:
        found.setdefault(child.tag.rpartition("}")[2], []).append(tree(child))
    return {name: each if len(each) > 1 else each[0] for name, each in found.items()}
