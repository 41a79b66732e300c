"""Architecture rules that no linter checks; import-linter checks the directions of imports (pyproject.toml)."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from command_line import environment
from scripted import RawServer, reply

import arena_async
from arena_async.testing import ArenaSimulator

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
PACKAGE = Path(arena_async.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
PURE_MODULES = [
    "arena_async.transfer.models",
    "arena_async.transfer.outcomes",
    "arena_async.transfer.planner",
    "arena_async.transfer.refusals",
    *(f"arena_async.protocol.{path.stem}" for path in sorted((PACKAGE / "protocol").glob("[a-z]*.py"))),
]

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

MAX_MODULE_LINES = 400
MAX_CLASS_LINES = 250
MAX_FUNCTION_LINES = 40
MAX_PARAMETERS = 6
MAX_TRANSFER_MODULES = 38
#: Lines of code of the product, without docstrings, comments and blank lines: 16,400 for what the redesign had. Runs
#: side by side, refusals, pauses of hosts, records of what was sent, copies of the ledger, whole lists, and state and
#: content that are not believed came since.
MAX_PRODUCT_LINES = 20_200

#: Python calls that one more file of 20 KB may take: all, and those of the package. This counts on all threads, and so
#: some 18 more than a count on those that the run starts.
MAX_CALLS, MAX_OWN_CALLS = 365, 180

#: Functions and modules of the package that one page of a list passes through. Whole walks, JSON in steps and the
#: pauses of hosts took some.
MAX_PAGE = (68, 17)

#: The same for one file of 1 MB, from the listing to the disk, on all threads. The aim was 223 and 30. A page is part
#: of it, each system call is a method of the seam by which faults enter, and each structure of the zip format has a
#: function of its own. Fewer modules would be longer than modules may be. The lease of a run, the claims of a page,
#: refusals, the copy of the ledger, JSON in steps and connections that are kept in step are on the way as well.
MAX_FILE = (402, 55)

#: Words that this field does not use for the parts of a program, and how often package and pages may have them.
WORDS = re.compile(
    r"\b(?:somebody|nobody|everybody|anybody|whoever|whom|home|brings?|brought|roads?|desks?|doors?|journeys?|verdicts?"
    r"|trials?|scouts?|mint(?:s|ed|ing)?|tells?|told|heard|asks?|asked|asking|questions?|remarks?|allowances?|dialects?"
    r"|for ever|in vain|parked|spelt|mends?)\b",
    re.IGNORECASE,
)
MAX_WORDS, MAX_WORDS_IN_PAGES = 150, 20

#: Longer modules (lines without docstrings), with the reason.
LONG_MODULES = {}

#: Longer classes, with the reason.
LONG_CLASSES = {}

#: Longer functions, with the reason.
LONG_FUNCTIONS = {}

#: Functions with more parameters, with the reason.
MANY_PARAMETERS = {
    "cli/centrepoint.py:day_files": "The flattened options of a command.",
    "cli/runs.py:import_check": "The flattened options of a command.",
    "cli/runs.py:import_commit": "The flattened options of a command.",
    "errors.py:__init__": "The fields of a public error.",
    "providers/arena/client.py:__init__": "One line for each setting of a public client.",
    "providers/arena/imports.py:define": "The fields of a definition, and what to do with earlier ones.",
    "providers/centrepoint/client.py:__init__": "One line for each setting of a public client.",
    "testing/arena/contents.py:add_import_run": "The fields of a run that a test may set.",
    "testing/centrepoint/requests.py:__init__": "The settings that a test may change.",
    "transfer/planner.py:decide_retry": "The facts of one decision, so that tables of tests stay readable.",
    "transfer/verify.py:__init__": "What is known about a file beforehand; all of it optional.",
}

#: Names of several classes, with the reason.
SHARED_NAMES = {}

#: Modules that may read the environment besides ``from_env``, with the reason.
ENVIRONMENT = {
    "cli/options.py": "A settings file is put before the environment that is passed to `from_env`.",
    "cli/output.py": "NO_COLOR and TERM describe the terminal.",
    "providers/send_once.py": "The home of the user, where a client is given no state directory.",
}

#: Modules that may use the file system, with the reason.
FILES = {
    "transfer/filesystem.py": "All calls of downloads.",
    "transfer/local_files.py": "A file of the user that is uploaded.",
    "transfer/processes.py": "What the system says about a process.",
    "transfer/private_files.py": "Small private files, which are replaced in one step.",
    "cli/output.py": "Standard output is redirected when its reader has closed it.",
    "cli/demo.py": "The demo creates a temporary directory by default.",
    "cli/settings.py": "The settings file that the user names.",
}
FILE_CALLS = {
    *("open", "open_code", "os.open", "io.open"),
    *(f"os.{name}" for name in ("link", "listdir", "makedirs", "mkdir", "remove", "rename", "replace", "rmdir")),
    *(f"os.{name}" for name in ("scandir", "symlink", "truncate", "unlink", "utime", "write")),
    *("shutil.copy", "shutil.copyfile", "shutil.move", "shutil.rmtree", "tempfile.mkstemp", "tempfile.mkdtemp"),
}
FILE_METHODS = {
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "unlink",
    "mkdir",
    "rmdir",
    "symlink_to",
}

#: Modules that may start a thread, with the reason.
THREADS = {"transfer/workers.py": "All threads of the package."}
THREAD_CALLS = {"to_thread", "run_in_executor", "run_sync", "start_new_thread"}


@cache
def tree(name: str) -> ast.Module:
    """Parse a module of the package."""
    return ast.parse((PACKAGE / name).read_text(encoding="utf-8"), filename=name)


def functions(name: str) -> Iterator[Function]:
    """Return every function of a module, nested ones included."""
    return (node for node in ast.walk(tree(name)) if isinstance(node, FUNCTIONS))


def classes(name: str) -> Iterator[ast.ClassDef]:
    """Return every class of a module, nested ones included."""
    return (node for node in ast.walk(tree(name)) if isinstance(node, ast.ClassDef))


def calls(name: str) -> Iterator[tuple[str, str, int]]:
    """Yield the calls of a module: the complete dotted name, its last part, and the line."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call):
            dotted = ast.unparse(node.func)
            yield dotted, dotted.rpartition(".")[2], node.lineno


