"""
What to do with the answer to a request for content: the whole of resuming, as one table over plain values.

The rules come from RFC 9110 section 14 and from what file hosts really do. A range is only asked for together with
``If-Match`` and a strong ETag (too many servers ignore ``If-Range``), and what comes is believed only as far as the
answer itself proves it: where it starts, how long the whole is, and that it is still the same representation.

::

    asked    answer                                         step
    -------  ---------------------------------------------  ---------------------------------------------
    whole    200 with the whole body                        APPEND at 0
    whole    200 of another size than the listing says      CHANGED
    whole    206, or a slice under status 200               RESTART_PLAIN (never written as it is)
    range    starts there, same strong ETag, same total     APPEND there
    range    starts there, another strong ETag or total     CHANGED
    range    starts there, no ETag, weak ETag, no total     RESTART_PLAIN (nothing proves the two halves fit)
    range    starts elsewhere, does not say, multipart      RESTART_PLAIN
    range    200 with the whole body                        RESTART_HERE (ranges are ignored there)
    range    412                                            CHANGED
    range    416 whose total is what we have                COMPLETE
    range    416 with less than we have                     CHANGED, with more or nothing: RESTART_PLAIN
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

#: RFC 9110 section 8.8.3, without the characters above ASCII, which do not survive being sent back byte for byte.
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,1024}"', re.ASCII)


@attrs.frozen(kw_only=True)
class ContentRange:
    """
    What a ``Content-Range`` says.

    Args:
        first: The first byte of the body, counted from 0; None where the range was refused (``bytes */N``).
        last: The last byte of the body, inclusive; None where the range was refused.
        total: Bytes of the whole file, or None for ``*``.
    """

    first: int | None = None
    last: int | None = None
    total: int | None = None


def read_content_range(text: str | None) -> ContentRange | None:
    """
    Read a ``Content-Range`` value; None when there is none or when it makes no sense.

    Nonsense is a unit other than bytes, a last byte before the first or at the total, several values in one, ``*/*``.
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
    """Give the ETag if two equal ones prove equal bytes: quoted, not empty, not weak. Else None."""
    return text if text is not None and _STRONG_ETAG.fullmatch(text) else None


def validator_of(head: BodyHead) -> str | None:
    """
    Give the validator with which a body that breaks off may be taken up again, or None where it may not.

    An encoded body has none: whether a range of it counts encoded or plain bytes is not known.
    """
    return None if is_encoded(head) else strong_etag(head.etag)


@attrs.frozen(kw_only=True)
class PartialContent:
    """
    What the local partial file holds, and what is known about the file it is a part of.

    Args:
        offset: Bytes that lie safely on the disk.
        validator: The strong ETag they came under, or None.
        total: Bytes of the whole file, as the answer said under which they came, or None.
    """

    offset: int = 0
    validator: str | None = None
    total: int | None = None

    @property
    def resumable(self) -> bool:
        """Whether a range may be asked for at all."""
        return self.offset > 0 and strong_etag(self.validator) is not None


class ResumeStep(enum.Enum):
    """What to do with an answer to a request for content."""

    #: Write the body at ``HeadDecision.offset``.
    APPEND = "append"
    #: Drop what is there and write this same body from the first byte on.
    RESTART_HERE = "restart here"
    #: Drop what is there, close this answer and ask again without a range.
    RESTART_PLAIN = "restart plain"
    #: Nothing is missing: what is there is the whole file.
    COMPLETE = "complete"
    #: The file at the service is another one than the listing or the partial knows.
    CHANGED = "changed"
    #: This is not the content, and asking again would not make it so.
    REFUSE = "refuse"


@attrs.frozen(kw_only=True)
class HeadDecision:
    """
    A step and why.

    Args:
        step: What to do.
        reason: Why, as the middle of a sentence.
        ranges_ignored: The server was asked for a range and showed that it does not know how; do not ask it again.
    """

    step: ResumeStep
    reason: str
    ranges_ignored: bool = False


def judge_head(
    head: BodyHead, held: PartialContent | None = None, *, expected: int | None = None, gzipped: bool = False
) -> HeadDecision:
    """
    Say what to do with an answer.

    Args:
        head: What the answer says.
        held: What was asked for: from ``held.offset`` on if the file still matches ``held.validator``. None or an
            offset of 0: the whole file.
        expected: Bytes of the whole file as the listing says, or None.
        gzipped: Whether the file itself is a gzip file, so that ``Content-Encoding: gzip`` may be no more than the
            host's word for what is stored.
    """
    held = held or PartialContent()
    if held.offset and not held.resumable:
        raise ValueError(f"a range from byte {held.offset} was asked for without a strong validator")
    if head.status not in (200, 206, 412, 416):
        return _refuse(f"it has status {head.status}")
    if head.status in (412, 416):
        return _judge_refusal(head, held, expected) if held.offset else _refuse(f"it has status {head.status}")
    if is_encoded(head) and held.offset and head.status == 206:
        return _plain("the range is encoded", ignored=True)
    if is_encoded(head) and not (gzipped and (head.encoding or "").strip().lower() in ("gzip", "x-gzip")):
        return _refuse("it is encoded although the bytes as stored were asked for")
    return _judge_range(head, held, expected) if held.offset else _judge_whole(head, expected)


def is_piece(head: BodyHead, held: PartialContent, *, until: int) -> bool:
    """
    Say whether an answer is exactly the piece that was asked for, of the file that ``held`` is known of.

    Args:
        head: What the answer says.
        held: From where on it was asked for, and of which file.
        until: The byte before which the piece ends.
    """
    if not held.resumable or head.status != 206 or head.length != until - held.offset:
        return False
    return judge_head(head, held, expected=held.total).step is ResumeStep.APPEND


def _judge_whole(head: BodyHead, expected: int | None) -> HeadDecision:
    """Judge the answer to a request without a range."""
    if head.status == 206 or head.offset != 0 or _is_slice(head):
        return _plain("it is a slice although the whole was asked for")
    if _differ(head.total, expected):
        return _changed(f"it announces {head.total} bytes and the listing says {expected}")
    return HeadDecision(step=ResumeStep.APPEND, reason="it is the whole file")


def _judge_range(head: BodyHead, held: PartialContent, expected: int | None) -> HeadDecision:
    """Judge a 200 or 206 to a request for the rest."""
    if head.status == 200 and head.offset == 0 and not _is_slice(head):
        if _differ(head.total, expected):
            return _changed(f"it announces {head.total} bytes and the listing says {expected}")
        return HeadDecision(step=ResumeStep.RESTART_HERE, reason="the range was ignored", ranges_ignored=True)
    if head.offset != held.offset or _multipart(head):
        return _plain("the range does not start where it was asked to", ignored=True)
    etag = strong_etag(head.etag)
    if etag is None:
        return _plain("nothing proves that the rest belongs to the same file", ignored=True)
    if etag != held.validator:
        return _changed("it has another ETag")
    total = head.total
    if total is None:
        return _plain("it does not say how long the whole file is")
    if _differ(total, held.total) or _differ(total, expected):
        return _changed(f"the whole file has {total} bytes now")
    if head.length is not None and held.offset + head.length > total:
        return _plain("it announces more bytes than the rest has")
    return HeadDecision(step=ResumeStep.APPEND, reason="it goes on where the partial ends")


def _judge_refusal(head: BodyHead, held: PartialContent, expected: int | None) -> HeadDecision:
    """Judge a 412 or 416 to a request for the rest."""
    if head.status == 412:
        return _changed("the service says that it is not the same file any more")
    etag = strong_etag(head.etag)
    if etag is not None and etag != held.validator:
        return _changed("it has another ETag")
    if head.total is None or head.total > held.offset:
        return _plain("the range was refused although bytes are missing", ignored=True)
    if head.total < held.offset or _differ(head.total, held.total) or _differ(head.total, expected):
        return _changed(f"the whole file has {head.total} bytes now")
    return HeadDecision(step=ResumeStep.COMPLETE, reason="nothing is missing")


def is_encoded(head: BodyHead) -> bool:
    """Whether the body went through a content coding."""
    return (head.encoding or "").strip().lower() not in ("", "identity")


def _multipart(head: BodyHead) -> bool:
    """Whether the body is ranges wrapped in MIME parts."""
    return (head.content_type or "").strip().lower().startswith("multipart/byteranges")


def _is_slice(head: BodyHead) -> bool:
    """Whether the body announces fewer bytes than the file has, whatever the status calls it."""
    return _multipart(head) or (head.length is not None and head.total is not None and head.length < head.total)


def _differ(one: int | None, other: int | None) -> bool:
    """Whether two sizes are both known and not the same."""
    return one is not None and other is not None and one != other


def _plain(reason: str, *, ignored: bool = False) -> HeadDecision:
    return HeadDecision(step=ResumeStep.RESTART_PLAIN, reason=reason, ranges_ignored=ignored)


def _changed(reason: str) -> HeadDecision:
    return HeadDecision(step=ResumeStep.CHANGED, reason=reason)


def _refuse(reason: str) -> HeadDecision:
    return HeadDecision(step=ResumeStep.REFUSE, reason=reason)
