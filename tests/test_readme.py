"""The commands and scripts of README and docs, run as they are against the simulators."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import runpy
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from command_line import environment
from scripted import RawServer, reply

from arena_async import errors, options
from arena_async.testing import ArenaSimulator, CentrePointSimulator
from arena_async.testing.replies import Call, ErrorReply, Reply, Route
from arena_async.testing.server import SimulatedService

pytestmark = [pytest.mark.readme, pytest.mark.process]

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}

#: The two commands that set up and go. They install the package, so they are run from fresh clones, not from here.
DEMO = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' && .venv/bin/arena-async demo"
TESTS = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' && .venv/bin/pytest -q -n 2"


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


SNIPPETS = [*blocks(README, "python"), *blocks(PAGES["recipes.md"], "python")]
SCRIPTS = [snippet for snippet in SNIPPETS if "asyncio.run(" in snippet]
TESTS_SHOWN = [
    snippet
    for text in (README, PAGES["recipes.md"], PAGES["testing.md"])
    for snippet in blocks(text, "python")
    if "async def test_" in snippet
]


@pytest.fixture
async def services() -> AsyncIterator[dict[str, str]]:
    """Run both simulators and return the environment of a client."""
    async with ArenaSimulator() as arena, CentrePointSimulator() as centrepoint:
        yield environment(arena, centrepoint, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


async def run(*command: str, env: Mapping[str, str], cwd: Path, talkative: bool = False) -> str:
    """Run a child that must end well, without a word on stderr unless it is talkative, and give what it printed."""
    child = await asyncio.create_subprocess_exec(
        *command, env=dict(env), cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(100):
        out, err = await child.communicate()
    assert child.returncode == 0, f"{command}\n{out.decode()}\n{err.decode()}"
    assert talkative or err == b"", err.decode()
    return out.decode()


async def run_script(code: str, *arguments: str, env: Mapping[str, str], cwd: Path) -> str:
    """Run a snippet as a script."""
    (cwd / "snippet.py").write_text(code, encoding="utf-8")
    return await run(sys.executable, "snippet.py", *arguments, env=env, cwd=cwd)


def test_there_are_exactly_two_commands_that_set_up_and_go() -> None:
    """One runs the demo, one passes the tests, and both need nothing but Python with pip and venv."""
    commands = [line for block in blocks(README, "sh") for line in block.splitlines() if "venv" in line]

    assert commands == [DEMO, TESTS]


def test_every_snippet_is_run_by_a_test_here() -> None:
    """A snippet of a kind that no test knows is noticed."""
    known = (
        len(SCRIPTS)
        + sum("async def test_" in snippet for snippet in SNIPPETS)
        + sum("def lifespan" in snippet for snippet in SNIPPETS)
    )

    assert (known, len(SNIPPETS)) == (7, 7)


@pytest.mark.parametrize("number", range(len(SCRIPTS)))
async def test_a_script_of_the_readme_runs(number: int, services: dict[str, str], tmp_path: Path) -> None:
    """It ends well, prints something and complains about nothing."""
    printed = await run_script(SCRIPTS[number], env=services, cwd=tmp_path)

    assert printed.strip()


async def test_the_ten_lines_fetch_nothing_the_second_time(services: dict[str, str], tmp_path: Path) -> None:
    """What the text above the first script says is so."""
    first = await run_script(SCRIPTS[0], env=services, cwd=tmp_path)
    second = await run_script(SCRIPTS[0], env=services, cwd=tmp_path)

    assert first.startswith("3 files, 60,000 bytes, ")
    assert second.startswith("0 files, 0 bytes, ")


async def test_the_lifespan_of_the_readme_hands_out_a_client(
    arena_simulator: ArenaSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Entering it gives a state with a client that works, and leaving it logs out."""
    for name, value in arena_simulator.describe()["environment"].items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "service.py"
    file.write_text(next(snippet for snippet in SNIPPETS if "def lifespan" in snippet), encoding="utf-8")
    service = runpy.run_path(str(file))

    async with service["lifespan"](None) as state:
        names = await service["extract_names"](state["arena"])

    assert len(names) == 1
    assert len(arena_simulator.seen("PUT */logout")) == 1


