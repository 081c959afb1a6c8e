"""Finds the words and phrases that the house does not use. Exits with 1 if there are any.

    python tools/words.py [ROOT]

Reads docstrings, comments, string literals and names in Python files, and Markdown pages without
their code. Literals of tests are not read: they quote prompts and other projects' messages.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("engines", "runtime", "export", "bench", "tools", "tests")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md")
EXCEPTED = frozenset({"tools/words.py", "tests/test_words.py"})  # they quote what they reject

COMPARATIVES = "longer|more|less|fewer|larger|smaller|faster|slower"
# Matched as whole words. Case counts: `None` is a value, "none" is a word.
PHRASES = {
    "[Tt]old|[Tt]ells": "reports, shows, says",
    "[Bb]esides?": "next to, compared with, in addition to",
    "[Ss]hall": "must, is to, will",
    "[Aa]new": "again",
    "[Dd]ear": "expensive",
    r"[Ss]o[\s-]called": "of this name",
    "[Pp]ictures?": "image",
    r"(?:is|are|was|were)\s+none": "is not a, there is no",
    rf"(?<!here\s)(?:is|are)\s+no(?!\s+(?:{COMPARATIVES}))": "is not a",
    r"[Nn]o\s+whole": "not a complete",
    r"\w+n't|(?:[Ii]t|[Tt]hat|[Tt]here|[Ww]hat|[Ll]et)'s": "the words in full, such as cannot",
}
OPENINGS = re.compile(r"(?:What|Whether|How|Which|Where|Who|Whose|Why|Of)\b")
NAMES = re.compile(
    r"(?:^|_)(told|tells|besides?|shall|anew|dear|so_called|pictures?|(?:is|are)_none)(?=_|$)",
    re.IGNORECASE,
)
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]+`", re.MULTILINE | re.DOTALL)

_PATTERNS = {re.compile(rf"\b(?:{phrase})\b"): instead for phrase, instead in PHRASES.items()}


@dataclass(frozen=True, order=True)
class Finding:
    """A rejected phrase and the line on which its text begins."""

    line: int
    phrase: str
    instead: str


def findings_in_page(text: str) -> Iterator[Finding]:
    """Rejected phrases in the prose of a Markdown page."""
    yield from _findings_in(1, CODE.sub(lambda code: "\n" * code[0].count("\n"), text))


def findings_in_source(text: str) -> Iterator[Finding]:
    """Rejected phrases in a Python file, its string literals included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _findings_in(node.lineno, node.value)
    yield from findings_in_test(text)


def findings_in_test(text: str) -> Iterator[Finding]:
    """Rejected phrases in a Python file, without its string literals except for docstrings."""
    for line, docstring in _docstrings(ast.parse(text)):
        yield from _findings_in_docstring(line, docstring)
    for line, comment in _comments(text):
        yield from _findings_in(line, comment)
    for token in _tokens(text, tokenize.NAME):
        for found in NAMES.finditer(token.string):
            yield Finding(token.start[0], found[1], "another name")


def main(root: Path) -> int:
    """Prints a line for each finding; the exit code."""
    num_findings = 0
    for path, read in _files(root):
        name = path.relative_to(root).as_posix()
        for found in sorted(set(read(path.read_text(encoding="utf-8")))):
            print(f"{name}:{found.line}: {found.phrase!r}, expected: {found.instead}")
            num_findings += 1
    return 1 if num_findings else 0


def _files(root: Path) -> Iterator[tuple[Path, Callable[[str], Iterator[Finding]]]]:
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            inside = path.relative_to(root)
            if "scratch" not in inside.parts and inside.as_posix() not in EXCEPTED:
                yield path, findings_in_test if folder == "tests" else findings_in_source
    for pattern in PAGES:
        for path in sorted(root.glob(pattern)):
            yield path, findings_in_page


def _findings_in(line: int, text: str) -> Iterator[Finding]:
    for pattern, instead in _PATTERNS.items():
        for found in pattern.finditer(text):
            phrase = " ".join(found[0].split())
            yield Finding(line + text.count("\n", 0, found.start()), phrase, instead)


def _findings_in_docstring(line: int, text: str) -> Iterator[Finding]:
    yield from _findings_in(line, text)
    if opening := OPENINGS.match(text):
        yield Finding(line, opening[0], "a noun phrase or a verb in the third person")
    if "``" in text:
        yield Finding(line, "``", "single backticks")


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Comments and their first lines; those on consecutive lines are one comment."""
    first, lines = 0, list[str]()
    for token in _tokens(text, tokenize.COMMENT):
        if token.start[0] != first + len(lines):
            yield first, "\n".join(lines)
            first, lines = token.start[0], []
        lines.append(token.string.lstrip("# "))
    yield first, "\n".join(lines)


def _tokens(text: str, kind: int) -> Iterator[tokenize.TokenInfo]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return (token for token in tokens if token.type == kind)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent))
