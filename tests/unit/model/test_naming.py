"""Names by RFC 1123 and Kubernetes' rules."""

import pytest

from shoal.model import naming


@pytest.mark.parametrize("name", ["a", "a-b", "0", "a" * 63])
def test_dns_labels(name: str) -> None:
    assert naming.dns_label(name) == ""


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a_b", "a" * 64, "ä", "a\n"])
def test_no_dns_labels(name: str) -> None:
    assert naming.dns_label(name) != ""


@pytest.mark.parametrize("name", ["a", "a.b", "web-1.example.com", "a" * 253])
def test_dns_names(name: str) -> None:
    assert naming.dns_subdomain(name) == ""


@pytest.mark.parametrize("name", ["", ".", "a..b", "a.", ".a", "a.-b", "a/b", "a" * 254, "*"])
def test_no_dns_names(name: str) -> None:
    assert naming.dns_subdomain(name) != ""


@pytest.mark.parametrize("key", ["a", "A_b.c-d", "example.com/a", "a" * 63, "0"])
def test_keys(key: str) -> None:
    assert naming.qualified_name(key) == ""


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "A.com/a", "a/b/c", "-a", "a b", "a" * 64, "example.com/" + "a" * 64, "a\n"]
)
def test_no_keys(key: str) -> None:
    assert naming.qualified_name(key) != ""


def test_label_values() -> None:
    assert [naming.label_value(v) for v in ("", "a", "A.b_c-1")] == ["", "", ""]
    assert all(naming.label_value(v) for v in ("-a", "a b", "a/b", "a" * 64))


def test_variable_names() -> None:
    assert [naming.env_name(n) for n in ("A", "_a.b-c", "-a", ".a")] == ["", "", "", ""]
    assert all(naming.env_name(n) for n in ("", "1A", "A B", "A=B", ".", "..", "..a"))


def test_port_names() -> None:
    assert [naming.port_name(n) for n in ("http", "http-2", "2a", "a" * 15)] == ["", "", "", ""]
    assert all(naming.port_name(n) for n in ("", "80", "a--b", "-a", "a-", "A", "a" * 16))


def test_networks() -> None:
    assert [naming.cidr("10.0.0.0/23"), naming.ip_address("::1")] == ["", ""]
    assert naming.cidr("10.0.0.1/23")
    assert naming.ip_address("10.0.0.01")
