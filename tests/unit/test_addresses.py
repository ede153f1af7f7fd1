"""The choice of the address by which other machines reach this one."""

import pytest

from erlmesh.errors import NodeStartError
from erlmesh.net.addresses import HostInfo, is_loopback, local_addresses, own_address, parse_fib_trie

FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 172.18.0.0/16 2 0 2
        |-- 172.18.0.3
           /32 host LOCAL
        |-- 172.18.255.255
           /32 link BROADCAST
Local:
  +-- 0.0.0.0/0 3 0 5
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 172.18.0.3
        /32 host LOCAL
"""


def own(*local, host=None, hosts="", source_address=None, discovered=()):
    return own_address(HostInfo(host, "socrates", hosts, ("127.0.0.1", *local), source_address, discovered))


def test_local_addresses_come_from_the_kernels_fib_trie():
    assert parse_fib_trie(FIB_TRIE) == ("127.0.0.1", "172.18.0.3")
    assert parse_fib_trie("") == ()
    assert "127.0.0.1" in local_addresses()


def test_the_configured_host_comes_first():
    assert own("10.0.0.1", host="node.example.org", source_address="10.0.0.1") == "node.example.org"


def test_the_hosts_file_comes_before_the_default_route():
    hosts = "127.0.0.1 localhost\n172.18.0.3\tsocrates other # 10.0.0.9 socrates\n"

    assert own("172.18.0.3", "10.0.0.9", hosts=hosts, source_address="10.0.0.9") == "172.18.0.3"


def test_discovered_addresses_come_before_the_hosts_file():
    hosts = "172.18.0.3 socrates\n"
    task_and_peer = ("10.0.1.5", "10.0.1.6")

    assert (
        own("172.18.0.3", "10.0.1.5", hosts=hosts, source_address="172.18.0.3", discovered=task_and_peer) == "10.0.1.5"
    )
    assert own("172.18.0.3", hosts=hosts, discovered=task_and_peer) == "172.18.0.3"
    assert HostInfo.detect(discovery_names=["localhost", "no-such.invalid"]).discovered[:1] == ("127.0.0.1",)


def test_loopback_and_foreign_addresses_in_the_hosts_file_are_ignored():
    hosts = "127.0.1.1 socrates\n192.0.2.7 socrates\n"

    assert own("10.0.0.1", "10.0.0.2", hosts=hosts, source_address="10.0.0.2") == "10.0.0.2"


def test_the_default_route_decides_between_several_networks_with_a_warning(caplog):
    hosts = "172.18.0.3 socrates\n172.19.0.3 socrates\n"

    assert own("172.18.0.3", "172.19.0.3", "10.0.0.1", hosts=hosts, source_address="172.19.0.3") == "172.19.0.3"
    (warning,) = caplog.messages
    assert "172.18.0.3 and 172.19.0.3" in warning
    assert "ERLMESH_HOST" in warning
    with pytest.raises(NodeStartError, match=r"172\.18\.0\.3, 172\.19\.0\.3"):
        own("172.18.0.3", "172.19.0.3", "10.0.0.1", hosts=hosts, source_address="10.0.0.1")


def test_the_only_address_is_used_without_a_default_route():
    assert own("172.18.0.3") == "172.18.0.3"


def test_an_undecided_choice_is_refused_with_the_candidates():
    with pytest.raises(NodeStartError, match=r"10\.0\.0\.1, 10\.0\.0\.2.*--host or ERLMESH_HOST"):
        own("10.0.0.1", "10.0.0.2")
    with pytest.raises(NodeStartError, match="only a loopback address"):
        own()


def test_loopback_addresses_are_recognized():
    assert [is_loopback(address) for address in ("127.0.0.9", "::1", "fe80::1%eth0", "10.0.0.1")] == [
        True,
        True,
        False,
        False,
    ]
    assert HostInfo.detect("x").host == "x"
