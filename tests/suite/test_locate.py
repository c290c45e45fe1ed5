from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapbench.suite.toml import KeyPath, dumps, locate
from tests.suite.nested import paths

TRICKY = (
    r'''# a comment with [brackets] and "quotes"
plain = 1
"quoted key" = 2          # 3
'literal # key' = 3
dotted.key.deep = 4
dotted."with \" quote".x = 5
site."a.b" = 6
inline = { a = 1, b.c = 2, d = { e = [1, 2] } }
text = """
not.a.key = 1
[not.a.table]
\"""still text\"\""""
after_text = 13
literal = \'\'\'
# not a comment
x = "unclosed
\'\'\'\'\'
after_literal = 18
array = [
    1,  # one ]
    # nothing but a comment
    [2, 3], { k = "]}" , l = 4 },
    """a
b""",
]
date = 1979-05-27T07:32:00Z # with a colon
spaced . key = 1
[table]
x = "# no comment"
[table.sub."dotted.name"]
y = \'\\\'
[[tables]]
z = 1
[[tables]]
z = 2
[tables.below]
w = 3
[[tables.nested]]
v = 4
[[tables.nested]]
v = 5
[[tables]]
  [[tables.nested]]
  v = 6
[other]
escaped = "\\"
last = "\""'''.replace(r"\'\'\'\'\'", "'''''")
    .replace(r"\'\'\'", "'''")
    .replace(r"\'\\\'", "'\\'")
)


def line_of(text: str, piece: str, occurrence: int = 1) -> int:
    position = -1
    for _ in range(occurrence):
        position = text.index(piece, position + 1)
    return text.count("\n", 0, position) + 1


def test_tricky_toml_has_exactly_the_paths_that_tomllib_reads() -> None:
    assert set(locate(TRICKY)) == {*paths(tomllib.loads(TRICKY))}


@pytest.mark.parametrize(
    ("path", "piece", "occurrence"),
    [
        (("plain",), "plain =", 1),
        (("quoted key",), '"quoted key"', 1),
        (("dotted", "key", "deep"), "dotted.key", 1),
        (("dotted",), "dotted.key", 1),
        (("dotted", 'with " quote', "x"), 'dotted."with', 1),
        (("inline", "d", "e", 1), "inline =", 1),
        (("text",), "text =", 1),
        (("after_text",), "after_text", 1),
        (("after_literal",), "after_literal", 1),
        (("array", 0), "1,  # one", 1),
        (("array", 1, 1), "[2, 3]", 1),
        (("array", 2, "l"), "[2, 3]", 1),
        (("array", 3), '"""a', 1),
        (("spaced", "key"), "spaced . key", 1),
        (("table", "sub", "dotted.name", "y"), "y = '", 1),
        (("tables",), "[[tables]]", 1),
        (("tables", 1), "[[tables]]", 2),
        (("tables", 1, "below", "w"), "w = 3", 1),
        (("tables", 1, "nested", 1, "v"), "v = 5", 1),
        (("tables", 2, "nested", 0, "v"), "v = 6", 1),
        (("other", "last"), "last =", 1),
    ],
)
def test_keys_have_the_line_on_which_they_stand(path: KeyPath, piece: str, occurrence: int) -> None:
    assert locate(TRICKY)[path] == line_of(TRICKY, piece, occurrence)


keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=6)
scalars = (
    st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8)


@given(st.dictionaries(keys, values, max_size=5))
def test_what_is_written_is_read_back_and_every_key_is_found(data: dict[str, Any]) -> None:
    text = dumps(data)
    assert tomllib.loads(text) == data
    assert set(locate(text)) == {*paths(data)}
