"""Which address others reach this machine by, from what a machine knows of itself."""

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


def own(*local, host=None, hosts="", towards=None, discovered=()):
    return own_address(HostInfo(host, "socrates", hosts, ("127.0.0.1", *local), towards, discovered))


def test_the_kernels_table_tells_the_local_addresses():
    assert parse_fib_trie(FIB_TRIE) == ("127.0.0.1", "172.18.0.3")
    assert parse_fib_trie("") == ()
    assert "127.0.0.1" in local_addresses()


def test_what_the_user_says_comes_first():
    assert own("10.0.0.1", host="node.example.org", towards="10.0.0.1") == "node.example.org"


def test_the_line_of_the_own_host_name_comes_before_the_way_out():
    hosts = "127.0.0.1 localhost\n172.18.0.3\tsocrates other # 10.0.0.9 socrates\n"

    assert own("172.18.0.3", "10.0.0.9", hosts=hosts, towards="10.0.0.9") == "172.18.0.3"


def test_where_the_cluster_is_looked_for_comes_before_the_hosts_file_and_the_way_out():
    hosts = "172.18.0.3 socrates\n"
    task_and_peer = ("10.0.1.5", "10.0.1.6")

    assert own("172.18.0.3", "10.0.1.5", hosts=hosts, towards="172.18.0.3", discovered=task_and_peer) == "10.0.1.5"
    assert own("172.18.0.3", hosts=hosts, discovered=task_and_peer) == "172.18.0.3"
    assert HostInfo.detect(discovery_names=["localhost", "no-such.invalid"]).discovered[:1] == ("127.0.0.1",)


def test_a_line_that_names_a_loopback_or_a_foreign_address_is_no_evidence():
    hosts = "127.0.1.1 socrates\n192.0.2.7 socrates\n"

    assert own("10.0.0.1", "10.0.0.2", hosts=hosts, towards="10.0.0.2") == "10.0.0.2"


def test_of_several_networks_in_the_hosts_file_the_way_out_decides_if_it_is_among_them_with_a_warning(caplog):
    hosts = "172.18.0.3 socrates\n172.19.0.3 socrates\n"

    assert own("172.18.0.3", "172.19.0.3", "10.0.0.1", hosts=hosts, towards="172.19.0.3") == "172.19.0.3"
    (warning,) = caplog.messages
    assert "172.18.0.3 and 172.19.0.3" in warning
    assert "ERLMESH_HOST" in warning
    with pytest.raises(NodeStartError, match=r"172\.18\.0\.3, 172\.19\.0\.3"):
        own("172.18.0.3", "172.19.0.3", "10.0.0.1", hosts=hosts, towards="10.0.0.1")


def test_a_network_without_a_way_out_leaves_the_only_address():
    assert own("172.18.0.3") == "172.18.0.3"


def test_where_nothing_decides_it_refuses_with_the_candidates():
    with pytest.raises(NodeStartError, match=r"10\.0\.0\.1, 10\.0\.0\.2.*--host or ERLMESH_HOST"):
        own("10.0.0.1", "10.0.0.2")
    with pytest.raises(NodeStartError, match="no address but the loopback"):
        own()


def test_loopback_is_told_from_other_addresses():
    assert [is_loopback(address) for address in ("127.0.0.9", "::1", "fe80::1%eth0", "10.0.0.1")] == [
        True,
        True,
        False,
        False,
    ]
    assert HostInfo.detect("x").host == "x"
