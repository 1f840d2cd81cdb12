"""docs/ERRORS.md: its table has every problem that the code can raise, and nothing else."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.core import errors
from shared.core.errors import Problem
from tests.unit.helpers import ROOT

CLASSES = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Problem)}
# shared/document makes examples of problems, and raises none.
SOURCES = [
    path
    for folder in ("shared", "functions")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.relative_to(ROOT).parts[:2] != ("shared", "document")
]
ROW = re.compile(r"\| `(urn:atelier:problem:(\w+))` \| (\d{3}) \| `(\w+)` \| ([^|]+) \| ([^|]+) \|")
TABLE = [found for line in (ROOT / "docs/ERRORS.md").read_text().splitlines() if (found := ROW.fullmatch(line))]


def made(path: Path) -> Iterator[tuple[int, str]]:
    """Status and code of every problem that a file makes. One whose code is no literal cannot be told, and is none."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id in CLASSES:
            yield CLASSES[node.exc.id].status, CLASSES[node.exc.id].code
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        if name not in CLASSES:
            continue
        code = next((keyword.value for keyword in node.keywords if keyword.arg == "code"), None)
        assert code is None or isinstance(code, ast.Constant), f"{path}:{node.lineno}: the code is not a literal"
        yield CLASSES[name].status, str(code.value) if isinstance(code, ast.Constant) else CLASSES[name].code


RAISED = {problem for path in SOURCES for problem in made(path)}


def test_the_table_is_what_can_be_raised() -> None:
    assert {(int(row[3]), row[4]) for row in TABLE} == RAISED


def test_every_row_names_its_type_and_says_when_and_what_to_do() -> None:
    assert TABLE
    for row in TABLE:
        assert row[2] == row[4]
        assert row[5].strip()
        assert row[6].strip()
    lines = [line for line in (ROOT / "docs/ERRORS.md").read_text().splitlines() if "urn:atelier:problem:" in line]
    assert len(lines) == len(TABLE), "a row that this test cannot read"
    assert [int(row[3]) for row in TABLE] == sorted(int(row[3]) for row in TABLE)


@pytest.mark.parametrize("code", sorted({code for _, code in RAISED}))
def test_every_code_is_met_by_a_test(code: str) -> None:
    tests = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]

    assert any(f'"{code}"' in text for text in tests)


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_the_tree_in_the_docstring_has_every_class_with_its_status(kind: type[Problem]) -> None:
    if kind is Problem:
        return

    assert re.search(rf"── {kind.__name__} +{kind.status} ", errors.__doc__ or "")


def test_the_tree_in_the_docstring_has_every_code() -> None:
    assert {code for _, code in RAISED} <= set(re.findall(r"\w+", errors.__doc__ or ""))


def test_a_type_follows_from_its_code() -> None:
    document = errors.Conflict("x", code="already_rotated").document("r")

    assert document["type"] == "urn:atelier:problem:already_rotated"
