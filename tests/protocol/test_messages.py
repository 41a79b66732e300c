from __future__ import annotations

import copy
import json
import pickle
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arena_async.errors import ConfigurationError
from arena_async.protocol.messages import (
    Headers,
    Request,
    Response,
    Secret,
    join_path,
    printable,
    scrub,
    segment,
    show_url,
)

CANARY = "c4n4ry/S3cr+t=="

#: What no identifier of a service is, and what must not change the endpoint a request goes to.
UNSAFE = [
    "",
    " ",
    "\t",
    ".",
    "..",
    "x/../../logout?y=",
    "a/b",
    "..\\x",
    "a\r\nX: y",
    "a\x00",
    "a\x7f",
    None,
    True,
    b"x",
]


class TestHeaders:
    def test_names_are_found_in_any_case(self) -> None:
        """The vendor's spelling of a header does not matter."""
        headers = Headers([("X-Arena-Requests-Remaining", "17")])

        assert headers.get("x-arena-requests-remaining") == "17"
        assert "X-ARENA-REQUESTS-REMAINING" in headers
        assert headers.get("X-Other") is None
        assert headers.get("X-Other", "none") == "none"

    def test_values_that_came_twice_keep_their_order(self) -> None:
        """Nothing is merged and nothing is lost."""
        headers = Headers([("Link", "a"), ("Date", "now"), ("link", "b")])

        assert headers.get("LINK") == "a"
        assert headers.get_all("Link") == ("a", "b")
        assert list(headers) == ["Link", "Date", "link"]
        assert len(headers) == 3

    def test_what_is_no_name_is_not_in_them(self) -> None:
        """Asking for a number is answered, not punished."""
        assert 7 not in Headers([("7", "x")])

    def test_the_repr_shows_no_value(self) -> None:
        """Headers carry sessions and tokens."""
        assert repr(Headers([("Set-Cookie", CANARY), ("Date", CANARY)])) == "Headers(Set-Cookie, Date)"


class TestSecret:
    def test_the_text_comes_only_from_reveal(self) -> None:
        """Every other way of looking shows a mask."""
        secret = Secret(CANARY)

        assert secret.reveal() == CANARY
        assert (repr(secret), str(secret), f"{secret}", repr([secret])) == ("***", "***", "***", "[***]")
        assert CANARY not in repr(secret.__reduce__())
        assert not hasattr(secret, "__dict__")

    def test_a_record_that_holds_it_shows_no_text(self) -> None:
        """``repr``, ``asdict`` and ``astuple`` of an attrs class go through the mask."""

        @attrs.frozen
        class Record:
            password: Secret

        record = Record(Secret(CANARY))

        assert CANARY not in f"{record} {attrs.asdict(record)} {attrs.astuple(record)}"

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_it_does_not_travel_in_a_pickle(self, protocol: int) -> None:
        """What arrives says so when it is asked for."""
        sent = pickle.dumps(Secret(CANARY), protocol)
        back = pickle.loads(sent)

        assert CANARY.encode() not in sent
        assert not back
        with pytest.raises(ConfigurationError, match="does not survive pickling"):
            back.reveal()

    def test_a_copy_is_the_same_secret(self) -> None:
        """Copying settings does not lose the password, and does not show it."""
        secret = Secret(CANARY)

        assert copy.copy(secret) is secret
        assert copy.deepcopy({"password": secret})["password"] is secret

    @given(st.text(), st.text())
    def test_secrets_compare_by_their_text(self, one: str, other: str) -> None:
        """Equal texts are equal secrets with equal hashes; a secret never equals the text itself."""
        assert (Secret(one) == Secret(other)) is (one == other)
        assert hash(Secret(one)) == hash(Secret(one))
        assert Secret(one) != one

    def test_equal_secrets_have_equal_hashes_when_they_are_empty_too(self) -> None:
        """The one that a pickle emptied equals the empty one in both ways."""
        assert Secret(None) == Secret("")
        assert hash(Secret(None)) == hash(Secret(""))


