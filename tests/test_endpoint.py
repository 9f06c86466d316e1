"""Which addresses and keys of an LMM are taken."""

from __future__ import annotations

import pytest

from ivm.endpoint import (
    KEY_VARIABLE,
    check_address,
    check_key,
    goes_by_proxy,
    read_key,
    same_server,
)
from ivm.errors import OptionError


@pytest.mark.parametrize(
    ("address", "wrong"),
    [
        ("localhost:8000", "must be such as"),
        ("ftp://example.org/v1", "must be such as"),
        ("http:///v1", "must be such as"),
        ("http://example.org:port/v1", "must be such as"),
        ("https://me:secret@example.org/v1", "must not hold"),
        ("https://me:secret@/v1", "must be such as"),
        ("http://localhost:8000/v1\n", "must be such as"),
        (" http://localhost:8000/v1", "must be such as"),
        (b"http://localhost:8000/v1", "must be such as"),
        (None, "must be such as"),
        ("https://example.org/v1?api-key=secret", "must end with the version"),
        ("https://example.org/v1?", "must end with the version"),
        ("https://example.org/v1#secret", "must end with the version"),
    ],
)
def test_an_address_must_be_one_and_its_password_is_not_repeated(address, wrong):
    with pytest.raises(OptionError, match=wrong) as caught:
        check_address(address, None)
    assert "secret" not in str(caught.value)


def test_a_key_travels_encrypted_or_not_at_all():
    for address in (
        "https://example.org/v1",
        "http://localhost:1/v1",
        "http://127.0.0.1/v1",
        "http://[::1]/v1",
    ):
        check_address(address, "secret")
    check_address("http://example.org/v1", None)
    for address in ("http://example.org/v1", "http://localhost.example.org/v1", "http://127.0.0.2/v1"):
        with pytest.raises(OptionError, match="unencrypted") as caught:
            check_address(address, "secret")
        assert "secret" not in str(caught.value)


def test_no_proxy_reads_what_goes_to_this_machine_in_the_clear():
    local = ("http://localhost:1/v1", "http://127.0.0.1/v1", "http://[::1]/v1")
    assert not any(map(goes_by_proxy, local))
    assert all(map(goes_by_proxy, ("https://localhost/v1", "http://example.org/v1")))


def test_a_key_is_sent_without_white_space_around_it():
    assert [check_key(key) for key in (" a-1\r\n", " \n", "", None)] == ["a-1", None, None, None]
    for key in ("a-1\nX: y", "a-1é", "a-1\0", b"a-1"):
        with pytest.raises(OptionError, match="printable ASCII") as caught:
            check_key(key)
        assert "a-1" not in str(caught.value)


def test_a_variable_that_was_named_must_hold_a_key(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("MINE", "secret")
    assert read_key("MINE") == "secret"
    assert read_key(KEY_VARIABLE) is None
    monkeypatch.setenv("EMPTY", "")
    for name in ("MIEN", "EMPTY"):
        with pytest.raises(OptionError, match="named for the key is not set, or empty") as caught:
            read_key(name)
        assert name not in str(caught.value)


def test_a_server_is_its_scheme_host_and_port():
    assert same_server("https://Example.org/v1", "https://example.org/v2/")
    for other in ("http://example.org/v1", "https://example.org:8443/v1", "https://api.example.org/v1"):
        assert not same_server("https://example.org/v1", other)
