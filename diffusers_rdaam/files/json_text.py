"""JSON from a stranger: bounded in size, depth and elements, and no field twice."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_CHARACTERS = 16_000_000
MAX_DEPTH = 32
# Lists, objects and what is in them: each takes some 60 to 100 bytes of memory.
MAX_ELEMENTS = 2_000_000
MAX_DIGITS = 1000


def parse_json(text: str, *, limit: int | None = None) -> Any:
    """The value of a JSON text. NaN and infinity are numbers here; who reads a field refuses them.

    Args:
        text: such as a file's header.
        limit: of its characters.

    Raises:
        ValueError: the text is not JSON, is larger or deeper than any file of ours, or an object
            has two fields of one name.
    """
    limit = MAX_CHARACTERS if limit is None else limit
    if len(text) > limit:
        raise ValueError(f"it is over {limit} characters")
    # Not one pattern for strings with escapes: an open string would cost the square of its length.
    bare = re.sub(r'"[^"]*"', "", text.replace("\\\\", "").replace('\\"', ""))
    if bare.count(",") + bare.count("[") + bare.count("{") > MAX_ELEMENTS:
        raise ValueError(f"it has over {MAX_ELEMENTS} elements")
    depth = 0
    for bracket in re.findall(r"[\[{}\]]", bare):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested over {MAX_DEPTH} deep")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_integer)
    # The caller's own stack may be almost used up.
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"the field {twice[:80]!r} occurs twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number has over {MAX_DIGITS} digits")
    return int(digits)