def lines(node: Function | ast.ClassDef) -> int:
    """Return the lines of a function or class without docstrings."""
    return (node.end_lineno or node.lineno) - node.lineno + 1 - docstring_lines(node)


def docstring_lines(inside: ast.AST) -> int:
    """Return the lines of all docstrings inside a node."""
    count = 0
    for node in ast.walk(inside):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(node) is not None:
            first = node.body[0]
            count += (first.end_lineno or first.lineno) - first.lineno + 1
    return count


def parameters(function: Function) -> int:
    """Return the number of parameters of a function, ``self`` and ``cls`` not counted."""
    names = [one.arg for one in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def test_a_module_is_at_most_400_lines_long() -> None:
    """Without docstrings; a longer one is listed with a reason."""
    long = {
        name
        for name in MODULES
        if len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) - docstring_lines(tree(name))
        > MAX_MODULE_LINES
    }

    check(long, LONG_MODULES)


def test_a_class_is_at_most_250_lines_long() -> None:
    """Without docstrings; a longer one is listed with a reason."""
    long = {f"{name}:{node.name}" for name in MODULES for node in classes(name) if lines(node) > MAX_CLASS_LINES}

    check(long, LONG_CLASSES)


def test_a_function_is_at_most_40_lines_long() -> None:
    """Without docstrings; a longer one is listed with a reason."""
    long = {f"{name}:{node.name}" for name in MODULES for node in functions(name) if lines(node) > MAX_FUNCTION_LINES}

    check(long, LONG_FUNCTIONS)


def test_a_function_has_at_most_6_parameters() -> None:
    """One with more is listed with a reason."""
    many = {f"{name}:{node.name}" for name in MODULES for node in functions(name) if parameters(node) > MAX_PARAMETERS}

    check(many, MANY_PARAMETERS)


def test_a_class_name_exists_once() -> None:
    """In the product, private classes included; the simulators may name their values like the product does."""
    product = [name for name in MODULES if not name.startswith("testing/")]
    named = Counter(node.name.lstrip("_") for name in product for node in classes(name))

    check({name for name, count in named.items() if count > 1}, SHARED_NAMES)


def test_no_docstring_begins_with_give_or_say() -> None:
    """A docstring says what a function does or returns."""
    opened = {
        name
        for name in MODULES
        for node in functions(name)
        if (ast.get_docstring(node) or "").startswith(("Give ", "Gives ", "Say ", "Says "))
    }

    assert opened == set()


def test_the_words_are_those_of_the_field() -> None:
    """In names, docstrings, comments and messages of the package, and in the pages."""
    pages = [*ROOT.glob("docs/**/*.md"), *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"))]
    package = [PACKAGE / name for name in MODULES]

    found, in_pages = [
        sum(len(WORDS.findall(path.read_text(encoding="utf-8"))) for path in paths) for paths in (package, pages)
    ]

    assert found <= MAX_WORDS
    assert in_pages <= MAX_WORDS_IN_PAGES


def test_the_product_has_at_most_20200_lines_of_code() -> None:
    """The simulators apart."""
    count = 0
    for name in MODULES:
        if not name.startswith("testing/"):
            rows = [row.strip() for row in (PACKAGE / name).read_text(encoding="utf-8").splitlines()]
            count += sum(bool(row) and not row.startswith("#") for row in rows) - docstring_lines(tree(name))

    assert count <= MAX_PRODUCT_LINES


def check(found: AbstractSet[str], exceptions: Mapping[str, str]) -> None:
    """Compare what breaks a rule with its exceptions: none is missing, and none is listed without need."""
    assert found - exceptions.keys() == set()
    assert exceptions.keys() - found == set(), "These exceptions are not needed any more."


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_docstring_and_says_what_it_exports(name: str) -> None:
    """A docstring everywhere, and ``__all__`` wherever something is defined (ruff sorts it)."""
    module = tree(name)
    exports = [node for node in module.body if isinstance(node, ast.Assign) and names_all(node)]
    defines = any(isinstance(node, (ast.ClassDef, *FUNCTIONS)) for node in module.body)

    assert ast.get_docstring(module), f"{name} has no docstring"
    assert len(exports) == 1 or not (defines or exports), f"{name} has no __all__"


def names_all(node: ast.Assign) -> bool:
    """Return whether this is the assignment of ``__all__``."""
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)