@pytest.mark.parametrize("number", range(len(TESTS_SHOWN)))
async def test_a_test_that_is_shown_passes(number: int, services: dict[str, str], tmp_path: Path) -> None:
    """It passes as a test of its own, with the plugin as it is installed."""
    (tmp_path / "test_shown.py").write_text(TESTS_SHOWN[number], encoding="utf-8")
    options = ("-q", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")

    printed = await run(sys.executable, "-m", "pytest", *options, "test_shown.py", env=services, cwd=tmp_path)

    assert "1 passed" in printed


async def test_the_commands_of_the_readme_run(services: dict[str, str], tmp_path: Path) -> None:
    """The block of commands works from its first to its last line."""
    commands = next(block for block in blocks(README, "sh") if "venv" not in block)

    printed = await run("bash", "-euo", "pipefail", "-c", commands, env=services, cwd=tmp_path, talkative=True)

    assert "requests left until" in printed


@pytest.mark.parametrize("number", [0, 1])
async def test_a_script_about_runs_runs(number: int, services: dict[str, str], tmp_path: Path) -> None:
    """Both jobs of the page come to their end, and nothing is left to wait for."""
    scripts = [code for code in blocks(PAGES["runs.md"], "python") if "asyncio.run(" in code]

    printed = await run_script(scripts[number], env=services, cwd=tmp_path)

    assert len(scripts) == 2
    assert ("requests, started earlier: False", "1 of 1 rows are right")[number] in printed


async def test_the_script_about_a_study_brings_it_home(services: dict[str, str], tmp_path: Path) -> None:
    """Whole, and one subject's by its name; nothing lacks data there."""
    (script,) = blocks(PAGES["centrepoint.md"], "python")

    printed = await run_script(script, env=services, cwd=tmp_path)

    assert printed.startswith("20 new, 1 requests\n['10822_")


async def test_the_script_about_days_and_requests_brings_both_home(services: dict[str, str], tmp_path: Path) -> None:
    """Two of three days in one format, and both parts and the summary of a request."""
    (script,) = blocks(PAGES["days-and-requests.md"], "python")

    printed = await run_script(script, env=services, cwd=tmp_path)

    assert printed.startswith("2 days\n3 files, ")


async def test_the_script_about_addresses_brings_them_home(services: dict[str, str], tmp_path: Path) -> None:
    """As it stands, but for the leave to go to this machine."""
    (script,) = blocks(PAGES["urls.md"], "python")
    settings = "allow_http=True, allow_private=True"
    async with RawServer() as server:
        server.on("GET", "/*", reply(body=b"day,steps\n"))
        (tmp_path / "list.txt").write_text(f"# mine\n{server.base_url}/day-1.csv\n", encoding="utf-8")
        code = script.replace("UrlSet.read(list_of_urls)", f"UrlSet.read(list_of_urls, {settings})")
        printed = await run_script(code, "list.txt", env=services, cwd=tmp_path)

    assert code != script
    assert printed.endswith("day-1.csv: verified by length\n['a.zip', 'b.zip']\n")


async def test_scripts_of_the_pages_run(services: dict[str, str], tmp_path: Path) -> None:
    """The script about testing starts its own service and needs no setting."""
    script = next(code for code in blocks(PAGES["testing.md"], "python") if "asyncio.run(" in code)

    printed = await run_script(script, env=services, cwd=tmp_path)

    assert len(ast.literal_eval(printed)) == 5


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("nightly_sync.py", ("warehouse", "234"), " 0 failed, "),
        ("study_to_directory.py", ("234", "study"), "files here, "),
        ("service_lifespan.py", (), "["),
    ],
)
async def test_an_example_runs(
    name: str, arguments: tuple[str, ...], said: str, services: dict[str, str], tmp_path: Path
) -> None:
    """Each example does its work against the simulators."""
    printed = await run(sys.executable, str(ROOT / "examples" / name), *arguments, env=services, cwd=tmp_path)

    assert said in printed


def test_every_example_is_run() -> None:
    """A new example needs a line in the test above."""
    assert sorted(path.name for path in (ROOT / "examples").glob("*.py")) == [
        "nightly_sync.py",
        "service_lifespan.py",
        "study_to_directory.py",
    ]


class Acme(SimulatedService):
    """The made-up service of the page about providers."""

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/token", self.token),
            Route("GET", "/files", self.list),
            Route("GET", "/files/{file}/content", self.content),
        ]

    def token(self, call: Call) -> Reply:
        return Reply.json({"token": "t"} if call.json() == {"key": "k"} else {}, status=200)

    def list(self, call: Call) -> Reply:
        self.insist(call)
        skip, take = int(call.query["skip"]), int(call.query["take"])
        rows = [{"id": n, "name": f"file {n}", "size": 10, "modified": "once"} for n in range(250)]
        return Reply.json({"rows": rows[skip : skip + take], "total": 250})

    def content(self, call: Call) -> Reply:
        self.insist(call)
        return Reply(body=call.vars["file"].encode().rjust(10))

    def insist(self, call: Call) -> None:
        if call.headers.get("Authorization") != "Bearer t":
            raise ErrorReply(Reply(status=401))


async def test_the_provider_of_the_page_works(services: dict[str, str], tmp_path: Path) -> None:
    """The sketch logs in once, walks three pages, brings every file and, the second time, none."""
    (code,) = blocks(PAGES["writing-a-provider.md"], "python")
    async with Acme() as acme:
        first = await run_script(code, acme.origin(), "k", env=services, cwd=tmp_path)
        second = await run_script(code, acme.origin(), "k", env=services, cwd=tmp_path)
        logins = len(acme.seen("POST /token"))

    assert (first, second, logins) == ("250 files, 253 requests\n", "0 files, 3 requests\n", 2)
    assert (tmp_path / "acme" / "acme" / "files" / "7.bin").read_bytes() == b"         7"


@pytest.mark.parametrize("page", ["README.md", *sorted(PAGES)])
def test_every_link_between_pages_leads_somewhere(page: str) -> None:
    """Relative links and their anchors exist."""
    home = ROOT if page == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)]+)\)", (home / page).read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = home / path if path else home / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings]


def test_the_settings_in_the_pages_are_those_in_the_code() -> None:
    """Every option of the frozen settings stands in the table with its name."""
    page = PAGES["configuration.md"]
    for settings in (options.TransferOptions, options.RetryPolicy, options.Timeouts, options.PollPolicy):
        fields: Any = attrs.fields(settings)
        assert [field.name for field in fields if f"| `{field.name}` |" not in page] == []


def test_every_error_has_its_line() -> None:
    """The page of errors leaves none out."""
    leaves = set(errors.__all__) - {"ArenaAsyncError", "ApiError", "TransferError", "StorageError"}

    assert [name for name in sorted(leaves) if f"`{name}`" not in PAGES["errors.md"]] == []
