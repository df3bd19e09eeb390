"""Checks the types in a request body as Graph does, which are OData's: one checker for each type."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from typing import Any

from postroom.sandbox.exchange.errors import invalid_body

Check = Callable[[Any, str], None]

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def text(value: Any, _name: str) -> None:
    """Edm.String, or null."""
    if value is not None and not isinstance(value, str):
        raise _wrong(value, "Edm.String")


def boolean(value: Any, _name: str) -> None:
    """Edm.Boolean, or null."""
    if value is not None and not isinstance(value, bool):
        raise _wrong(value, "Edm.Boolean")


def integer(value: Any, _name: str) -> None:
    """Edm.Int32, or null."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise _wrong(value, "Edm.Int32")


def moment(value: Any, _name: str) -> None:
    """Edm.DateTimeOffset, or null."""
    if value is not None and not (isinstance(value, str) and _MOMENT.fullmatch(value)):
        raise _wrong(value, "Edm.DateTimeOffset")


def binary(value: Any, _name: str) -> None:
    """Edm.Binary (base64), or null."""
    if value is None:
        return
    try:
        decode_base64(value if isinstance(value, str) else "?")
    except ValueError:
        raise _wrong(value, "Edm.Binary") from None


def anything(_value: Any, _name: str) -> None:
    """Any value: Graph would check it, and the sandbox does not."""


def choice(type_name: str, *names: str) -> Check:
    """A checker for an enumeration with these members; upper and lower case are the same."""
    members = {name.casefold() for name in names}

    def check(value: Any, _name: str) -> None:
        if value is not None and not (isinstance(value, str) and value.casefold() in members):
            raise _wrong(value, type_name)

    return check


def collection(of: Check, type_name: str) -> Check:
    """A checker for a list, which may be empty, but not null."""

    def check(value: Any, name: str) -> None:
        if value is None:
            full = f"Collection({type_name})[Nullable=False]"
            raise invalid_body(
                f"A null value was found for the property named '{name}', which has the expected type '{full}'. "
                f"The expected type '{full}' does not allow null values."
            )
        if not isinstance(value, list):
            raise _unexpected(value, "StartArray")
        for one in value:
            if one is None:
                raise invalid_body(f"A null value was found for an item of '{name}'; '{type_name}' allows none.")
            of(one, name)

    return check


def record(type_name: str, fields: Mapping[str, Check]) -> Check:
    """A checker for an object that has no other properties than these. Upper and lower case differ."""

    def check(value: Any, _name: str) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            raise _unexpected(value, "StartObject")
        for place, (key, inner) in enumerate(value.items()):
            field = fields.get(key)
            if field is not None:
                field(inner, key)
            elif key.startswith("@odata.") or "@" in key:
                _check_annotation(key, place)
            else:
                raise unknown_property(key, type_name)

    return check


def unknown_property(name: str, type_name: str) -> Exception:
    """The error for a property that the type does not have."""
    return invalid_body(
        f"The property '{name}' does not exist on type '{type_name}'. Make sure to only use property names that are "
        "defined by the type or mark the type as open type."
    )


def decode_base64(encoded: str | bytes) -> bytes:
    """The decoded bytes. White space is allowed; raises ValueError for any other character."""
    try:
        return b64decode(encoded, validate=True)
    except (Base64Error, ValueError):
        compact = "".join(encoded.split()) if isinstance(encoded, str) else b"".join(encoded.split())
        return b64decode(compact, validate=True)


def _check_annotation(key: str, place: int) -> None:
    # A reader that streams must know the type before the first property.
    if key == "@odata.type" and place > 0:
        raise invalid_body(
            "The annotation 'odata.type' was found. This annotation is either not recognized or not expected at the "
            "current position."
        )


def _wrong(value: Any, expected: str) -> Exception:
    if isinstance(value, dict | list):
        return _unexpected(value, "PrimitiveValue")
    literal = str(value).lower() if isinstance(value, bool) else value
    return invalid_body(f"Cannot convert the literal '{literal}' to the expected type '{expected}'.")


def _unexpected(value: Any, expected: str) -> Exception:
    found = "StartObject" if isinstance(value, dict) else "StartArray" if isinstance(value, list) else "PrimitiveValue"
    return invalid_body(
        f"An unexpected '{found}' node was found when reading from the JSON reader. A '{expected}' node was expected."
    )
