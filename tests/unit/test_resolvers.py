"""Resolvers and port mappers that do not use EPMD."""

import asyncio

import pytest

from erlmesh import Node
from erlmesh.errors import ConnectError
from erlmesh.net.resolvers import FixedPort, NoEpmd, StaticResolver, listen_ports, random_creation


def resolve(resolver, name):
    return asyncio.run(resolver.resolve(name))


def test_a_fixed_port_resolves_to_the_nodes_own_host():
    assert resolve(FixedPort(4370), "plato@10.0.0.7") == ("10.0.0.7", 4370)
    assert resolve(FixedPort(4370), "plato@::1") == ("::1", 4370)


def test_a_static_resolver_falls_back_to_another():
    table = StaticResolver({"plato@h": ("10.0.0.7", 9100)}, FixedPort(4370))

    assert resolve(table, "plato@h") == ("10.0.0.7", 9100)
    assert resolve(table, "other@x") == ("x", 4370)
    with pytest.raises(ConnectError, match="the address of other@x is unknown"):
        resolve(StaticResolver({}), "other@x")


def test_random_creations_have_32_bits_and_avoid_the_small_ones():
    creations = {asyncio.run(NoEpmd().register("a", 1, hosts=None, hidden=False)) for _ in range(100)}

    assert len(creations) == 100
    assert all(4 <= creation < 1 << 32 for creation in creations | {random_creation()})


@pytest.mark.parametrize("port", [0, 65536, -1, "9100", True, 1.0])
def test_an_invalid_port_is_refused(port):
    with pytest.raises(ValueError, match="from 1 to 65535"):
        FixedPort(port)
    with pytest.raises(ValueError, match="the port of a@b"):
        StaticResolver({"a@b": ("h", port)})
    with pytest.raises(ValueError, match="advertise_port"):
        Node("a@127.0.0.1", cookie="c", advertise_port=port)


def test_listen_ports_are_the_given_ones_or_the_fixed_port():
    assert listen_ports(None, None) == (0,)
    assert listen_ports(range(9100, 9103), None) == (9100, 9101, 9102)
    assert listen_ports(None, FixedPort(4370)) == (4370,)
    with pytest.raises(ValueError, match="omit `ports`"):
        listen_ports([1], FixedPort(4370))
    for ports in ([], [70000]):
        with pytest.raises(ValueError, match="ports"):
            listen_ports(ports, None)
