"""What names, label keys, label values and their like may be (RFC 1123 and Kubernetes' validation).

Each function answers what is wrong in words that follow "<found>", or "" if nothing is.
"""

import re

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_ENV = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_PORT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])*")

_LABEL_RULE = "lower case letters, digits and '-', beginning and ending with a letter or digit"
_QUALIFIED_RULE = "letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"


def dns_label(name: str) -> str:
    """A name of one part: namespaces, containers, volumes."""
    if len(name) > 63:
        return f"is too long: {len(name)} characters, expected at most 63"
    return "" if _LABEL.fullmatch(name) else f"is not a DNS label: expected {_LABEL_RULE}"


def dns_subdomain(name: str) -> str:
    """A name of parts joined by dots: pods and most other objects."""
    if len(name) > 253:
        return f"is too long: {len(name)} characters, expected at most 253"
    return "" if _SUBDOMAIN.fullmatch(name) else f"is not a DNS name: expected {_LABEL_RULE}, in parts joined by '.'"


def qualified_name(key: str) -> str:
    """Label and annotation keys, taint keys, finalizers: `name` or `prefix.domain/name`."""
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or dns_subdomain(prefix)):
        return "has a bad prefix: expected a DNS name before the '/'"
    if not name or len(name) > 63:
        return "is not a key: expected 1 to 63 characters" + (" after the '/'" if slash else "")
    return "" if _QUALIFIED.fullmatch(name) else f"is not a key: expected {_QUALIFIED_RULE}"


def label_value(value: str) -> str:
    if len(value) > 63:
        return f"is too long: {len(value)} characters, expected at most 63"
    return "" if not value or _QUALIFIED.fullmatch(value) else f"is not a label value: expected {_QUALIFIED_RULE}"


def env_name(name: str) -> str:
    if name in (".", "..") or name.startswith(".."):
        return "is not a variable's name: it may not begin with '..'"
    if _ENV.fullmatch(name):
        return ""
    return "is not a variable's name: expected letters, digits, '_', '-' and '.', not beginning with a digit"


def port_name(name: str) -> str:
    if len(name) > 15:
        return f"is too long: {len(name)} characters, expected at most 15"
    if not _PORT_NAME.fullmatch(name) or "--" in name or not re.search("[a-z]", name):
        return "is not a port's name: expected lower case letters (at least one), digits and single '-'"
    return ""


def ip_address(text: str) -> str:
    import ipaddress  # not for every reader of the model

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return "is not an IP address"
    return ""


def ipv4_address(text: str) -> str:
    import ipaddress

    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return "is not an IPv4 address"
    return ""


def cidr(text: str) -> str:
    import ipaddress

    try:
        ipaddress.ip_network(text)
    except ValueError:
        return "is not a network, such as 10.208.0.0/23"
    return ""
