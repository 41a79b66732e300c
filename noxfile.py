"""
All gates of the project.

``nox`` runs the default ones; ``nox -l`` lists all; ``nox -s tests-3.12 -- tests/protocol`` runs a part of one. Missing
interpreters are skipped, and only packages are downloaded.
"""

from __future__ import annotations

import email
import os
import re
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests", "readme", "build", "lowest"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
TEST_TOOLS = ("aioresponses", "hypothesis", "pytest", "pytest-asyncio", "pytest-xdist", "trustme")
#: Tests mostly wait for child processes and sockets, so two at a time keep two cores busy.
TWO_AT_A_TIME = ("-n", "2")

#: The emulator of Azure Blob Storage, an npm package. 3.36 and later need Node 22.
AZURITE = "azurite@3.35.0"


def declared(*extras: str) -> dict[str, Requirement]:
    """Return the requirements of pyproject.toml by name: the base, and the extras named."""
    lines = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        lines += PROJECT["project"]["optional-dependencies"][extra]
    found = {requirement.name: requirement for requirement in map(Requirement, lines)}
    found.pop("arena-async", None)
    return found


def install_with_tools(session: nox.Session, *, constraints: Path | None = None) -> None:
    """Build the package, and install it as users do, together with the test tools."""
    tools = declared("dev")
    limits = ["--constraint", str(constraints)] if constraints else []
    session.install(".[cli,fast]", *(str(tools[name]) for name in TEST_TOOLS), *limits)


def run_installed(
    session: nox.Session, *options: str, where: str = "tests", env: Mapping[str, str] | None = None
) -> None:
    """Run pytest from an empty directory, so that no process imports the package of the checkout."""
    here = Path.cwd()
    given = [str(here / word) if (here / word.partition("::")[0]).exists() else word for word in session.posargs]
    paths = [] if any(word.startswith(str(here)) for word in given) else [str(here / where)]
    empty = Path(session.virtualenv.location) / "empty"
    empty.mkdir(exist_ok=True)
    with session.chdir(empty):
        session.run(
            "pytest", "-c", str(here / "pyproject.toml"), f"--rootdir={here}", *options, *paths, *given, env=env
        )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and the directions of imports."""
    tools = declared("dev")
    session.install(str(tools["ruff"]), str(tools["import-linter"]))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    # It reads the sources without importing them, so nothing else has to be installed.
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": "."}, silent=False)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package, and of code that uses its public names."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests against the installed package, on every installed Python."""
    install_with_tools(session)
    run_installed(session, *TWO_AT_A_TIME)


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the oldest release of everything that pyproject.toml names."""
    constraints = Path(session.virtualenv.location) / "lowest.txt"
    constraints.write_text("\n".join(floors("cli", "fast", "dev")) + "\n", encoding="utf-8")
    install_with_tools(session, constraints=constraints)
    run_installed(session, *TWO_AT_A_TIME)


def floors(*extras: str) -> list[str]:
    """Return a pin to its lower bound for every requirement that has one."""
    return [
        f"{requirement.name}=={specifier.version}"
        for requirement in declared(*extras).values()
        for specifier in requirement.specifier
        if specifier.operator == ">="
    ]


@nox.session
def readme(session: nox.Session) -> None:
    """Run the commands and scripts of README.md and the pages."""
    install_with_tools(session)
    run_installed(session, "-m", "readme")


@nox.session
def real(session: nox.Session) -> None:
    """Run the tests that need a real web server and real storage (nginx and npm have to be installed)."""
    install_with_tools(session)
    home = Path(session.virtualenv.location) / AZURITE.replace("@", "-")
    programs = home / "node_modules" / ".bin"
    if not (programs / "azurite-blob").exists():
        options = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--prefix", str(home))
        session.run("npm", "install", *options, AZURITE, external=True)
    # The tests search it on the PATH, and fail without it.
    path = os.pathsep.join((str(programs), os.environ["PATH"]))
    run_installed(session, "-m", "real", env={"PATH": path})


@nox.session
def matrix(session: nox.Session) -> None:
    """
    The fault matrix as a table.

    ``-- --sabotage`` runs each test without its protection and expects it to fail; ``-- --body-reader reader``,
    ``handover`` or ``both`` reads all bodies with one reader or runs every row with both, instead of the ordinary
    choice.
    """
    install_with_tools(session)
    # Without its protection a test mostly waits for its deadline. How two bodies differ is not read, and takes minutes.
    sabotaged = ("-n", "4", "--dist", "worksteal", "--assert=plain")
    options = sabotaged if "--sabotage" in session.posargs else TWO_AT_A_TIME
    run_installed(session, *options, "--matrix-table", "-q", where="tests/matrix")


@nox.session
def torture(session: nox.Session) -> None:
    """Run random schedules, kills at every step and a soak: ``-- --minutes 60``; ``--seed`` repeats a run."""
    install_with_tools(session)
    minutes = [] if any(word.startswith("--minutes") for word in session.posargs) else ["--minutes", "5"]
    # One of its tests takes minutes.
    run_installed(session, "-q", "-o", "faulthandler_timeout=900", *minutes, where="tests/torture")


@nox.session
def bench(session: nox.Session) -> None:
    """
    Run the benchmarks against the installed contenders; ``-- --environment DIR`` installs the libraries.

    The programs come from apt. nginx has to be installed; without it, nothing is compared.
    """
    session.install(".[cli,fast]", str(declared("dev")["trustme"]))
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def rivals(session: nox.Session) -> None:
    """Inject the same faults into other downloaders, in their newest releases; ``-- --write`` writes docs/rivals.md."""
    session.install(".")
    environment = Path(session.create_tmp()) / "rivals"
    session.run("python", "-m", "benchmarks.rivals", "--environment", str(environment), *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Check the content of the wheel and of the source distribution, and the wheel without extras."""
    directory = Path(session.create_tmp()) / "dist"
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(directory), silent=True)
    (wheel,) = directory.glob(f"*-{PROJECT['project']['version']}-*.whl")
    (source,) = directory.glob(f"*-{PROJECT['project']['version']}.tar.gz")
    faults = [*wheel_faults(wheel), *source_faults(source)]
    if faults:
        session.error("\n".join(faults))

    session.install("--force-reinstall" if session.venv_backend == "virtualenv" else "--reinstall", str(wheel))
    session.run(
        "python", "-P", "-c", "import arena_async; [getattr(arena_async, name) for name in arena_async.__all__]"
    )
    session.run("python", "-P", "-m", "arena_async", "--help", success_codes=[2])
    session.install(f"{wheel}[cli]")
    session.run("arena-async", "--help", silent=True)


