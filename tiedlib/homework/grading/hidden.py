"""What a test gives to its checks and nobody but the teacher may read: the secret of a homework stands among it.

An error shows the line that it happened in, and a message may repeat its arguments. So whatever leaves a grader goes through
`without`, with the words that `words` found in the tests.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from typing import Any

__all__ = ["without", "words"]

_LEAST = 12  # characters of a text that is worth hiding; a secret has as many


def words(source: str, secret: str = "") -> list[str]:
    """The texts that a test's code hands to what it calls, and the secret; the longest first. source: of a test file, with
    functions or with doctests. Nothing of a file that does not parse."""
    found = {secret} if secret else set()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return sorted(found)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for line in node.body:
                found |= _texts(n for n in ast.walk(line) if isinstance(n, (ast.Call, ast.Assign)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ">>>" in node.value:
            code = "\n".join(re.findall(r"(?m)^\s*(?:>>>|\.\.\.) ?(.*)$", node.value))
            try:
                inside = ast.parse(code)
            except (SyntaxError, ValueError):
                found |= set(re.findall(r"""["']([^"'\n]{12,})["']""", code))  # too much rather than too little
            else:
                found |= _texts(n for n in ast.walk(inside) if isinstance(n, (ast.Call, ast.Assign)))
    return sorted((word for word in found if len(word) >= _LEAST or word == secret), key=len, reverse=True)


def _texts(nodes: Iterable[ast.AST]) -> set[str]:
    found = set()
    for node in nodes:
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                found.add(part.value)
    return found


def without(content: Any, hidden: Iterable[str]) -> Any:
    """The same text, or the same lists and dicts of texts, with […] in the place of each of these words, however it is written
    out."""
    if isinstance(content, str):
        for word in hidden:
            for form in (word, repr(word)[1:-1], json.dumps(word)[1:-1], word.encode().hex()):
                content = content.replace(form, "[…]")
        return content
    if isinstance(content, dict):
        return {without(key, hidden): without(value, hidden) for key, value in content.items()}
    return [without(value, hidden) for value in content] if isinstance(content, list) else content
