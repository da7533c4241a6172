from tests.unit.node_agent.made import a_pod

from shoal.node_agent.etc_files import Resolver, hosts, read_resolv_conf, resolv_conf, resolver

HOST = Resolver(("192.0.2.53",), ("corp.example",), ("ndots:2", "timeout:1"))


def test_a_pod_finds_itself_and_its_aliases() -> None:
    pod = a_pod(hostAliases=[{"ip": "1.2.3.4", "hostnames": ["foo", "bar.example"]}])
    text = hosts(pod, hostname="web-1", pod_ip="10.208.0.5", host_file="")
    assert "127.0.0.1\tlocalhost\n" in text
    assert "10.208.0.5\tweb-1\n" in text
    assert text.endswith("1.2.3.4\tfoo bar.example\n")


def test_a_pod_in_the_hosts_network_keeps_the_hosts_file() -> None:
    text = hosts(a_pod(hostNetwork=True), hostname="h", pod_ip="192.0.2.1", host_file="192.0.2.9 db\n")
    assert "192.0.2.9 db\n" in text
    assert "localhost" not in text


def test_the_hosts_resolver_is_read_without_its_loopback() -> None:
    found = read_resolv_conf(
        "# x\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch a b\noptions ndots:2\nnonsense\n"
    )
    assert found == Resolver(("192.0.2.53",), ("a", "b"), ("ndots:2",))
    assert read_resolv_conf("nameserver ::1\nnameserver fe80::1%eth0\nnameserver x\n").nameservers == ("fe80::1%eth0",)


def test_what_a_pod_adds_comes_after_the_hosts_and_its_options_win() -> None:
    config = {
        "nameservers": ["9.9.9.9"],
        "searches": ["a"],
        "options": [{"name": "ndots", "value": "5"}, {"name": "edns0"}],
    }
    found = resolver(a_pod(dnsPolicy="ClusterFirst", dnsConfig=config), HOST)
    assert resolv_conf(found) == (
        "nameserver 192.0.2.53\nnameserver 9.9.9.9\nsearch corp.example a\noptions timeout:1 ndots:5 edns0\n"
    )


def test_policy_none_takes_nothing_from_the_host() -> None:
    found = resolver(a_pod(dnsPolicy="None", dnsConfig={"nameservers": ["9.9.9.9"]}), HOST)
    assert resolv_conf(found) == "nameserver 9.9.9.9\n"
