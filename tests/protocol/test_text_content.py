"""Text in the place of a file: documents of other servers are told from tables that lack their compression."""

from __future__ import annotations

import pytest

from arena_async.protocol.text_content import WINDOW, document_in, is_document_type, is_table

TABLE = b"time,x,y,z\n" + b"".join(b"%d,0.01,-0.98,0.12\n" % number for number in range(9000))


@pytest.mark.parametrize(
    ("content", "document"),
    [
        (b"<meta http-equiv='refresh' content='0;url=http://portal/'>\n", "a web page"),
        (b"<script>location='http://portal/login'</script>\n", "a web page"),
        (b"<title>Login required</title><p>Please sign in</p>\n", "a web page"),
        (b"<table><tr><td>Access denied, by policy</td></tr></table>", "a web page"),
        (b"<center><h1>502 Bad Gateway</h1></center>", "a web page"),
        (b"<!DOCTYPE HTML PUBLIC><HTML>x</HTML>", "a web page"),
        (b"<!-- a, b -->\n<!-- c, d -->\n<html></html>", "a web page"),
        (b"\r\n\r\n  <html><body>x</body></html>", "a web page"),
        (b" " * 600 + b"<html><body>x</body></html>", "a web page"),
        ("<html><body>x</body></html>".encode("utf-16"), "a web page"),
        (b"<Error><Code>AuthenticationFailed</Code></Error>", "an XML document"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><Error><Code>ServerBusy</Code></Error>", "an XML document"),
        (b"<s:Envelope a='1', b='2'>\n<s:Fault a='1', b='2'>\n", "an XML document"),
        (b'{"error":{"code":"InternalError"}}', "a JSON document"),
        (b'{"reason":"expired","ok":false}\n{"reason":"expired","ok":false}\n', "a JSON document"),
        (b'[{"error":"x"}]', "a JSON document"),
        (b'{"title":"x","pad":"' + b"y" * 70_000 + b'"}', "a JSON document"),
        (b"Service temporarily unavailable. Please try again later.\n", ""),
        (b"ERROR: The requested URL could not be retrieved\nAccess Denied.\n", ""),
        (b"Warning: mysql_connect(): Too many connections in /var/www/x.php on line 3", ""),
        (b"time,x\n", ""),
        (b"one\ntwo\nthree\n", ""),
        (b"a,b\n1\n2\n3\n", ""),
        (b"a,b\n\x00\x01,\x02\n", ""),
        (b"\n", ""),
        (b"", ""),
    ],
)
def test_what_is_no_table_is_refused(content: bytes, document: str) -> None:
    """Errors of servers and proxies, a single line, and lines of one field."""
    assert document_in(content) == document
    assert not is_table(content[:WINDOW], whole=len(content) <= WINDOW, content_type="application/octet-stream")


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        b"a,b\n1,2",
        b'a,b\r\n"x, y","line\nbreak"\r\n1,2\r\n',
        b'a,b\n"says ""no""",2\n',
        b"\xef\xbb\xbfa,b\r\n1,2\r\n",
        b"a;b\n1,5;2,5\n",
        b"a\tb\n1\t2\n",
        b"a|b\n1|2\n",
        "a,b\r\n1,2\r\n".encode("utf-16"),
        "a,b\r\n1,2\r\n".encode("utf-16-be"),
        "a,b\r\n1,2\r\n".encode("utf-16-le"),
        b"a,b\r\n1,2\r\n\x1a",
        b"Gr\xf6\xdfe,b\n1,2\n",
        "名前,b\n1,2\n".encode(),
        b"[m/s],b\n1,2\n",
        b"--- Data File Created By ActiGraph ---\nSerial: 1\nDate,Axis\n1,2\n2,3\n3,4\n",
    ],
)
@pytest.mark.parametrize("content_type", [None, "text/csv; charset=utf-16", "application/octet-stream", "text/plain"])
def test_a_table_is_taken(content: bytes, content_type: str | None) -> None:
    """Quoted fields with commas and line breaks, marks of encodings, other separators, the end mark of DOS."""
    assert document_in(content) == ""
    assert is_table(content[:WINDOW], whole=len(content) <= WINDOW, content_type=content_type)


@pytest.mark.parametrize("content_type", ["text/html", "Application/JSON", "application/problem+xml", "image/png"])
def test_a_type_that_no_table_has_is_believed(content_type: str) -> None:
    """What looks like a table may be prose with commas."""
    assert not is_table(TABLE[:WINDOW], whole=False, content_type=content_type)


def test_a_row_that_the_window_cuts_is_not_counted() -> None:
    """The last row of a window is only a part of one; in a sign of several bytes it may end as well."""
    content = ("é,b\n" * 30_000).encode()

    assert is_table(content[:WINDOW], whole=False, content_type=None)
    assert is_table(content[: WINDOW - 1], whole=False, content_type=None)
    assert not is_table(b"a,b\n1,2,3", whole=True, content_type=None)


def test_the_type_of_a_page_is_that_of_html_only() -> None:
    """XML and JSON are types of data too."""
    assert is_document_type(" text/HTML; charset=utf-8")
    assert is_document_type("application/xhtml+xml")
    assert not is_document_type("application/json")
    assert not is_document_type(None)


@pytest.mark.parametrize("head", [b"<file 00000000>\n", b'{"', b"[1", b"<!-- x -->"])
def test_binary_content_is_no_document_whatever_it_begins_with(head: bytes) -> None:
    """A page has text behind its first bracket; one stray control character does not make it binary."""
    noise = bytes(range(256)) * 4

    assert document_in(head + noise) == ""
    assert document_in(b"<html><body>" + b"The service is away. " * 20 + b"\x01</body></html>") == "a web page"