class TestRequest:
    def test_parameters_are_spelled_like_the_services_do(self) -> None:
        """None is left out; true and false are in lower case; order and repetition stay."""
        request = Request(method="GET", path="/a", params={"x": 1, "y": None, "z": True, "w": False})

        assert request.params == (("x", "1"), ("z", "true"), ("w", "false"))
        assert Request(method="GET", path="/a", params=[("x", 2), ("x", 1)]).params == (("x", "2"), ("x", "1"))

    def test_no_repr_shows_what_it_carries(self) -> None:
        """Query, headers, body and form stay out of ``repr`` and ``line``."""
        request = Request(
            method="POST",
            path=f"https://user:c4n4ry@files.example/a/b.csv?sig={CANARY}",
            params={"token": CANARY},
            headers={"Authorization": CANARY},
            json={"password": CANARY},
            form={"client_secret": CANARY},
        )

        assert repr(request) == "<Request POST https://files.example/a/b.csv>"
        assert request.line == "POST https://files.example/a/b.csv"

    def test_a_path_that_says_too_much_is_shown_as_something_else(self) -> None:
        """The caller may name what stands in the place of the address."""
        assert Request(method="GET", path="/x/secret", shown_as="/x/...").line == "GET /x/..."

    @pytest.mark.parametrize(
        ("method", "repeatable"), [("GET", True), ("HEAD", True), ("POST", False), ("PUT", False), ("DELETE", False)]
    )
    def test_only_reading_is_repeatable(self, method: str, repeatable: bool) -> None:
        """A request that changes something is never sent twice by its method alone."""
        assert Request(method=method, path="/a").repeatable is repeatable

    def test_a_whole_address_is_told_from_a_path(self) -> None:
        """What does not start with a slash is a URL of its own."""
        assert not Request(method="GET", path="/a").absolute
        assert Request(method="GET", path="https://files.example/a").absolute

    def test_the_repr_of_an_answer_shows_no_body(self) -> None:
        """Bodies hold tokens and people's data."""
        answer = Response(status=200, headers=Headers([("Date", CANARY)]), body=CANARY.encode(), request="GET /a")

        assert CANARY not in repr(answer)
        assert "200" in repr(answer)


class TestPaths:
    @pytest.mark.parametrize("value", UNSAFE, ids=repr)
    def test_what_is_no_single_segment_is_refused_before_anything_is_sent(self, value: Any) -> None:
        """A path is one object's, or there is none."""
        with pytest.raises(ConfigurationError, match=r"^The extract "):
            join_path("/extracts/{extract}/runs", extract=value)

    def test_half_a_character_is_refused(self) -> None:
        """A lone surrogate cannot be sent; the message can still be printed."""
        with pytest.raises(ConfigurationError, match="not valid text") as caught:
            segment("a\ud800")
        assert str(caught.value).isascii()

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("N5P8XY", "N5P8XY"),
            (42, "42"),
            ("a b", "a%20b"),
            ("a?b#c", "a%3Fb%23c"),
            ("%2e%2e", "%252e%252e"),
            ("50%", "50%25"),
            ("ä", "%C3%A4"),
            ("...", "..."),
            ("a;b=c&d", "a%3Bb%3Dc%26d"),
        ],
    )
    def test_a_value_becomes_exactly_one_segment(self, value: object, expected: str) -> None:
        """What means something in a URL is encoded."""
        assert join_path("/runs/{run}/files", run=value) == f"/runs/{expected}/files"

    @given(st.text())
    @example("x/../../logout?y=")
    @example("%2f..%2f")
    def test_a_segment_reads_back_as_the_value_or_is_refused(self, value: str) -> None:
        """Whatever the value is: the URL has the same number of segments, no query, and the value in its place."""
        try:
            path = join_path("/extracts/{extract}/runs", extract=value)
        except ConfigurationError:
            return

        url = urlsplit(f"https://api.example/v1{path}")

        assert (url.query, url.fragment, url.netloc) == ("", "", "api.example")
        parts = url.path.split("/")
        assert parts == ["", "v1", "extracts", parts[3], "runs"]
        assert unquote(parts[3]) == value
        assert parts[3] not in ("", ".", "..")

    def test_the_message_names_the_part(self) -> None:
        """A caller with three identifiers learns which one is wrong."""
        with pytest.raises(ConfigurationError, match=r"^The data set is '\.\.'"):
            join_path("/{study}/{data_set}", study=1, data_set="..")


class TestShowUrl:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("https://files.example/a/b.csv.gz?sig=x#y", "https://files.example/a/b.csv.gz"),
            ("https://files.example:8443/a", "https://files.example:8443/a"),
            ("https://user:word@files.example/a", "https://files.example/a"),
            ("https://[::1]:80/a?b", "https://[::1]:80/a"),
            ("http://127.0.0.1:59999/a/b_c.bin?sig=x", "http://127.0.0.1:59999/a/b_c.bin"),
            ("https://files.example:65536/a", "<not a URL>"),
            ("https://files.example:8443/a;sig=x", "https://files.example:8443/a;sig=***"),
            ("/v1/extracts?x=y", "/v1/extracts"),
            ("//files.example/a?b", "://files.example/a"),
            ("https://files.example:port/a", "<not a URL>"),
            ("https://[::1/a?sig=x", "<not a URL>"),
            ("https://files.example/a\u202eb", "https://files.example/a\\u202eb"),
            ("", ""),
        ],
    )
    def test_an_address_is_shown_without_user_and_query(self, url: str, shown: str) -> None:
        """Host and path are enough to know what was asked."""
        assert show_url(url) == shown

    def test_a_long_path_is_cut(self) -> None:
        """A message stays a sentence."""
        assert show_url("/" + "a" * 1000) == "/" + "a" * 299 + "... (1001 characters)"

    @given(st.sampled_from(["sig", "token", "X-Amz-Signature"]), st.sampled_from(["?", "%3F", "#", ";", "?a=b&"]))
    def test_a_signature_is_not_shown_wherever_it_hides(self, name: str, before: str) -> None:
        """A question mark that was encoded by mistake does not turn the query into a path that is shown."""
        assert "c4n4ry" not in show_url(f"https://files.example/a{before}{name}=c4n4ry")