def wheel_faults(wheel: Path) -> list[str]:
    """Return what is wrong with a wheel, one line each."""
    sources = {path.as_posix() for path in Path("arena_async").rglob("*") if path.suffix in (".py", ".typed")}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        stated = email.message_from_bytes(archive.read(metadata))
    home = metadata.removesuffix("METADATA")
    packaged = {name for name in names if not name.startswith(home)}
    expected = {
        "Name": "arena-async",
        "Version": PROJECT["project"]["version"],
        "License-Expression": "MIT",
        "Requires-Python": PROJECT["project"]["requires-python"],
        "Description-Content-Type": "text/markdown",
    }
    return [
        *(f"{wheel.name} lacks {name}" for name in sorted(sources - packaged)),
        *(f"{wheel.name} has {name}, which is not of the package" for name in sorted(packaged - sources)),
        *(
            f"{wheel.name} lacks {name}"
            for name in ("licenses/LICENSE", "entry_points.txt")
            if home + name not in names
        ),
        *(f"{wheel.name}: {key} is {stated[key]!r}" for key, value in expected.items() if stated[key] != value),
        *(
            f"{wheel.name}: extra {extra} is not declared"
            for extra in ("cli", "dev", "fast")
            if extra not in (stated.get_all("Provides-Extra") or ())
        ),
    ]


def source_faults(source: Path) -> list[str]:
    """Return what is wrong with a source distribution, one line each."""
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    junk = re.compile(r"(^|/)(\.venv|\.nox|\.git|__pycache__|\.[a-z_]+_cache|\.hypothesis)(/|$)|\.pyc$")
    wanted = ("LICENSE", "README.md", "CHANGELOG.md", "noxfile.py", "tests/conftest.py", "arena_async/py.typed")
    return [
        *(f"{source.name} lacks {name}" for name in wanted if name not in names),
        *(f"{source.name} has {name}" for name in sorted(names) if junk.search(name)),
    ]
