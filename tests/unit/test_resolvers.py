import asyncio

import pytest

from erlmesh import Node
from erlmesh.errors import ConnectError
from erlmesh.net.resolvers import FixedPort, NoEpmd, StaticResolver, listen_ports, random_creation


def where(resolver, name):
    return asyncio.run(resolver.resolve(name))


def test_with_one_port_for_all_every_node_is_at_its_own_host():
    assert where(FixedPort(4370), "plato@10.0.0.7") == ("10.0.0.7", 4370)
    assert where(FixedPort(4370), "plato@::1") == ("::1", 4370)


def test_a_table_is_asked_first_and_then_another():
    table = StaticResolver({"plato@h": ("10.0.0.7", 9100)}, FixedPort(4370))

    assert where(table, "plato@h") == ("10.0.0.7", 9100)
    assert where(table, "other@x") == ("x", 4370)
    with pytest.raises(ConnectError, match="nobody says where other@x listens"):
        where(StaticResolver({}), "other@x")


def test_creations_made_up_are_32_bits_and_none_of_the_small_ones():
    made_up = {asyncio.run(NoEpmd().register("a", 1, hosts=None, hidden=False)) for _ in range(100)}

    assert len(made_up) == 100
    assert all(4 <= creation < 1 << 32 for creation in made_up | {random_creation()})


@pytest.mark.parametrize("port", [0, 65536, -1, "9100", True, 1.0])
def test_what_is_no_port_is_refused(port):
    with pytest.raises(ValueError, match="from 1 to 65535"):
        FixedPort(port)
    with pytest.raises(ValueError, match="the port of a@b"):
        StaticResolver({"a@b": ("h", port)})
    with pytest.raises(ValueError, match="advertise_port"):
        Node("a@127.0.0.1", cookie="c", advertise_port=port)


def test_the_ports_to_try_are_those_given_or_the_one_of_all():
    assert listen_ports(None, None) == (0,)
    assert listen_ports(range(9100, 9103), None) == (9100, 9101, 9102)
    assert listen_ports(None, FixedPort(4370)) == (4370,)
    with pytest.raises(ValueError, match="leave `ports` away"):
        listen_ports([1], FixedPort(4370))
    for ports in ([], [70000]):
        with pytest.raises(ValueError, match="ports"):
            listen_ports(ports, None)
