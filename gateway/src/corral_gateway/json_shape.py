"""How deep and how full a JSON text is, found out before it is parsed. Pure.

A parser makes some hundred bytes of objects of each byte of ``[[[[`` or ``[0,0,0``; counting takes a fraction of that
time and no memory. It need not know whether the text is JSON: the parser says so afterwards.
"""

import re

#: Tools' arguments are some levels deep; far below what any parser's stack can hold.
MOST_LEVELS = 200
#: Members and elements in all. A table of 10,000 rows and ten columns has them.
MOST_VALUES = 200_000

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_OPENING = (b"[", b"{")


def excess_of(data: bytes, *, most_levels: int = MOST_LEVELS, most_values: int = MOST_VALUES) -> str | None:
    """Return what is too much of a text; None: nothing."""
    # What lies in strings is counted too: never too little, and for most bodies that is all there is to do.
    opened = data.count(b"[") + data.count(b"{")
    separators = data.count(b",") + opened
    if opened <= most_levels and separators <= most_values:
        return None
    bare = _STRING.sub(b"", data)
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > most_values:
        return f"has more than {most_values} values"
    level = 0
    for bracket in _BRACKET.findall(bare):
        level += 1 if bracket in _OPENING else -1
        if level > most_levels:
            return f"is nested more than {most_levels} levels deep"
    return None