def test_the_transfer_package_has_at_most_38_modules() -> None:
    """Every module has one purpose; a new one replaces another."""
    transfer = [name for name in MODULES if name.startswith("transfer/") and name != "transfer/__init__.py"]

    assert len(transfer) <= MAX_TRANSFER_MODULES


async def path_costs(*arguments: str, env: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``tests/support/path_child.py`` counts."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "tests/support/path_child.py"), *arguments, env=env, stdout=subprocess.PIPE
    )
    out, _ = await child.communicate()
    assert child.returncode == 0
    return dict(json.loads(out))


async def test_one_more_small_file_takes_at_most_365_calls_180_of_them_of_the_package() -> None:
    """The least of five counts: on a busy machine batches are smaller, and more of them are needed."""
    async with RawServer() as server:
        server.on("GET", "*", reply(200, body=bytes(20_000)))
        counts = [await path_costs("calls", server.base_url, env=environment())]
        while counts[-1]["all"] > MAX_CALLS and len(counts) < 5:
            counts.append(await path_costs("calls", server.base_url, env=environment()))

    assert min(count["all"] for count in counts) <= MAX_CALLS
    assert min(count["own"] for count in counts) <= MAX_OWN_CALLS


async def test_a_page_and_a_file_pass_through_few_functions_and_modules() -> None:
    """A new one on the way of everything takes the place of another."""
    async with ArenaSimulator(files=1, size=1_000_000) as arena:
        costs = await path_costs("functions", env=environment(arena))

    page, files = [(costs[what]["functions"], costs[what]["modules"]) for what in ("page", "files")]
    assert page[0] <= MAX_PAGE[0] and page[1] <= MAX_PAGE[1], page  # noqa: PT018
    assert files[0] <= MAX_FILE[0] and files[1] <= MAX_FILE[1], files  # noqa: PT018


@pytest.mark.parametrize("module", PURE_MODULES)
def test_what_decides_loads_no_database_no_locks_and_no_event_loop(module: str) -> None:
    """Decisions are pure functions over values, so importing them loads neither sqlite3 nor fcntl nor asyncio."""
    code = f"import sys, {module}; print(*{{'asyncio', 'fcntl', 'sqlite3'}}.intersection(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.split() == []


@pytest.mark.parametrize("name", MODULES)
def test_the_environment_is_read_in_from_env_alone(name: str) -> None:
    """The behavior of the library depends on its arguments."""
    inside = {id(node) for function in functions(name) if function.name == "from_env" for node in ast.walk(function)}
    reads = [
        node.lineno
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv") and id(node) not in inside
        if ast.unparse(node.value) == "os"
    ]
    imported = [
        node.lineno
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ImportFrom)
        and node.module == "os"
        and {a.name for a in node.names} & {"environ", "getenv"}
    ]

    assert name in ENVIRONMENT or reads + imported == []


@pytest.mark.parametrize("name", MODULES)
def test_only_the_storage_modules_use_the_file_system(name: str) -> None:
    """The order of writing, syncing and renaming is a promise, so it is in one place."""
    uses = [
        f"{dotted} in line {line}"
        for dotted, last, line in calls(name)
        if dotted in FILE_CALLS or ("." in dotted and last in FILE_METHODS)
    ]

    assert name in FILES or uses == []


@pytest.mark.parametrize("name", MODULES)
def test_threads_are_started_in_one_module(name: str) -> None:
    """A cancelled task must not leave a working thread behind, and one module ensures that."""
    starts = [f"{dotted} in line {line}" for dotted, last, line in calls(name) if last in THREAD_CALLS]

    assert name in THREADS or starts == []


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name.startswith("protocol/") and name != "protocol/files.py"]
)
def test_the_protocol_package_awaits_nothing(name: str) -> None:
    """Decisions can be tested by tables; only the contracts of providers are asynchronous."""
    waits = [
        node.lineno
        for node in ast.walk(tree(name))
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith))
    ]

    assert waits == []


@pytest.mark.parametrize("name", MODULES)
def test_no_provider_is_compared_by_name_outside_its_package(name: str) -> None:
    """Shared packages receive values; none of them checks the service it works for."""
    shared = ("http/", "transfer/", "protocol/", "testing/")
    if not name.startswith(shared) or name.startswith(("testing/arena/", "testing/centrepoint/")):
        return
    compared = [
        ast.unparse(node)
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant) and side.value in ("arena", "centrepoint")
    ]

    assert compared == []
