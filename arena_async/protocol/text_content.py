"""
What text is that came in the place of a file: a document of another server, or a table without its compression.

Pure. Errors of servers and proxies come as HTML, XML, JSON or a sentence, with status 200 and any type.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter

__all__ = ["NO_DOCUMENTS", "WINDOW", "document_in", "is_document_type", "is_table", "may_be_document"]

#: Bytes from the beginning of some content that are looked at, at the most.
WINDOW = 64 * 1024

_MARKUP = re.compile(r"<(?:[a-z][\w:.-]*[\s/>]|[!?/])", re.IGNORECASE)
_HTML = re.compile(
    r"(?:<!--.*?-->\s*)*<(?:!doctype\s+html|/?(?:html|head|body|meta|title|script|style|link|table|center|div|p|h\d)\b)",
    re.IGNORECASE | re.DOTALL,
)
#: How a JSON document goes on behind its first bracket; a table may begin with a unit: ``[m/s],...``.
_JSON = re.compile(r"\{\s*[\"}]|\[\s*[\[\]{\"\d-]")
#: Types that no table has.
_NO_TABLE = re.compile(r"html|xml|json|javascript|pdf|image/|audio/|video/|multipart/", re.IGNORECASE)
#: Types of documents that servers send in the place of a file.
_DOCUMENT_TYPE = re.compile(r"\s*(?:text/html|application/xhtml\+xml)", re.IGNORECASE)
#: Control characters that text does not have, and how rare they are in it at least.
_CONTROLS, _RARE = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]"), 50
#: Control characters that text may have: those of lines and columns, and the end mark of DOS.
_ALLOWED = "\t\n\r\f"


#: Extensions of content that is never a document of markup or JSON.
NO_DOCUMENTS = frozenset(
    f".{word}"
    for word in [
        "7z",
        "bz2",
        "docx",
        "gif",
        "jpeg",
        "jpg",
        "parquet",
        "pdf",
        "png",
        "pptx",
        "rar",
        "tar",
        "tif",
        "tiff",
        "tsv",
        "xls",
        "xlsx",
        "xz",
    ]
)

#: Extensions of content that is a document of markup or JSON, or may be one.
_DOCUMENTS = frozenset(
    f".{word}"
    for word in [
        "geojson",
        "gpx",
        "htm",
        "html",
        "ipynb",
        "json",
        "jsonl",
        "kml",
        "md",
        "rss",
        "shtml",
        "svg",
        "txt",
        "xhtml",
        "xml",
        "xsd",
        "xsl",
    ]
)


def may_be_document(extension: str) -> bool:
    """Return whether HTML, XML or JSON may be the content of a file of that name."""
    return extension.lower() in _DOCUMENTS


def document_in(head: bytes) -> str:
    """Return what kind of document some content begins as: ``"a web page"``, ``"an XML document"`` …, or ``""``."""
    text = (_decoded(head[:WINDOW]) or "").lstrip()
    if len(_CONTROLS.findall(text)) * _RARE > len(text):
        return ""  # Binary content that begins with a bracket.
    if _MARKUP.match(text):
        is_page = _HTML.match(text) or text.startswith("<!--")
        return "a web page" if is_page else "an XML document"
    return "a JSON document" if _JSON.match(text) or _is_json(text) else ""


def is_document_type(content_type: str | None) -> bool:
    """Return whether a type is that of a web page."""
    return content_type is not None and _DOCUMENT_TYPE.match(content_type) is not None


def is_table(content: bytes, *, whole: bool, content_type: str | None) -> bool:
    """
    Return whether content is a table as text: at least two lines, of the same number of fields, which are at least two.

    Lines of a preamble may stand before it, as many as the table has.

    Args:
        content: Its first bytes, at most :data:`WINDOW`.
        whole: Whether they are all of it; otherwise their last line is not counted.
        content_type: The type it was sent with, or None.
    """
    text = _decoded(content)
    if text is None or document_in(content) or _NO_TABLE.search(content_type or ""):
        return False
    lines = text.rstrip("\x1a").strip().splitlines(keepends=True)
    if any(ord(sign) < 32 and sign not in _ALLOWED for line in lines for sign in line):
        return False
    return any(_is_regular(lines, delimiter, whole=whole) for delimiter in ",;\t|")


def _is_regular(lines: list[str], delimiter: str, *, whole: bool) -> bool:
    """Return whether most rows, and all from some row on, have the same number of fields, at least two."""
    try:
        rows = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return False
    if not whole:
        # The last row is cut off; so may be many, if a quote in it is not closed.
        rows = rows[:-1]
    if not rows:
        return False
    width, count = Counter(rows).most_common(1)[0]
    return width >= 2 and count >= 2 and count * 2 >= len(rows) and set(rows[len(rows) - count :]) == {width}


def _decoded(content: bytes) -> str | None:
    """Return content as text: UTF-16 with a mark or where every other byte is zero, else UTF-8 or one byte a sign."""
    coding = "utf-8-sig"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        coding = "utf-16"
    elif len(content) >= 4 and not any(content[1:64:2]) and all(content[0:64:2]):
        coding = "utf-16-le"
    elif len(content) >= 4 and not any(content[0:64:2]) and all(content[1:64:2]):
        coding = "utf-16-be"
    if coding != "utf-8-sig":
        return content[: len(content) // 2 * 2].decode(coding, "replace")
    try:
        return content.decode(coding)
    except UnicodeDecodeError as error:
        if error.start >= len(content) - 3:  # Cut in the middle of a sign.
            return content[: error.start].decode(coding)
        return content.decode("latin-1")


def _is_json(text: str) -> bool:
    """Return whether a text is an object or a list in JSON."""
    if text[:1] not in ("{", "["):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
