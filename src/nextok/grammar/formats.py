"""Formats of texts in JSON schemas, as patterns: each matches a part of the format that every checker accepts."""

# The years from 0001 to 9999, and those of them that have a 29 February.
_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_MINUTES = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_MINUTES}:[0-5][0-9](?:\.[0-9]{{1,9}})?(?:Z|[+\-]{_MINUTES})"
_LABEL = "[a-z0-9]{1,20}(?:-[a-z0-9]{1,20}){0,2}"  # at most 62 characters, and never two hyphens
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,3}}"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
_GROUP = "[0-9a-fA-F]{1,4}"
_IPV6 = "|".join(
    [f"(?:{_GROUP}:){{7}}{_GROUP}", "::"]
    + [f"(?:{_GROUP}:){{1,{7 - behind}}}(?::{_GROUP}){{1,{behind}}}" for behind in range(1, 7)]
    + [f"(?:{_GROUP}:){{1,7}}:", f":(?::{_GROUP}){{1,7}}"]
)
_SIGN = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"
_TAIL = rf"(?:\?{_SIGN}*)?(?:#{_SIGN}*)?"
_URI = rf"(?:[a-z][a-z0-9+\-.]*:(?://{_HOST}(?::[0-9]{{1,4}})?(?:/{_SIGN}*)*|{_SIGN}+(?:/{_SIGN}*)*){_TAIL})"
_URI_REFERENCE = rf"(?:{_URI}|/(?:{_SIGN}+(?:/{_SIGN}*)*)?{_TAIL})"
_POINTER = "(?:/(?:[^~/]|~[01])*)*"
_COUNT = "(?:0|[1-9][0-9]{0,5})"


def _join_units(units: str) -> str:
    """Amounts of these units, in this order, at least one of them."""
    return "|".join(
        f"{_COUNT}{unit}" + "".join(f"(?:{_COUNT}{later})?" for later in units[place + 1 :])
        for place, unit in enumerate(units)
    )


_CLOCK = f"T(?:{_join_units('HMS')})"

PATTERNS = {
    "date": _DATE,
    "date-time": f"{_DATE}T{_TIME}",
    "time": _TIME,
    "duration": f"P(?:(?:{_join_units('YMD')})(?:{_CLOCK})?|{_CLOCK}|{_COUNT}W)",
    "email": rf"[A-Za-z0-9_+\-]{{1,20}}(?:\.[A-Za-z0-9_+\-]{{1,20}}){{0,2}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "uri": _URI,
    "uri-reference": _URI_REFERENCE,
    "uri-template": r"(?:[A-Za-z0-9\-._/:?=&]|\{[a-z][a-z0-9_]*\})*",
    "uuid": "[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}",
    "json-pointer": _POINTER,
    "relative-json-pointer": f"[1-9]{{0,8}}[0-9](?:#|{_POINTER})",
    "regex": r"(?:(?:[A-Za-z0-9_ :;,=@/\-]|\\[dDwWsS.])[*+?]?)*",
}
PATTERNS |= {
    "idn-email": PATTERNS["email"],
    "idn-hostname": _HOST,
    "iri": _URI,
    "iri-reference": _URI_REFERENCE,
}
PATTERNS |= {
    f"uuid{version}": f"[0-9a-f]{{8}}-[0-9a-f]{{4}}-{version}[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}"
    for version in (1, 3, 4, 5, 7)
}
NO_PATTERN = frozenset(
    {"int32", "int64", "float", "double", "byte", "binary", "password", "path", "file-path", "directory-path"}
)
"""Formats of OpenAPI and pydantic that say how a value is stored; they are remarks here, as for jsonschema."""
