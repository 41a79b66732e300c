"""
Whether the content that came is whole and right, by the strongest proof there is, in constant memory.

==========  =================================================================================================
``sha256``  the list gave the SHA-256 of the file, and it is that of what came
``md5``     the server or the list gave the MD5 of the file, and it is that of what came
``crc``     the content is gzip or zip, whole to its last byte, and every check sum in it holds
``length``  as many bytes came as were announced or listed; or a zip is whole, and its members are encrypted
``none``    nothing is known; the content may be half a file
==========  =================================================================================================

What the content is, its first bytes say, never the name. Only what the name promises is compared with that: a page of
HTML where a zip is expected is the response of another server.

What the service itself made must be whole inside. What people uploaded is theirs: part of a split archive, a zip with a
line end behind it, text under the name of a gzip file. There the length proves it, and what is odd inside is a notice.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import attrs

from arena_async.errors import ContentError, IntegrityError, TransferError
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.text_content import NO_DOCUMENTS, WINDOW, document_in, is_table
from arena_async.transfer.archives import (
    Caps,
    ForeignContent,
    GzipCheck,
    Meter,
    Read,
    TooCostly,
    WrongContent,
    ZipCheck,
)
from arena_async.transfer.models import Proof

__all__ = ["ContentVerifier", "VerificationResult", "choose_proof", "may_be_packed"]

Kind = Literal["gzip", "zip", "avro", "empty", "other"]


_HEAD = 512


@attrs.frozen(kw_only=True)
class VerificationResult:
    """
    What is known about content that came to its end.

    Args:
        verified_by: The strongest proof that held.
        length: Bytes.
        sha256: In hexadecimal, or None when it was not requested.
        md5: In hexadecimal, or None when it was not needed.
        kind: What the first bytes say it is.
        problem: Why it must not be kept, as a typed error, or None.
        notice: Something odd that is no failure, for instance a zip under the name ``.csv.gz``; or "".
    """

    verified_by: Proof
    length: int
    sha256: str | None = None
    md5: str | None = None
    kind: Kind = "other"
    problem: TransferError | None = None
    notice: str = ""


def choose_proof(
    *, kind: Kind, md5: str | None, length: int | None, sha256: str | None = None, structure: bool = True
) -> Proof:
    """
    Choose the strongest proof there is: SHA-256, else MD5, else the CRC of gzip and zip content, else a known length.

    Args:
        kind: What the first bytes say.
        md5: As declared by the server or the list; anything but 32 hexadecimal digits is ignored.
        sha256: As declared by the list; anything but 64 hexadecimal digits is ignored.
        length: The whole length, announced or listed, or None.
        structure: Whether the CRCs of this content can be computed (an encrypted zip has none to offer).
    """
    if sha256 is not None and _is_digest(sha256, digits=64):
        return "sha256"
    if md5 is not None and _is_digest(md5, digits=32):
        return "md5"
    if kind in ("gzip", "zip") and structure:
        return "crc"
    return "none" if length is None else "length"


def _is_digest(text: str, *, digits: int) -> bool:
    return re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", text) is not None


# ------------------------------------------------------------------------------------------------------------ the whole

_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x06\x06", "zip"),
    (b"PK00PK", "zip"),  # Marks of archives that were to be split, and need not be (APPNOTE section 8.5).
    (b"PK\x07\x08PK", "zip"),
    (b"Obj\x01", "avro"),
)

#: What the end of an extension promises; of others nothing is expected.
_PROMISES: Mapping[str, Kind] = {".gz": "gzip", ".tgz": "gzip", ".zip": "zip", ".avro": "avro", ".csv": "other"}


def may_be_packed(file: RemoteFile) -> bool:
    """Return whether a file may be stored gzip-compressed: by its name, or as plain content that people uploaded."""
    extension = file.extension.lower()
    promise = _PROMISES.get(extension[extension.rfind(".") :], "other")
    return promise == "gzip" or (file.uploaded and promise == "other" and extension not in NO_DOCUMENTS)


#: Members of a JSON object that is an error and no data.
_ERROR_WORDS = frozenset(
    {"error", "errors", "message", "code", "status", "statuscode", "detail", "title", "fault", "exception"}
)


def _declared_digests(
    *, md5: str | None, listed_md5: str | None, listed_sha256: str | None
) -> Sequence[tuple[str, str, str]]:
    """Return the usable digests of the whole content: who declares each, its name, and its text."""
    return [
        (whose, name, text.lower())
        for whose, name, text, digits in (
            ("list", "SHA-256", listed_sha256, 64),
            ("list", "MD5", listed_md5, 32),
            ("server", "MD5", md5, 32),
        )
        if text is not None and _is_digest(text, digits=digits)
    ]


_CAPS = Caps()


class ContentVerifier:
    """
    Checks the content of one file block by block as it arrives, and reports in the end whether it is complete.

    Args:
        name: What to call the file in errors.
        extension: The extension of the documented layout: what content is expected; it never chooses the check.
        length: Bytes of the whole file, announced or listed, or None.
        md5: Its MD5 in hexadecimal as the server gives it, or None.
        listed_md5: Its MD5 in hexadecimal as the list gives it, or None.
        listed_sha256: Its SHA-256 in hexadecimal as the list gives it, or None.
        digest: ``"sha256"`` to compute it for the ledger, or None.
        max_length: Bytes the file may have, at the most, or None.
        encoded: Whether the answer says that its body is encoded, so that it may be more than what is stored.
        listed: Whether ``length`` was listed, not only announced with the content.
        uploaded: Whether people uploaded the file, so that what it is inside is no reason to refuse it.
        content_type: The type it was sent with, or None.
        caps: What the check may cost; None for the usual caps.
        clock: Seconds that only ever grow.

    Attributes:
        length: Bytes seen so far.
        problem: What is wrong already, so that the rest need not be fetched; or None.
    """

    length: int = 0
    problem: TransferError | None = None
    _head = b""
    _kind: Kind | None = None
    _gzip: GzipCheck | None = None
    _left_unchecked = ""
    #: How what people uploaded is not what its first bytes say.
    _unlike = ""
    #: Whether a directory in the content proves its length.
    _whole = False

    def __init__(
        self,
        *,
        name: str,
        extension: str = "",
        length: int | None = None,
        md5: str | None = None,
        listed_md5: str | None = None,
        listed_sha256: str | None = None,
        digest: Literal["sha256"] | None = "sha256",
        max_length: int | None = None,
        encoded: bool = False,
        listed: bool = False,
        uploaded: bool = False,
        content_type: str | None = None,
        caps: Caps | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._name = name
        self._encoded = encoded
        _, dot, end = extension.lower().rpartition(".")
        self._promise = _PROMISES.get(dot + end)
        self._no_document = self._promise is not None or dot + end in NO_DOCUMENTS
        self._content_type = content_type
        #: Whether the length alone decides, whatever came; and whether it does unless a document came.
        self._trusted = (uploaded and listed) or listed_md5 is not None or listed_sha256 is not None
        self._lenient = self._trusted or (uploaded and length is not None)
        self._expected = length
        self._maximum = max_length
        self._declared: Sequence[tuple[str, str, str]] = ()
        if md5 is not None or listed_md5 is not None or listed_sha256 is not None:
            self._declared = _declared_digests(md5=md5, listed_md5=listed_md5, listed_sha256=listed_sha256)
        wanted = [name for _, name, _ in self._declared] if self._declared else ()
        self._sha256 = hashlib.sha256() if digest == "sha256" or "SHA-256" in wanted else None
        self._md5 = hashlib.md5(usedforsecurity=False) if "MD5" in wanted else None
        self._caps = caps or _CAPS
        self._clock = clock or time.monotonic
        #: Stops a check that costs too much; made when the first bytes show that there is something to check.
        self._meter: Meter

    def feed(self, data: memoryview | bytes) -> None:
        """Check the next block. Never raises for content: see :attr:`problem`. Meant for a thread."""
        view = memoryview(data)
        self.length += len(view)
        if self._sha256 is not None:
            self._sha256.update(view)
        if self._md5 is not None:
            self._md5.update(view)
        if self._too_long():
            return
        if self._kind is None:
            # No more of it than it takes: this is kept, for each file that is open.
            missing = _HEAD - len(self._head)
            self._head += bytes(view[:missing])
            if len(self._head) < _HEAD:
                return
            self._recognize()
            view = view[missing:]
        if self._gzip is not None and self.problem is None:
            self._guarded(self._gzip.feed, view)

    def _too_long(self) -> bool:
        """Notice a body that does not end where it should."""
        if self.problem is None and self._maximum is not None and self.length > self._maximum:
            self.problem = ContentError(
                f"{self._name}: the content is longer than {self._maximum} bytes, the most a file may have; it was "
                "discarded. Raise max_file_size if that is right."
            )
        if self.problem is None and self._expected is not None and self.length > self._expected:
            self.problem = ContentError(
                f"{self._name}: more than the {self._expected} bytes announced or listed came; they were discarded. "
                "Run again; the source may have changed."
            )
        return self.problem is not None

    def _recognize(self) -> None:
        """Detect by the first bytes what it is, and whether it can be what was requested."""
        self._kind = "other" if self._head else "empty"
        for magic, kind in _MAGIC:
            if self._head.startswith(magic):
                self._kind = kind
                break
        if self._kind == "other" and self._no_document and not self._trusted:
            what = document_in(self._head)
            # A table may begin with a bracket; whether it is JSON, the whole of it shows.
            self.problem = self._foreign(what) if what and "JSON" not in what else None
        if self._kind in ("gzip", "zip") and not self._declared:
            self._meter = Meter(self._caps, self._clock)
            if self._kind == "gzip":
                self._gzip = GzipCheck(self._meter, encoded=self._encoded)
                self._guarded(self._gzip.feed, memoryview(self._head))

    def _guarded(self, check: Callable[..., object], *args: object) -> object:
        """Run a step of a check: damage becomes the problem, and a cap ends the check."""
        self._meter.start()
        try:
            return check(*args)
        except WrongContent as reason:
            self._gzip, self._unlike = None, str(reason)
            if not self._lenient:
                self.problem = self.problem or self._damaged(str(reason))
        except ForeignContent as what:
            self._gzip, self._unlike = None, str(what)
            if not self._trusted:
                self.problem = self.problem or self._foreign(str(what), page=False)
        except TooCostly as reason:
            self._gzip = None
            self._left_unchecked = str(reason)
        finally:
            self._meter.stop()
        return False

    def finish(self, read: Read) -> VerificationResult:
        """
        Return how the whole content was verified.

        Args:
            read: Returns up to so many bytes (second argument) from an offset (first) of the partial file, as
                :meth:`PartialFile.read` does; a zip file is read again here.
        """
        if self._kind is None and self.problem is None:
            self._recognize()
        self.problem = self.problem or self._wrong_length() or self._wrong_digest()
        if isinstance(self.problem, IntegrityError) and self._no_document and (what := document_in(self._head)):
            self.problem = self._foreign(what)
        self.problem = self.problem or self._wrong_kind(read)
        kind, checked = self._kind or "other", False
        if self.problem is None and not self._declared and kind in ("gzip", "zip"):
            checked = self._check_structure(read)
        proof: Proof = "none"
        if self.problem is None:
            declared = {name: text for _, name, text in self._declared} if self._declared else {}
            proof = choose_proof(
                kind=kind,
                sha256=declared.get("SHA-256"),
                md5=declared.get("MD5"),
                length=self.length if self._whole else self._expected,
                structure=checked,
            )
        return VerificationResult(
            verified_by=proof,
            length=self.length,
            sha256=self._sha256.hexdigest() if self._sha256 is not None else None,
            md5=self._md5.hexdigest() if self._md5 is not None else None,
            kind=kind,
            problem=self.problem,
            notice=self._notice(kind),
        )

    def _check_structure(self, read: Read) -> bool:
        """Check what gzip and zip say about themselves; False when that could not be done completely."""
        if self._kind == "gzip" and self._gzip is not None:
            self._guarded(self._gzip.finish)
            return not self._unlike
        if self._kind != "zip":
            return False
        whole = self._guarded(ZipCheck(read, self.length, self._meter).check) is True
        if not whole and self.problem is None and not self._left_unchecked and not self._unlike:
            self._left_unchecked = "some of its members are encrypted or packed in an uncommon way"
            self._whole = True
        return whole

    def _wrong_length(self) -> TransferError | None:
        if self._expected is None or self.length == self._expected:
            return None
        return IntegrityError(
            f"{self._name}: {self.length} of {self._expected} bytes came, so it is cut off; it was discarded. "
            "Run again.",
            expected=self._expected,
            actual=self.length,
        )

    def _wrong_digest(self) -> TransferError | None:
        for whose, name, text in self._declared:
            seen = self._sha256 if name == "SHA-256" else self._md5
            actual = "" if seen is None else seen.hexdigest()
            if actual != text:
                doubt = "the list" if whose == "list" else "the service"
                return IntegrityError(
                    f"{self._name}: its {name} is {actual} and the {whose} says {text}; it was "
                    f"discarded. Run again; if it stays so, report this file to the owner of {doubt}.",
                    expected=text,
                    actual=actual,
                )
        return None

    def _wrong_kind(self, read: Read) -> TransferError | None:
        """Notice content that cannot be what the name promises."""
        if self._trusted:
            return None
        if self._kind == "empty" and self._promise not in (None, "other") and not self._declared:
            return self._damaged("it is empty, and not even an empty one of its kind is")
        if self._kind != "other" or not self._no_document:
            return None
        first = read(0, min(self.length, WINDOW))
        what = document_in(first)
        if self._promise == "other":
            # A table of one column may begin like JSON.
            what = what if "JSON" not in what or _is_error_message(first) else ""
        if what:
            return self._foreign(what)
        if self._lenient or self._declared or self._promise in (None, "other"):
            return None
        if self._promise == "gzip" and is_table(first, whole=self.length <= WINDOW, content_type=self._content_type):
            # The vendor's pages disagree about what .csv.gz holds, so that one may be plain; a zip is never text.
            return None
        if self._promise == "gzip" and _is_text(self._head):
            return self._foreign("text that is no table", page=False)
        return self._damaged("its first bytes are neither those of gzip nor of zip nor of avro content")

    def _foreign(self, what: str, *, page: bool = True) -> ContentError:
        return ContentError(
            f"{self._name}: {what} came instead of the file; it was discarded. "
            "Look whether a proxy or a login page answers for the service, and run again.",
            page=page,
        )

    def _damaged(self, how: str) -> IntegrityError:
        what = f"{self._kind} content" if self._kind in ("gzip", "zip") else "content"
        return IntegrityError(
            f"{self._name}: the {what} is damaged: {how}; it was discarded. "
            "Run again; if it stays so, report this file to the service."
        )

    def _notice(self, kind: Kind) -> str:
        """Return a notice about what is odd and no failure."""
        odd = []
        if self._unlike:
            odd.append(f"it is kept as it was uploaded although it is no whole {kind} file: {self._unlike}")
        if self._encoded and kind == "gzip" and self._promise != "gzip":
            odd.append("it is stored gzip-compressed under its plain name")
        if self._promise not in (None, "other", kind):
            odd.append(f"the name promises {self._promise} content and it is {'plain' if kind == 'other' else kind}")
        if self._left_unchecked:
            odd.append(f"its check sums were not all checked: {self._left_unchecked}")
        return "; ".join(odd)


def _is_text(head: bytes) -> bool:
    """Return whether the beginning of some content is text: no control characters but those of lines and columns."""
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head)


def _bare(content: bytes) -> bytes:
    return content.removeprefix(b"\xef\xbb\xbf").strip()


def _is_error_message(content: bytes) -> bool:
    """Return whether it is a JSON object about an error, or a list of such objects."""
    try:
        document = json.loads(_bare(content))
    except (ValueError, RecursionError):
        return False
    rows = document if isinstance(document, list) else [document]
    return bool(rows) and all(
        isinstance(row, dict) and any(str(name).lower() in _ERROR_WORDS for name in row) for row in rows
    )
