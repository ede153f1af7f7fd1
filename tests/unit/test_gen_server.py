"""Calls to several servers at once."""

from fake_cluster import Cluster

from erlmesh.services.gen_server import multi_call
from erlmesh.terms import Atom

ECHO = Atom("echo")


def cluster_of(*names):
    cluster = Cluster()
    nodes = [cluster.node(name) for name in names]
    for node in nodes[1:]:
        cluster.connect(nodes[0], node)
    return cluster, nodes


def echo(node):
    def receive(message):
        _, caller, request = message
        me.reply(caller, (node.atom, request))

    me = node.spawn_handler(receive, name=ECHO)


def ask(cluster, node, names):
    answers = []
    unrelated = [Atom("unrelated"), (node.make_ref(), 1)]

    async def body(me):
        me._mailbox.extend(unrelated)
        answers.append(await multi_call(me, names, ECHO, 1))
        answers.append(list(me._mailbox) == unrelated)
        answers.append(list(me.refs))

    node.spawn(body)
    cluster.run()
    return answers


def test_multi_call_returns_replies_of_nodes_that_run_the_server():
    cluster, (a, b, _) = cluster_of("a@h", "b@h", "c@h")
    echo(a)
    echo(b)

    answers, mailbox_is_as_it_was, monitors = ask(cluster, a, ["a@h", "b@h", "c@h", "unknown@h"])

    assert answers == {"a@h": (a.atom, 1), "b@h": (b.atom, 1)}
    assert mailbox_is_as_it_was
    assert monitors == []


def test_multi_call_skips_a_node_lost_before_its_reply():
    cluster, (a, b) = cluster_of("a@h", "b@h")
    echo(a)
    b.spawn_handler(lambda message: None, name=ECHO)
    assert ask(cluster, a, ["a@h", "b@h"]) == []

    cluster.crash(b)

    cluster.run()
    assert cluster.tasks == []


def test_multi_call_without_nodes_returns_at_once():
    cluster, (a,) = cluster_of("a@h")

    assert ask(cluster, a, [])[0] == {}
