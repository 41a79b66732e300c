"""
Resuming: how to proceed with the response to a content request, as one table over plain values.

The rules come from RFC 9110 section 14 and from the behaviour of file hosts. A range is only requested together with
``If-Match`` and a strong ETag (too many servers ignore ``If-Range``), and a response is only trusted as far as it
proves where it starts, how long the complete file is, and that it is still the same representation.

::

    sent     response                                       step
    -------  ---------------------------------------------  ---------------------------------------------
    full     200 with the complete body                     APPEND at 0
    full     200 of another size than the listing           CHANGED
    full     206, or a part with status 200                 RESTART_PLAIN (never written as it is)
    range    starts there, same strong ETag, same total     APPEND there
    range    starts there, another strong ETag or total     CHANGED
    range    starts there, no ETag, weak ETag, no total     RESTART_PLAIN (nothing proves that both parts match)
    range    starts elsewhere, or unknown, multipart        RESTART_PLAIN
    range    200 with the complete body                     RESTART_HERE (ranges are ignored)
    range    412                                            CHANGED
    range    416 whose total is the local size              COMPLETE
    range    416 with a smaller total                       CHANGED; a larger or no total: RESTART_PLAIN
    any      encoded, though the file itself is not gzip    REFUSE
    range    206 that is encoded                            RESTART_PLAIN
    any      anything else                                  REFUSE
"""

from __future__ import annotations

import enum
import re

import attrs

from arena_async.protocol.files import BodyHead

__all__ = [
    "ContentRange",
    "HeadDecision",
    "PartialContent",
    "ResumeStep",
    "is_encoded",
    "is_piece",
    "judge_head",
    "read_content_range",
    "strong_etag",
    "validator_of",
]

#: RFC 9110 section 14.4. Nineteen digits are more than any file has and still a cheap number.
_CONTENT_RANGE = re.compile(r"bytes[ \t]+(?:([0-9]{1,19})-([0-9]{1,19})|\*)/([0-9]{1,19}|\*)", re.ASCII | re.IGNORECASE)

#: The registered content codings (RFC 9110 section 16.6.1, without ``identity``) and those in use besides. What else
#: servers write there (``utf-8``, ``aws-chunked``, ``binary``) is the charset, the framing or nothing.
_CODINGS = frozenset(
    {
        "gzip",
        "x-gzip",
        "compress",
        "x-compress",
        "deflate",
        "br",
        "zstd",
        "dcb",
        "dcz",
        "exi",
        "pack200-gzip",
        "lzma",
        "xz",
    }
    | {"aes128gcm", "bzip2", "x-bzip2"}
)

#: RFC 9110 section 8.8.3, without the characters above ASCII, which do not survive being sent back byte for byte.
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,1024}"', re.ASCII)


@attrs.frozen(kw_only=True)
class ContentRange:
    """
    A parsed ``Content-Range``.

    Args:
        first: The first byte of the body, counted from 0; None if the range was rejected (``bytes */N``).
        last: The last byte of the body, inclusive; None if the range was rejected.
        total: Bytes of the complete file, or None for ``*``.
    """

    first: int | None = None
    last: int | None = None
    total: int | None = None


def read_content_range(text: str | None) -> ContentRange | None:
    """
    Read a ``Content-Range`` value; None if it is missing or invalid.

    Invalid are a unit other than bytes, a last byte before the first or at the total, several values in one, ``*/*``.
    """
    found = _CONTENT_RANGE.fullmatch(text.strip(" \t")) if text else None
    if found is None:
        return None
    first, last, total = (None if part in (None, "*") else int(part) for part in found.groups())
    if first is None or last is None:
        return None if total is None else ContentRange(total=total)
    if last < first or (total is not None and last >= total):
        return None
    return ContentRange(first=first, last=last, total=total)


def strong_etag(text: str | None) -> str | None:
    """Return the ETag if two equal ones prove equal bytes: quoted, not empty, not weak. Else None."""
    return text if text is not None and _STRONG_ETAG.fullmatch(text) else None


def validator_of(head: BodyHead) -> str | None:
    """
    Return the validator with which an interrupted body can be resumed, or None if it cannot.

    An encoded body has none: whether a range of it counts encoded or plain bytes is not known.
    """
    return None if head.etag is None or is_encoded(head) else strong_etag(head.etag)


@attrs.frozen(kw_only=True)
class PartialContent:
    """
    The content of the local partial file, and what is known about the complete file.

    Args:
        offset: Bytes that are safely on disk.
        validator: The strong ETag they were received with, or None.
        total: Bytes of the complete file, as stated by the response they were received with, or None.
    """

    offset: int = 0
    validator: str | None = None
    total: int | None = None

    @property
    def resumable(self) -> bool:
        """Whether a range may be requested."""
        return self.offset > 0 and strong_etag(self.validator) is not None


class ResumeStep(enum.Enum):
    """How to proceed with the response to a content request."""

    #: Write the body at ``HeadDecision.offset``.
    APPEND = "append"
    #: Discard the partial content and write this body from the first byte on.
    RESTART_HERE = "restart here"
    #: Discard the partial content, close this response and send a request without a range.
    RESTART_PLAIN = "restart plain"
    #: Nothing is missing: the partial content is the complete file.
    COMPLETE = "complete"
    #: The file at the service differs from the listing or the partial file.
    CHANGED = "changed"
    #: This is not the content, and another request would not help.
    REFUSE = "refuse"


