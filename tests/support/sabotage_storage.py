"""How the protections of the rows about disks, names and crashes are removed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import attrs
from sabotage import Always, Patch, protection

from arena_async.errors import ArenaAsyncError, IntegrityError, StorageError
from arena_async.protocol import filenames
from arena_async.protocol.filenames import target_path
from arena_async.protocol.files import RemoteFile
from arena_async.transfer.filesystem import explained
from arena_async.transfer.models import Action, FileState
from arena_async.transfer.planner import Decision, Move, Recovery

# --- full disks -------------------------------------------------------------------------------------------------------


@protection("a full disk is no reason to ask the network again")
def _(patch: Patch) -> None:
    def try_again(error: Exception, tries: Any, **known: Any) -> Recovery:
        if isinstance(error, StorageError):
            return Recovery(move=Move.AGAIN if tries.sent < 30 else Move.GIVE_UP)
        return judge(error, tries, **known)  # type: ignore[no-any-return]

    judge = patch.replace("arena_async.transfer:decide_retry", try_again)


@protection("what the system says becomes a typed error")
def _(patch: Patch) -> None:
    @contextlib.contextmanager
    def as_it_came(*_: object, **__: object) -> Iterator[None]:
        yield

    patch.replace("arena_async.transfer.filesystem:explaining", as_it_came)
    patch.replace("arena_async.transfer.filesystem:explained", lambda error, *_, **__: error)


@protection("a size that does not fit is seen before it is asked for")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:Directory.free_bytes", lambda _: None)


@protection("what could not be forced to the disk is dropped")
def _(patch: Patch) -> None:
    def keep(self: Any, sync: Callable[[int], None]) -> bool:
        try:
            sync(self.opened())
        except OSError as error:
            raise explained(error, self.path, "forced to the disk", file=self.key) from error
        return True

    patch.replace("arena_async.transfer:PartialFile._sync", keep)


# --- calls that fail or are slow --------------------------------------------------------------------------------------


@protection("an interrupted call is made again")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.filesystem:again", lambda call, *args, **kwargs: call(*args, **kwargs))


@protection("a program that has the file open for a moment is waited for")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:_SHARING", frozenset())


@protection("what was verified keeps its partial name until the next start")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.commit:_close", lambda partial, **_: partial.drop())


@protection("content is on the disk before its name")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:Directory.sync", lambda *_: True)


@protection("a file system without fsync is used all the same")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.filesystem:UNSUPPORTED", frozenset())


@protection("the disk is never waited for on the event loop")
def _(patch: Patch) -> None:
    def here(self: Any, call: Callable[..., Any], *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        done = asyncio.get_running_loop().create_future()
        try:
            done.set_result(call(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - passed on as a thread would
            done.set_exception(error)
        return done

    patch.replace("arena_async.transfer:Threads.start", here)


# --- what lies under a final name -------------------------------------------------------------------------------------


@protection("only a file is ever replaced by a file")
def _(patch: Patch) -> None:
    def whatever_it_is(self: Any, parent: Any, name: str, path: str) -> os.stat_result | None:
        del path
        try:
            return self.files.look(parent, name)
        except FileNotFoundError:
            return None

    patch.replace("arena_async.transfer:Directory.stat_in", whatever_it_is)


@protection("that something lies there proves nothing")
def _(patch: Patch) -> None:
    seen: dict[str, Any] = {}

    def states_of(self: Any, paths: Any) -> Any:
        found = look(self, paths)
        seen.update(found)
        return found

    def believing(*facts: Any, path: str, **how: Any) -> Any:
        if isinstance(seen.get(path), FileState):
            return Decision(Action.KEEP)
        return decide(*facts, path=path, **how)

    look = patch.replace("arena_async.transfer:Directory.states_of", states_of)
    decide = patch.replace("arena_async.transfer.planner:decide", believing)


@protection("permissions follow the umask or the file before, and partial files are private")
def _(patch: Patch) -> None:
    create = patch.current("arena_async.transfer.filesystem:FileSystem.create")
    patch.replace(
        "arena_async.transfer.filesystem:FileSystem.create",
        lambda self, directory, name, _: create(self, directory, name, 0o666),
    )
    patch.replace("arena_async.transfer:Directory.mode_for", lambda *_: 0o666)


@protection("a time in the future moves no watermark")
def _(patch: Patch) -> None:
    patch.add("arena_async.transfer.mirror:min", lambda newest, _: newest)
    patch.replace("arena_async.transfer.ledger_schema:FORGET_WATERMARKS", "DELETE FROM watermarks WHERE 0 AND ? <> ?")


# --- partial files ----------------------------------------------------------------------------------------------------


@protection("a control record is believed only when it is whole and of that file")
def _(patch: Patch) -> None:
    record = patch.current("arena_async.transfer:ControlRecord")

    def believing(text: bytes, _: str) -> Any:
        fields = json.loads(text)
        return record(
            validator=fields["validator"], offset=int(fields["offset"]), total=fields["total"], tail=fields["tail"]
        )

    def whatever_its_size(files: Any, handle: Any, name: str) -> bytes | None:
        try:
            file = files.open_file(handle, name)
        except FileNotFoundError:
            return None
        try:
            return files.read(file, 1 << 20, 0)  # type: ignore[no-any-return]
        finally:
            files.close(file)

    patch.replace("arena_async.transfer:ControlRecord.load", staticmethod(believing))
    patch.replace("arena_async.transfer:read_small", whatever_its_size)


@protection("what lies behind the recorded end of a partial file counts for nothing")
def _(patch: Patch) -> None:
    def by_its_length(self: Any, key: str) -> Any:
        found = find(self, key)
        return found and attrs.evolve(found, offset=self.files.look(self.directory.partials, found.name).st_size)

    find = patch.replace("arena_async.transfer:PartialFiles.find", by_its_length)


@protection("the tail of a partial file is read back before it is resumed")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:PartialFiles._holds", lambda *_: True)


@protection("only a partial file that is ours alone is resumed")
def _(patch: Patch) -> None:
    @contextlib.contextmanager
    def anybodys(self: Any, name: str, **_: object) -> Iterator[int]:
        file = self.files.open_file(self.directory.partials, name, writable=True)
        try:
            yield file
        finally:
            self.files.close(file)

    patch.replace("arena_async.transfer:PartialFiles.taken", anybodys)


@protection("each partial file has a name of its own")
def _(patch: Patch) -> None:
    patch.add("arena_async.transfer:Directory.draw_name", Always(lambda: "00"))


# --- names ------------------------------------------------------------------------------------------------------------


@protection("every component of a path is cleaned")
def _(patch: Patch) -> None:
    patch.replace(
        "arena_async.protocol.filenames:safe_path",
        lambda parts, stem, extension="": PurePosixPath(*parts, stem + extension),
    )
    patch.replace("arena_async.transfer:split_path", lambda _, path: path.rpartition("/")[::2])


@protection("invisible characters are replaced in names")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.filenames:_is_refused", lambda letter: letter in "/\\\0")
    patch.replace("arena_async.protocol.filenames:_UNSEEN", re.compile("(?!)"))


@protection("text of the service is escaped where it is shown")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.messages:printable", lambda text, *_, **__: text)


@protection("a name of which nothing is left gets another")
def _(patch: Patch) -> None:
    patch.replace(
        "arena_async.protocol.filenames:_leaf", lambda stem, extension: f"{filenames._clean(stem)}{extension}"
    )


@protection("a long name is cut between characters")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.filenames:_MAXIMUM", 100_000)


@protection("names that look alike are told apart")
def _(patch: Patch) -> None:
    patch.replace(
        "arena_async.protocol.filenames:_leaf", lambda stem, extension: f"{filenames._clean(stem)}{extension}"
    )


@protection("two files never go to one place")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:unless_taken", lambda row, _: row)


@protection("a name from a link has no query")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.filenames:file_name_from_url", lambda url: url.rsplit("/", 1)[-1])


@protection("no name begins as programs read more into")
def _(patch: Patch) -> None:
    clean = patch.current("arena_async.protocol.filenames:_clean")

    def as_it_begins(text: str) -> str:
        return clean(text).removeprefix("_") if text[:1] in ("-", "~", ".") else clean(text)

    patch.replace("arena_async.protocol.filenames:_clean", as_it_begins)


@protection("the place of a file is settled before its first request")
def _(patch: Patch) -> None:
    class Moving:
        """The place of the file as it is listed now."""

        def __get__(self, job: Any, kind: type) -> str:
            return target_path(job.file)

        def __set__(self, job: Any, path: str) -> None:
            pass

    patch.replace("arena_async.transfer:Job.path", Moving())


@protection("each field of a layout is cleaned on its own")
def _(patch: Patch) -> None:
    def in_one_go(file: RemoteFile, layout: str | None = None) -> str:
        given = {"stem": file.stem, "extension": file.extension, **file.fields}
        return str(PurePosixPath((layout or "{stem}{extension}").format(**given)))

    patch.replace("arena_async.transfer:target_path", in_one_go)


@protection("text that is no Unicode can be written down")
def _(patch: Patch) -> None:
    def connect(*args: Any, **how: Any) -> Any:
        return given(*args, **{**how, "factory": sqlite3.Connection})

    given = patch.replace("sqlite3:connect", connect)


# --- crashes ----------------------------------------------------------------------------------------------------------


@protection("a file gets its final name in one step")
def _(patch: Patch) -> None:
    def copy(self: Any, directory: Any, name: str, to: Any, new: str) -> None:
        source = self.open_file(directory, name)
        with contextlib.suppress(FileNotFoundError):
            self.unlink(to, new)
        target = self.create(to, new, 0o600)
        size = self.look_open(source).st_size
        for start in range(0, size, size // 2 + 1):
            self.write(target, self.read(source, size // 2 + 1, start), start)
        self.close(source)
        self.close(target)
        self.unlink(directory, name)

    patch.replace("arena_async.transfer.filesystem:FileSystem.rename", copy)


@protection("what came is recorded while it comes")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:PartialFile.checkpoint", lambda _: None)


@protection("what is written ahead is recorded too")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:PartialFile.ahead", property(lambda _: ()))


@protection("what is written ahead is on the disk before it is recorded")
def _(patch: Patch) -> None:
    def only_at_the_end(self: Any, opened: Any, call: Callable[[Any], None]) -> Any:
        return call == self.files.sync_data or sync(self, opened, call)

    sync = patch.replace("arena_async.transfer:Directory.sync", only_at_the_end)


@protection("each part of a file has to be the one that was asked for, of the same file")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.ranges:is_piece", lambda *_, **__: True)


@protection("what goes wrong with a part is no failure of the file")
def _(patch: Patch) -> None:
    def fail(self: Any, error: Exception, *, progressed: bool) -> None:
        self._failure = IntegrityError(f"A part did not come ({error}, {progressed}).")

    patch.replace("arena_async.transfer:Multipart.fail", fail)


@protection("what others write ahead ends before its file is touched")
def _(patch: Patch) -> None:
    async def leave(_: Any) -> None:
        pass

    async def go_on_for_a_while(self: Any) -> None:
        try:
            await run(self)
        finally:
            await asyncio.sleep(0.1)

    patch.replace("arena_async.transfer:Multipart.aclose", leave)
    run = patch.replace("arena_async.transfer.multipart:_Connection.run", go_on_for_a_while)


@protection("a record without its file is swept away")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:PartialFiles.sweep", lambda *_, **__: 0)


@protection("a control record is replaced in one step")
def _(patch: Patch) -> None:
    def old_one_first(self: Any, handle: Any, name: str, content: bytes) -> None:
        self.remove(handle, name)
        write(self, handle, name, content)

    write = patch.replace("arena_async.transfer:Directory.write_record", old_one_first)


@protection("the journal of the ledger drops what is torn and keeps the rest")
def _(patch: Patch) -> None:
    patch.replace(
        "arena_async.transfer:_choose_journal",
        lambda connection: connection.execute("PRAGMA journal_mode = OFF"),
    )


@protection("whatever happens to a file is the outcome of that file")
def _(patch: Patch) -> None:
    def only_what_is_known(error: Exception, file: RemoteFile, *, twice: bool) -> Any:
        if not isinstance(error, ArenaAsyncError):
            raise error
        return judge(error, file, twice=twice)

    judge = patch.replace("arena_async.transfer:refusal_kind", only_what_is_known)


# ------------------------------------------------------------------------------------------- copies of state and files


@protection("a damaged ledger is restored from its copy")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.ledger_copy:restore", lambda _path: False)
    patch.replace("arena_async.transfer:may_adopt", lambda *_: False)


@protection("what came after the copy is read")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:may_adopt", lambda *_: False)


@protection("what nothing proves is fetched")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.local_proof:_adopt", lambda *_: True)


@protection("a copied directory is read")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:LedgerEntry.provable", property(lambda _entry: False))


@protection("other bytes of the same size are fetched")
def _(patch: Patch) -> None:
    patch.replace(
        "arena_async.transfer:recorded_state",
        lambda directory, entry, _proceed=bool: directory.states_of([entry.path])[entry.path],
    )


@protection("what cannot be looked at is not known to be useless")
def _(patch: Patch) -> None:
    usable = patch.current("arena_async.transfer:PartialFiles._usable")
    taken = patch.current("arena_async.transfer:PartialFiles.taken")

    def useless(self: Any, name: str, owner_hash: str) -> Any:
        found = usable(self, name, owner_hash)
        return None if found == "in use" else found

    @contextlib.contextmanager
    def not_ours(self: Any, name: str, **how: Any) -> Iterator[Any]:
        with contextlib.ExitStack() as stack:
            try:
                found = stack.enter_context(taken(self, name, **how))
            except OSError:
                found = None
            yield found

    patch.replace("arena_async.transfer:PartialFiles._usable", useless)
    patch.replace("arena_async.transfer:PartialFiles._is_foreign", lambda self, name: False)
    patch.replace("arena_async.transfer:PartialFiles.taken", not_ours)
    patch.replace("arena_async.transfer:hash_range", lambda *_, **__: "")


@protection("only what has one of our names and is known to be useless is swept away")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:is_partial_name", lambda name: name.endswith((".part", ".json")))
    patch.replace("arena_async.transfer:_SHORT_LIVED", re.compile("(?:new|mode)-.*"))
    patch.replace("arena_async.transfer:PartialFiles._is_foreign", lambda self, name: False)


@protection("what was swept away is what a killed run left")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:PartialFiles.sweep", lambda self, *, keep: None)


@protection("what has come of a file is recorded when everything is stopped, however little it is")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:PartialFile.keep", lambda self: self.close())


@protection("a stop says which files nothing is kept of")
def _(patch: Patch) -> None:
    async def silent(job: Any, context: Any) -> None:
        await put_down(job, context, keep=True)

    put_down = patch.current("arena_async.transfer.download:put_down")
    patch.replace("arena_async.transfer.scheduler:_stop", silent)


@protection("a partial file is resumed at its last proved byte")
def _(patch: Patch) -> None:
    found = patch.current("arena_async.transfer:ControlRecord.found")
    patch.replace(
        "arena_async.transfer:ControlRecord.found",
        lambda self, name, holds: found(attrs.evolve(self, marks=()), name, holds),
    )


@protection("a cancellation ends between two blocks that are read")
def _(patch: Patch) -> None:
    async def to_the_end(self: Any, call: Any, *args: Any, **how: Any) -> Any:
        return await self.run(call, bool, *args, **how)

    patch.replace("arena_async.transfer:Threads.run_until_cancelled", to_the_end)


@protection("a size that does not fit concerns one file")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.planner:_OF_ONE_PLACE", frozenset())
