"""Addresses: whom we may contact, and how an origin is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.errors import ConfigurationError, UnsafeUrlError
from arena_async.protocol.urls import UrlPolicy, host_of, origin

STRICT = UrlPolicy.for_base("https://api.example.com/v1")


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://api.example.com/v1?x=1#f", "https://api.example.com:443"),
        ("https://API.Example.com:443", "https://api.example.com:443"),
        ("http://api.example.com/", "http://api.example.com:80"),
        ("https://api.example.com:8443/", "https://api.example.com:8443"),
        ("https://[2001:DB8::1]/", "https://[2001:db8::1]:443"),
        ("HTTPS://api.example.com", "https://api.example.com:443"),
    ],
)
def test_an_origin_is_written_in_one_way(url: str, wanted: str) -> None:
    """Case and default ports make no difference."""
    assert origin(url) == wanted


def test_a_host_is_written_without_brackets() -> None:
    """As a resolver takes it."""
    assert (host_of("https://[::1]:8/x"), host_of("https://A.example/x")) == ("::1", "a.example")


@pytest.mark.parametrize(
    "url",
    [
        "https://files.example.com/x?sig=a%2Bb",
        "https://files.example.com:443/x",
        "https://8.8.8.8/x",
        "https://[2606:4700::1111]/x",
        "https://account_1.blob.example-x.com/x",
        "https://files.example.com./x",
    ],
)
def test_a_public_address_over_https_is_contacted(url: str) -> None:
    """That is where files lie."""
    STRICT.check(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example.com/x",
        "https://127.0.0.1/x",
        "https://127.8.8.8/x",
        "https://localhost/x",
        "https://localhost./x",
        "https://0.0.0.0/x",
        "https://10.0.0.1/x",
        "https://172.16.0.1/x",
        "https://192.168.1.1/x",
        "https://100.64.0.1/x",
        "https://169.254.169.254/latest/meta-data",
        "https://224.0.0.1/x",
        "https://255.255.255.255/x",
        "https://[::1]/x",
        "https://[::]/x",
        "https://[fd00::1]/x",
        "https://[fe80::1]/x",
        "https://[fe80::1%25eth0]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://[64:ff9b::7f00:1]/x",
        "https://[2002:7f00:1::]/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://0x7f.1/x",
        "https://127.1/x",
        "https://0177.0.0.1/x",
        "https://user@files.example.com/x",
        "https://user:pw@files.example.com/x",
        "https://@files.example.com/x",
        "https://files.example.com:8080/x",
        "https://files.example.com:0/x",
        "https://files.example.com:/x",
        "https://files.example.com:99999/x",
        "https://files.example.com:x/",
        "file:///etc/passwd",
        "ftp://files.example.com/x",
        "javascript:alert(1)",
        "//files.example.com/x",
        "/x",
        "",
        "https://",
        "https:///x",
        "https:files.example.com/x",
        "https://files.example.com\\@evil.example/x",
        "https://files.example.com/a b",
        "https://files.example.com/\r\nHost: x",
        "https://files.example.com/\x00",
        "https://exämple.com/x",
        "https://[::1/x",
        "https://files..example.com/x",
        "https://fi%6ces.example.com/x",
    ],
)
def test_anything_else_is_not(url: str) -> None:
    """SE07: scheme, user, port, literal address, odd shape."""
    with pytest.raises(UnsafeUrlError):
        STRICT.check(url)


def test_a_place_that_was_allowed_does_not_vouch_for_the_rest_of_an_address() -> None:
    """What is remembered is the place alone: each address is looked at for characters that no URL has."""
    origin("https://files.example/a")

    for url in ("https://files.example/a b", "https://files.example\\@evil.example/", "https://files.example/\u00e9"):
        with pytest.raises(UnsafeUrlError):
            origin(url)
    with pytest.raises(UnsafeUrlError, match="invalid host"):
        origin(f"https://{'a' * 400}.example/")


@pytest.mark.parametrize("url", ["https://u:pw-canary@h.example/x?sig=sig-canary", "file:///x?sig=sig-canary"])
def test_a_refusal_shows_no_secret(url: str) -> None:
    """SE02: host and path only."""
    with pytest.raises(UnsafeUrlError) as caught:
        STRICT.check(url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("ip", ["8.8.8.8", "2606:4700::1111"])
def test_a_name_may_lead_to_a_public_address(ip: str) -> None:
    """As it should."""
    STRICT.check_address(ip)


@pytest.mark.parametrize("ip", ["127.0.0.1", "10.1.2.3", "::1", "fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "", "x"])
def test_a_name_may_not_lead_anywhere_else(ip: str) -> None:
    """SE07: names are checked by where they lead at that moment."""
    with pytest.raises(UnsafeUrlError):
        STRICT.check_address(ip)


class TestPolicies:
    """What the base URL allows."""

    @pytest.mark.parametrize("base", ["http://127.0.0.1:8080", "http://localhost:8080/v1", "http://[::1]:1"])
    def test_an_api_on_loopback_may_hand_out_links_to_loopback(self, base: str) -> None:
        """On any port, plain or not; and to nowhere else in plain http."""
        policy = UrlPolicy.for_base(base)
        policy.check(base)
        policy.check("http://127.0.0.1:9999/x")
        policy.check("http://localhost:9999/x")
        policy.check("https://127.0.0.1/x")
        policy.check_address("127.0.0.1")
        policy.check_address("::1")
        for url in ("http://files.example.com/x", "https://10.0.0.1/x", "https://169.254.169.254/x"):
            with pytest.raises(UnsafeUrlError):
                policy.check(url)

    def test_a_base_of_the_callers_is_contacted_wherever_it_is(self) -> None:
        """A gateway in the own network, on the own port."""
        policy = UrlPolicy.for_base("https://10.0.0.5:8443/arena")
        policy.check("https://10.0.0.5:8443/arena/x")
        with pytest.raises(UnsafeUrlError):
            policy.check("https://10.0.0.5:8444/arena/x")

    def test_another_origin_of_the_callers_can_be_added(self) -> None:
        """Such as the host that gives tokens."""
        policy = STRICT.trusting("https://auth.example.com:8443/token")
        policy.check("https://auth.example.com:8443/token")

    @pytest.mark.parametrize(
        "base",
        [
            "http://api.example.com/v1",
            "http://10.0.0.1/v1",
            "ftp://api.example.com",
            "api.example.com",
            "",
            "https://u:pw@api.example.com",
            "https://api.example.com/v1?x=1",
            "https://api.example.com/#x",
        ],
    )
    def test_a_base_that_cannot_be_one_is_a_setting_that_is_wrong(self, base: str) -> None:
        """SE19: plain http only on loopback; no user, query or fragment."""
        with pytest.raises(ConfigurationError) as caught:
            UrlPolicy.for_base(base)
        assert "pw" not in str(caught.value)

    def test_plain_http_has_to_be_allowed(self) -> None:
        """SE19: explicitly, and then for links too."""
        policy = UrlPolicy.for_base("http://api.example.com/v1", allow_http=True)
        policy.check("http://files.example.com/x")

    def test_private_networks_can_be_allowed(self) -> None:
        """SE07: by an explicit policy."""
        policy = UrlPolicy(allow_private=True)
        policy.check("https://10.0.0.1:8080/x")
        policy.check_address("10.0.0.1")


@given(st.text() | st.from_regex(r"https?://[^/]{0,30}/.{0,20}", fullmatch=True))
def test_no_text_breaks_it(url: str) -> None:
    """Anything is either allowed or refused with our own error."""
    for policy in (STRICT, UrlPolicy.for_base("http://127.0.0.1")):
        try:
            policy.check(url)
        except UnsafeUrlError:
            continue
        assert url.lower().startswith(("https://", "http://"))