@attrs.frozen(kw_only=True)
class HeadDecision:
    """
    A step and why.

    Args:
        step: What to do.
        reason: Why, as a clause of a sentence.
        ranges_ignored: The server was sent a range and does not support ranges; do not send it another one.
    """

    step: ResumeStep
    reason: str
    ranges_ignored: bool = False


def judge_head(
    head: BodyHead, held: PartialContent | None = None, *, expected: int | None = None, gzipped: bool = False
) -> HeadDecision:
    """
    Decide how to proceed with a response.

    Args:
        head: The response headers.
        held: What was requested: from ``held.offset`` on if the file still matches ``held.validator``. None or an
            offset of 0: the complete file.
        expected: Bytes of the complete file as listed, or None.
        gzipped: Whether the file itself may be stored gzip-compressed, so that ``Content-Encoding: gzip`` only
            describes what is stored.
    """
    held = held or PartialContent()
    if held.offset and not held.resumable:
        raise ValueError(f"a range from byte {held.offset} was requested without a strong validator")
    if head.status in (412, 416) and held.offset:
        return _judge_refusal(head, held, expected)
    if head.status not in (200, 206):
        return _refuse(f"it has status {head.status}")
    if is_encoded(head):
        if held.offset and head.status == 206:
            return _plain("the range is encoded", ignored=True)
        if not (gzipped and _codings(head) <= {"gzip", "x-gzip"}):
            return _refuse("it is encoded although the stored bytes were requested")
    if (head.content_type or "").strip().lower().startswith("multipart/byteranges"):
        return _plain("it consists of ranges in MIME parts", ignored=held.offset > 0)
    if held.offset:
        return _judge_range(head, held, expected)
    if not _is_complete(head):
        return _plain("it is a part although the complete file was requested")
    if _differ(head.total, expected):
        return _changed(f"it declares {head.total} bytes and the listing {expected}")
    return HeadDecision(step=ResumeStep.APPEND, reason="it is the complete file")


def is_piece(head: BodyHead, held: PartialContent, *, until: int) -> bool:
    """
    Return whether a response is exactly the requested part of the file that ``held`` describes.

    Args:
        head: The response headers.
        held: The start of the requested part, and the file.
        until: The byte before which the part ends.
    """
    if not held.resumable or head.status != 206 or head.length != until - held.offset:
        return False
    return judge_head(head, held, expected=held.total).step is ResumeStep.APPEND


def _judge_range(head: BodyHead, held: PartialContent, expected: int | None) -> HeadDecision:
    """Judge a 200 or 206 to a request for the rest."""
    if _is_complete(head):
        if _differ(head.total, expected):
            return _changed(f"it declares {head.total} bytes and the listing {expected}")
        return HeadDecision(step=ResumeStep.RESTART_HERE, reason="the range was ignored", ranges_ignored=True)
    if head.offset != held.offset:
        return _plain("the range does not start where it was requested", ignored=True)
    etag = strong_etag(head.etag)
    if etag is None:
        return _plain("nothing proves that the rest belongs to the same file", ignored=True)
    if etag != held.validator:
        return _changed("it has another ETag")
    total = head.total
    if total is None:
        return _plain("it does not state the size of the complete file")
    if _differ(total, held.total) or _differ(total, expected):
        return _changed(f"the complete file has {total} bytes now")
    if head.length is not None and held.offset + head.length > total:
        return _plain("it declares more bytes than are missing")
    return HeadDecision(step=ResumeStep.APPEND, reason="it continues where the partial file ends")


def _judge_refusal(head: BodyHead, held: PartialContent, expected: int | None) -> HeadDecision:
    """Judge a 412 or 416 to a request for the rest."""
    if head.status == 412:
        return _changed("the service states that the file has changed")
    etag = strong_etag(head.etag)
    if etag is not None and etag != held.validator:
        return _changed("it has another ETag")
    if head.total is None or head.total > held.offset:
        return _plain("the range was rejected although bytes are missing", ignored=True)
    if head.total < held.offset or _differ(head.total, held.total) or _differ(head.total, expected):
        return _changed(f"the complete file has {head.total} bytes now")
    return HeadDecision(step=ResumeStep.COMPLETE, reason="nothing is missing")


def is_encoded(head: BodyHead) -> bool:
    """Return whether the body has a content coding."""
    return head.encoding is not None and bool(_codings(head))


def _codings(head: BodyHead) -> frozenset[str]:
    """Return the content codings of a body; names of none are left out."""
    return _CODINGS.intersection(name.strip().lower() for name in (head.encoding or "").split(","))


def _is_complete(head: BodyHead) -> bool:
    """Return whether the body is the complete file; one with fewer bytes is not, whatever the status."""
    is_slice = head.length is not None and head.total is not None and head.length < head.total
    return head.status == 200 and head.offset == 0 and not is_slice


def _differ(one: int | None, other: int | None) -> bool:
    """Return whether two sizes are both known and different."""
    return one is not None and other is not None and one != other


def _plain(reason: str, *, ignored: bool = False) -> HeadDecision:
    return HeadDecision(step=ResumeStep.RESTART_PLAIN, reason=reason, ranges_ignored=ignored)


def _changed(reason: str) -> HeadDecision:
    return HeadDecision(step=ResumeStep.CHANGED, reason=reason)


def _refuse(reason: str) -> HeadDecision:
    return HeadDecision(step=ResumeStep.REFUSE, reason=reason)
