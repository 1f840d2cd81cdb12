"""The rules that keep the layout what it is; `make check` runs them."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.unit.helpers import ROOT, functions

SHARED = sorted((ROOT / "shared").rglob("*.py"))
FUNCTIONS = sorted((ROOT / "functions").rglob("*.py"))
MODULES = [path for path in FUNCTIONS if path.name != "__init__.py"]
FOLDERS = {path.name for path in (ROOT / "functions").iterdir() if path.is_dir()}

# Which packages of `shared` each may import, besides itself.
MAY_IMPORT = {
    "core": set(),
    "providers": {"core"},
    "credits": {"core"},
    "media": {"core"},
    "access": {"core"},
    "jobs": {"core", "providers", "credits", "media"},
    "editor": {"core", "media"},
    "projects": {"core", "media", "editor"},
    "silence": {"core", "providers", "media", "editor", "projects", "jobs"},
    "document": {"core"},
    "uploads": {"core", "media"},
    "delivery": {"core", "providers", "jobs"},
    "publishing": {"core", "providers", "media"},
    "stock": {"core", "providers", "media"},
}
# The first signs what it writes; the second has a table that is not audited.
WRITERS = {ROOT / "shared/core/dynamo.py", ROOT / "shared/delivery/deliveries.py"}

TRIGGERS = {
    "api": re.compile(r"(GET|POST|PUT|DELETE) /v1/|The HTTP API's \$default route"),
    "webhooks": re.compile(r"Function URL /"),
    "generation": re.compile(r"Step Functions, \w+:"),
    "publishing": re.compile(r"Step Functions, \w+:"),
    "scheduled": re.compile(r"EventBridge, "),
    "events": re.compile(r"(DynamoDB|SQS|S3), "),
    "realtime": re.compile(r"WebSocket, \$"),
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it, also by its name in a string."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: a relative import"
            # `from shared.jobs import table` imports shared.jobs.table
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield ast.unparse(node.args[0]).strip("'\"").removeprefix("f'").removeprefix('f"')


def tracked() -> Iterator[tuple[str, str]]:
    """Every file of the repository that is still there, and its text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            yield name, (ROOT / name).read_bytes().decode(errors="replace")


@pytest.mark.parametrize("path", SHARED, ids=name_of)
def test_shared_imports_only_in_the_one_direction(path: Path) -> None:
    package = path.relative_to(ROOT / "shared").parts[0]
    for module in imported(path):
        top, _, rest = module.partition(".")

        assert top not in {*FOLDERS, "functions", "local", "tests"}, f"shared must not import {module}"
        if top == "shared":
            other = rest.partition(".")[0]
            assert other in {package, *MAY_IMPORT[package]}, f"{package} must not import {module}"


def test_every_package_of_shared_has_a_place_in_the_rule() -> None:
    packages = {path.parent.name for path in (ROOT / "shared").glob("*/__init__.py")}

    assert packages == MAY_IMPORT.keys()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_never_import_each_other(path: Path) -> None:
    siblings = {module for module in imported(path) if module.partition(".")[0] in {*FOLDERS, "functions"}}

    # One document over all functions is made of all functions.
    expected = {"api.{name}"} if path == ROOT / "functions/api/openapi.py" else set()
    assert siblings == expected


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_import_nothing_that_is_not_deployed(path: Path) -> None:
    assert not {module for module in imported(path) if module.partition(".")[0] in {"local", "tests"}}


@pytest.mark.parametrize("path", [path for path in SHARED + FUNCTIONS if path.name == "__init__.py"], ids=name_of)
def test_init_files_are_empty(path: Path) -> None:
    assert path.read_text() == ""


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_function_names_its_trigger(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))

    assert docstring
    assert TRIGGERS[path.parent.name].match(docstring)


@pytest.mark.parametrize("path", [path for path in SHARED if path.name != "__init__.py"], ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", SHARED + FUNCTIONS, ids=name_of)
def test_whoever_catches_everything_logs_the_traceback(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = ast.unparse(node.type) if node.type else "everything"
        if re.search(r"\b(everything|Exception|BaseException)\b", caught):
            calls = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
            assert "logger.exception" in calls, f"line {node.lineno}"


@pytest.mark.parametrize("path", SHARED + FUNCTIONS, ids=name_of)
def test_nothing_is_printed(path: Path) -> None:
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}

    assert "print" not in calls


@pytest.mark.parametrize("path", SHARED + FUNCTIONS, ids=name_of)
def test_only_settings_read_the_environment(path: Path) -> None:
    if path == ROOT / "shared/core/settings.py":
        return

    assert not re.search(r"\bos\.(environ|getenv)\b", path.read_text())


WRITES = re.compile(r"\.(put_item|update_item|delete_item|transact_write_items|batch_write_item)\(")


@pytest.mark.parametrize("path", SHARED + FUNCTIONS, ids=name_of)
def test_only_one_module_writes_to_tables_so_that_every_write_says_who(path: Path) -> None:
    if path in WRITERS:
        return

    assert not WRITES.search(path.read_text())


# Spelled in halves, so that this file does not name them itself.
REGISTRIES = re.compile("|".join(re.escape(f"{name}.{end}") for name, end in [
    ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("yarnpkg", "com"),
    ("crates", "io"), ("rubygems", "org"), ("anaconda", "org"), ("proxy.golang", "org"),
]))  # fmt: skip
MACHINE_PATH = re.compile(r"(?<![\w.{}$/*-])/(work|root|home|Users|tmp|mnt|private)/[A-Za-z]")


def test_no_file_names_a_registry_or_a_path_of_somebodys_machine() -> None:
    lines = [f"{name}: {line[:120]}" for name, text in tracked() for line in text.splitlines()]

    assert [line for line in lines if REGISTRIES.search(line) or MACHINE_PATH.search(line.partition(": ")[2])] == []


def test_every_handler_of_the_template_exists_and_every_function_is_in_the_template() -> None:
    handlers = [properties["Handler"] for properties in functions().values()]
    files = [".".join(path.relative_to(ROOT / "functions").with_suffix("").parts) for path in MODULES]

    assert sorted(handlers) == sorted(f"{module}.handler" for module in files)
    for handler in handlers:
        module, _, attribute = handler.rpartition(".")
        assert callable(getattr(import_module(module), attribute))


def test_no_folder_hides_a_module_of_the_standard_library() -> None:
    names = {path.name for path in (ROOT / "functions").rglob("*") if path.is_dir()} | FOLDERS
    assert not names & set(sys.stdlib_module_names)