class TestPrintable:
    @given(st.text(st.characters(codec=None), max_size=300))
    def test_what_comes_out_can_be_printed(self, text: str) -> None:
        """One line, valid UTF-8, no control or direction characters."""
        shown = printable(text)

        assert shown.isprintable()
        assert shown.encode("utf-8").decode() == shown

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("plain äö", "plain äö"),
            ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
            ("a\u202eb\u200bc", "a\\u202eb\\u200bc"),
            ("a\ud800", "a\\ud800"),
        ],
    )
    def test_what_would_move_the_cursor_is_escaped(self, text: str, shown: str) -> None:
        """The escapes are Python's."""
        assert printable(text) == shown

    def test_a_long_text_says_how_long_it_was(self) -> None:
        """Nobody takes the cut for the end."""
        assert printable("a" * 300, maximum=3) == "aaa... (300 characters)"


NAMES = [
    "sig", "Signature", "skoid", "X-Amz-Signature", "X-Amz-Security-Token", "token", "access_token", "refresh_token",
    "accessToken", "webToken", "client_secret", "clientSecret", "arena_session_id", "arenaSessionId", "password",
    "PASSWORD", "Authorization", "api_key",
]  # fmt: skip

FORMS = [
    "{name}={value}",
    "https://files.example/a?se=2026&{name}={value}&x=1",
    "a\\u0026{name}={value}",
    "a%26{name}%3D{value}",
    "a%2526{name}%253D{value}",
    '{{"{name}": "{value}", "x": 1}}',
    '{{"{name}":"{value}"}}',
    "{{'{name}': '{value}'}}",
    '"{{\\"{name}\\": \\"{value}\\"}}"',
    "('{name}', '{value}')",
    "(b'{name}', b'{value}')",
    "{name}: {value}",
    "{name}: Bearer {value}",
    "{name}: Basic {value}",
    "<{name}>{value}</{name}>",
    "&quot;{name}&quot;: &quot;{value}&quot;",
]


class TestScrub:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("form", FORMS)
    def test_a_secret_value_is_masked_in_every_spelling(self, name: str, form: str) -> None:
        """Queries, forms, JSON, XML, headers and the reprs of all of them."""
        shown = scrub(form.format(name=name, value=CANARY))

        assert "c4n4ry" not in shown
        assert "S3cr" not in shown
        assert "***" in shown

    @given(st.text(st.characters(min_codepoint=32, codec="utf-8"), min_size=1, max_size=30))
    @example('" x')
    @example("a b&c}")
    def test_no_password_gets_out_of_json(self, password: str) -> None:
        """Spaces, quotes and braces in it do not end the mask early."""
        text = json.dumps({"email": "a@b.example", "password": f"<{password}>canary", "workspaceId": 7})

        shown = scrub(text)

        assert "canary" not in shown
        assert "workspaceId" in shown

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60))
    def test_no_signature_gets_out_of_a_query(self, value: str) -> None:
        """A signature is percent-encoded; what comes after it stays readable."""
        url = f"https://files.example/a?sig={quote('canary' + value, safe='')}&se=2026"

        shown = scrub(url)

        assert "canary" not in shown
        assert parse_qs(urlsplit(shown).query)["se"] == ["2026"]

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("http://user:word@proxy.example:3128", "http://***@proxy.example:3128"),
            ("Cookie: a=1; b=2\nDate: now", "Cookie: ***\\nDate: now"),
            ("Set-Cookie: id=1; Path=/", "Set-Cookie: ***"),
            ("refused: Bearer abcdefgh.ijkl-mn", "refused: Bearer ***"),
        ],
    )
    def test_logins_without_a_name_are_masked(self, text: str, shown: str) -> None:
        """Users in addresses, cookies and bare tokens."""
        assert scrub(text) == shown

    @pytest.mark.parametrize(
        "text",
        [
            "The specified run is not found.",
            "Signature not valid in the specified time frame",
            "https://api.example/connect/token",
            '{"count": 2, "results": []}',
            "mailto someone@example.org",
            "basic configuration of the bearer",
            "The cookie is gone",
        ],
    )
    def test_what_is_no_secret_stays(self, text: str) -> None:
        """An error text keeps its meaning."""
        assert scrub(text) == text

    def test_a_long_text_is_cut_after_it_was_masked(self) -> None:
        """The cut never takes the name away and leaves the value."""
        shown = scrub("x" * 395 + "&sig=" + CANARY * 10)

        assert shown.startswith("x" * 395)
        assert "c4n4ry" not in shown

    @pytest.mark.parametrize("piece", ["x-amz-", "sig ", 'token"', "cookie", "//", 'password\\"', "bearer ", "=" * 9])
    def test_a_hostile_text_takes_no_time(self, piece: str) -> None:
        """The patterns look at 256 KiB of any repetition in one pass (a square of it would take minutes)."""
        assert len(scrub(piece * (262_144 // len(piece)))) < 1000
