"""The rules of the house that no linter knows; the directions of imports are held by import-linter (pyproject.toml)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import arena_async

PACKAGE = Path(arena_async.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

MAX_LINES = 400
MAX_LINES_OF_A_FUNCTION = 60

#: Modules that are longer, each with the reason why it is one room all the same.
LONG_MODULES = {
    "http/connections.py": "All use of aiohttp's client: connections, what they count, and their deadlines.",
    "http/exchange.py": "One request from its target to its error, and the retries around it.",
    "http/login.py": "One shared credential: its states and the requests that change them.",
    "providers/arena/events.py": "Events from their list to their reconciliation: values, two generations, one loop.",
    "providers/arena/models.py": "A list of documented values, mostly fields.",
    "testing/arena/records.py": "A list of the things a workspace holds, mostly fields and samples.",
    "testing/arena/workspace.py": "Everything that a test may put into the workspace, and do to it.",
    "providers/centrepoint/data_requests.py": "One conversation: ask, wait, fetch; its steps are read together.",
    "providers/centrepoint/linked_files.py": "Sets of files and the refresh of their URLs.",
    "providers/centrepoint/models.py": "A list of documented values, mostly fields.",
    "testing/centrepoint/simulator.py": "One service: its endpoints follow each other like the vendor's pages.",
    "testing/server.py": "The one HTTP service below both simulators; a fault may strike at any of its steps.",
    "transfer/archives.py": "Two formats with the same caps.",
    "transfer/commit.py": "One batch from memory to its names.",
    "transfer/verify.py": "Every proof of content.",
    "transfer/directory.py": "One directory: its handles and what lies under its names.",
    "transfer/download.py": "The loop over one body: its steps refer to each other.",
    "transfer/ledger.py": "One ledger and the statements of its schema.",
    "transfer/mirror.py": "Four verbs over one directory.",
    "transfer/models.py": "Values, mostly docstrings.",
    "transfer/partial_files.py": "A partial file and its control record: the order of their writes is a promise.",
    "transfer/planner.py": "Every decision about a file.",
    "transfer/scheduler.py": "Listing, planning, queue and workers of one run.",
    "protocol/decoding.py": "The only door to cattrs: every rule of the wire stands here.",
}

#: Functions that are longer, each with the reason why it reads better in one piece.
LONG_FUNCTIONS = {
    ("testing/centrepoint/simulator.py", "__init__"): "A line for each setting of the simulator, and one to keep it.",
}

#: Who may look at the environment besides ``from_env``, and for what.
ENVIRONMENT = {
    "cli/options.py": "A settings file stands before the environment that is handed to `from_env`.",
    "cli/output.py": "NO_COLOR and TERM say what the terminal can show.",
}

#: Who may touch the file system besides the storage of the transfer room, and for what.
FILES = {
    "transfer/filesystem.py": "The door.",
    "transfer/local_files.py": "What is no download: a file of the user's that is sent.",
    "transfer/private_files.py": "Small private files, which are replaced in one step.",
    "cli/output.py": "Standard output is pointed at nothing when its reader has gone.",
    "cli/demo.py": "Without a folder of the user's, the show gets one of its own.",
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

#: Who may start a thread.
THREADS = {"transfer/workers.py": "The door."}
THREAD_CALLS = {"to_thread", "run_in_executor", "run_sync", "start_new_thread"}


@cache
def tree(name: str) -> ast.Module:
    """Parse a module of the package."""
    return ast.parse((PACKAGE / name).read_text(encoding="utf-8"), filename=name)


def functions(name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Give every function of a module, nested ones included."""
    return (node for node in ast.walk(tree(name)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def calls(name: str) -> Iterator[tuple[str, str, int]]:
    """Give what a module calls: the whole dotted name, its last part, and the line."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call):
            dotted = ast.unparse(node.func)
            yield dotted, dotted.rpartition(".")[2], node.lineno


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_and_what_it_gives(name: str) -> None:
    """A docstring everywhere, and ``__all__`` wherever something is defined (ruff sorts it)."""
    module = tree(name)
    gives = [node for node in module.body if isinstance(node, ast.Assign) and names_all(node)]
    defines = any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for node in module.body)

    assert ast.get_docstring(module), f"{name} has no docstring"
    assert len(gives) == 1 or not (defines or gives), f"{name} has no __all__"


def names_all(node: ast.Assign) -> bool:
    """Tell whether this is the assignment of ``__all__``."""
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_longer_than_one_purpose(name: str) -> None:
    """A longer one is named above, with a reason."""
    lines = (PACKAGE / name).read_text(encoding="utf-8").count("\n")

    assert lines <= MAX_LINES or name in LONG_MODULES, f"{name} has {lines} lines"
    assert lines > MAX_LINES * 3 // 4 or name not in LONG_MODULES, f"{name} needs no exception any more"


@pytest.mark.parametrize("name", MODULES)
def test_no_function_is_longer_than_one_look(name: str) -> None:
    """A longer one is named above, with a reason; so is none that is short."""
    long = {
        node.name
        for node in functions(name)
        if (node.end_lineno or node.lineno) - node.lineno + 1 > MAX_LINES_OF_A_FUNCTION
    }

    assert long == {function for module, function in LONG_FUNCTIONS if module == name}


@pytest.mark.parametrize("name", MODULES)
def test_the_environment_is_read_in_from_env_alone(name: str) -> None:
    """What the library does follows from what it was given."""
    inside = {id(node) for function in functions(name) if function.name == "from_env" for node in ast.walk(function)}
    looks = [
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

    assert name in ENVIRONMENT or looks + imported == []


@pytest.mark.parametrize("name", MODULES)
def test_files_are_touched_by_the_storage_alone(name: str) -> None:
    """The order of writing, syncing and renaming is a promise, so it stands in one place."""
    touches = [
        f"{dotted} in line {line}"
        for dotted, last, line in calls(name)
        if dotted in FILE_CALLS or ("." in dotted and last in FILE_METHODS)
    ]

    assert name in FILES or touches == []


@pytest.mark.parametrize("name", MODULES)
def test_threads_go_through_one_door(name: str) -> None:
    """A cancelled task must not leave a thread at work behind it, and one place sees to that."""
    starts = [f"{dotted} in line {line}" for dotted, last, line in calls(name) if last in THREAD_CALLS]

    assert name in THREADS or starts == []


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name.startswith("protocol/") and name != "protocol/files.py"]
)
def test_the_pure_room_awaits_nothing(name: str) -> None:
    """What decides can be tested by tables; the contracts are the only place where the room speaks of waiting."""
    waits = [
        node.lineno
        for node in ast.walk(tree(name))
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith))
    ]

    assert waits == []


@pytest.mark.parametrize("name", MODULES)
def test_no_provider_is_known_by_name_outside_its_folder(name: str) -> None:
    """The shared rooms have values handed in; none of them asks which service it works for."""
    shared = ("http/", "transfer/", "protocol/", "testing/")
    if not name.startswith(shared) or name.startswith(("testing/arena/", "testing/centrepoint/")):
        return
    requested = [
        ast.unparse(node)
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Constant) and side.value in ("arena", "centrepoint")
    ]

    assert requested == []
