"""The project's prose and identifiers are free of the words that readers stumble over; CONTRIBUTING.md lists them."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORDS = re.compile(
    r"(?<![a-z])(hear|hears|heard|hearing|strangers?|strange|told|likest|likeliest|likelier|mend|mends|mended|"
    r"mending|whom|anew|flatters?|judges?|judged)(?![a-z])|\bso\s+(many|much)\b|\bof\s+equals\b",
    re.IGNORECASE,
)
# The words themselves are the subject, or sentences that a voice says.
EXEMPT = {"tests/test_language.py", "CONTRIBUTING.md", "CHANGELOG.md", "sample/make_sample.py"}
# A key in the files of earlier versions, which is still read.
OLD_KEY = "n_strangers"
SKIPPED = {".venv", ".git", "outputs", "data", "pretrained_models", "LibriSpeech"}  # the last: transcripts


def sources(pattern: str) -> list[Path]:
    files = [path for path in ROOT.rglob(pattern) if not SKIPPED & set(path.relative_to(ROOT).parts)]
    return sorted(path for path in files if path.relative_to(ROOT).as_posix() not in EXEMPT)


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the names, strings and comments of a Python file with their lines; of other files the whole text."""
    text = path.read_text(encoding="utf-8")
    text = text.replace(OLD_KEY, "")
    if path.suffix != ".py":
        # Quoted lines are the words of others, such as the licences in sample/README.md.
        yield 1, re.sub(r"^>.*", "", text, flags=re.MULTILINE)
        return
    kinds = {tokenize.NAME, tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds:
            # camelCase and snake_case are several words.
            yield token.start[0], re.sub(r"(?<=[a-z])(?=[A-Z])", " ", token.string)


@pytest.mark.parametrize("pattern", ["*.py", "*.md", "Makefile", "*.toml", "*.yml", "*.yaml", "*.txt", "*.cff"])
def test_no_word_of_the_list_is_used(pattern: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line + text.count(chr(10), 0, match.start())}: {match[0]}"
        for path in sources(pattern)
        for line, text in words_of(path)
        for match in WORDS.finditer(text)
    ]
    assert found == []


def test_the_word_list_finds_words_in_names_and_sentences() -> None:
    for text in ("n_strangers", "test_it_is_told", "Heard", "by so\nmany recordings", "ties, of equals", "mended"):
        assert WORDS.search(text), text
    for text in ("threshold", "searched", "total", "commend", "recommended", "stellar", "something"):
        assert not WORDS.search(text), text


def test_summaries_of_public_functions_are_imperatives() -> None:
    """A summary does not begin with a question word or a preposition, nor with "Tell"."""
    opening = re.compile(r"(What|Whether|Who|Where|Which|How|Of|By|Tell|Say)\b")
    found = []
    for path in sources("*.py"):
        if path.relative_to(ROOT).parts[0] == "tests":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_property = any("property" in ast.unparse(each) for each in getattr(node, "decorator_list", ()))
            if isinstance(node, ast.FunctionDef) and not is_property and opening.match(ast.get_docstring(node) or ""):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}")
    assert found == []
