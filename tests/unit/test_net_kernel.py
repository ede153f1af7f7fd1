"""net_kernel: the reply to a ping."""

from fake_cluster import Cluster

from erlmesh.services.net_kernel import NetKernel
from erlmesh.terms import Atom

NET_KERNEL = (Atom("net_kernel"), Atom("a@h"))


def connected():
    cluster = Cluster()
    a, b = cluster.node("a@h"), cluster.node("b@h")
    NetKernel(a)
    cluster.connect(a, b)
    return cluster, b


def test_ping_is_answered_with_yes():
    cluster, b = connected()

    assert cluster.run(b.call(NET_KERNEL, (Atom("is_auth"), b.atom))) is Atom("yes")


def test_unknown_call_gets_notsup():
    cluster, b = connected()

    answer = cluster.run(b.call(NET_KERNEL, (Atom("spawn"), Atom("m"), Atom("f"), [], Atom("user"))))

    assert answer == (Atom("error"), Atom("notsup"))


def test_malformed_messages_are_ignored():
    cluster, b = connected()

    b.process().send(NET_KERNEL, (Atom("$gen_call"), Atom("x")))
    cluster.run()

    assert cluster.run(b.call(NET_KERNEL, (Atom("is_auth"), b.atom))) is Atom("yes")
