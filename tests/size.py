"""Counts modules and lines of code of package and tests: `python tests/size.py`. Blank lines, comments and docstrings are no code."""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(text: str) -> int:
    """Returns how many lines hold code."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {line for token in tokens if token.type not in NO_CODE for line in range(token.start[0], token.end[0] + 1)}
    strings = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    return len(lines - {line for node in strings if isinstance(node.value.value, str) for line in range(node.lineno, node.end_lineno + 1)})


def main() -> None:
    for tree in ("gapbench", "tests"):
        lines: Counter[str] = Counter()
        modules: Counter[str] = Counter()
        for path in (ROOT / tree).rglob("*.py"):
            room = path.relative_to(ROOT / tree).parts[0]
            lines[room] += code_lines(path.read_text())
            modules[room] += 1
        print(f"{tree}: {lines.total():,} lines of code in {modules.total()} modules")
        for room, count in lines.most_common():
            print(f"  {room:<16} {count:>6,} {modules[room]:>4}")


if __name__ == "__main__":
    main()
