"""TLS between this library and OTP: ``erl -proto_dist inet_tls -ssl_dist_optfile FILE``."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from certificates import Authority
from erlmesh.certs.optfile import optfile_text
from erlmesh.terms import Atom
from polling import wait_until

HOST = "127.0.0.1"


class TlsCluster:
    """Starts nodes with TLS. Each has a certificate of ``authority`` for ``hosts``, unless it is told otherwise."""

    def __init__(self, cluster, folder):
        self.cluster = cluster
        self.authority = Authority(folder / "ca")
        self.foreign = Authority(folder / "foreign", "another CA")

    def beam(self, name, *, authority=None, hosts=(HOST,), expired=False, options=None, arguments=(), **more):
        signer = authority or self.authority
        cert, key = signer.write(f"beam-{name}", *hosts, expired=expired)
        optfile = signer.folder / f"{name}.conf"
        text = optfile_text(str(cert), str(key), str(self.authority.ca))
        optfile.write_text(options(text) if options else text)
        tls = ["-proto_dist", "inet_tls", "-ssl_dist_optfile", str(optfile)]
        return self.cluster.beam(name, arguments=[*tls, *arguments], **more)

    def python(self, name, *, authority=None, hosts=(HOST,), expired=False, tls=None, **more):
        signer = authority or self.authority
        cert, key = signer.write(f"python-{name}", *hosts, expired=expired)
        files = {"cert": os.fspath(cert), "key": os.fspath(key), "ca": os.fspath(self.authority.ca)}
        return self.cluster.pynode(name, tls=files | (tls or {}), **more)


@pytest.fixture
def tls(cluster, tmp_path):
    return TlsCluster(cluster, tmp_path)


def both_connect(beam, python):
    assert python.ping(beam.name)
    python.eval("node.disconnect(NAME)", NAME=beam.name)
    wait_until(lambda: beam.nodes() == set() and python.nodes() == set())
    assert beam.ping(python.name)
    wait_until(lambda: beam.nodes() == {python.name} and python.nodes() == {beam.name})


def test_nodes_connect_in_both_directions(tls, otp):
    both_connect(tls.beam("beam", otp=otp), tls.python("python"))


def test_a_beam_without_a_name_gets_one(tls, otp):
    beam, python = tls.beam("undefined", otp=otp), tls.python("python")

    assert beam.eval("net_kernel:connect_node(Peer)", Peer=python.atom) is True

    assert python.eval("node.nodes(hidden=True)") == [beam.eval("node()").name]


def test_nodes_connect_with_uvloop(tls):
    both_connect(tls.beam("beam"), tls.python("python", event_loop="uvloop"))


def test_nodes_connect_with_tls_1_2(tls, otp):
    def oldest(text):
        return text.replace("['tlsv1.3', 'tlsv1.2']", "['tlsv1.2']")

    beam, python = tls.beam("beam", otp=otp, options=oldest), tls.python("python")

    both_connect(beam, python)
    for _ in range(3):  # a BEAM tries to resume its last session
        beam.eval("erlang:disconnect_node(Name)", Name=python.atom)
        wait_until(lambda: beam.nodes() == set() and python.nodes() == set())
        assert beam.ping(python.name)


def test_nodes_connect_with_tls_1_3_only(tls, otp):
    def newest(text):
        return text.replace("['tlsv1.3', 'tlsv1.2']", "['tlsv1.3']")

    both_connect(tls.beam("beam", otp=otp, options=newest), tls.python("python", tls={"minimum_version": "1.3"}))


# Refusals. Both nodes say what is wrong, as far as TLS tells them.


def neither_connects(beam, python):
    assert not python.ping(beam.name)
    error = python.eval("node.last_connect_error(NAME)", NAME=beam.name)
    assert not beam.ping(python.name)
    return error


EXPIRED = "has expired: renew it"
UNTRUSTED = "is not signed by a CA that this node trusts"


@pytest.mark.parametrize("fault", ["expired", "foreign", "misnamed"])
def test_a_beam_with_a_wrong_certificate_is_refused(tls, otp, fault):
    options = {
        "expired": {"expired": True},
        "foreign": {"authority": tls.foreign},
        "misnamed": {"hosts": ("plato.example",)},
    }[fault]
    beam, python = tls.beam("beam", otp=otp, **options), tls.python("python", tls={"verify_caller_host": True})

    error = neither_connects(beam, python)

    if fault == "misnamed":
        assert "the certificate of the node is for plato.example, and not for 127.0.0.1" in error
        wait_until(
            lambda: python.logged(
                "the certificate of the caller beam@127.0.0.1 is for plato.example, and not for 127.0.0.1"
            )
        )
    else:
        words = EXPIRED if fault == "expired" else UNTRUSTED
        assert f"the certificate of the node {words}" in error
        wait_until(lambda: python.logged(f"the certificate of the peer {words}"))


@pytest.mark.parametrize("fault", ["expired", "foreign", "misnamed"])
def test_a_python_node_with_a_wrong_certificate_is_refused(tls, otp, fault):
    options = {
        "expired": {"expired": True},
        "foreign": {"authority": tls.foreign},
        "misnamed": {"hosts": ("plato.example",)},
    }[fault]
    beam, python = tls.beam("beam", otp=otp), tls.python("python", **options)

    if fault == "misnamed":  # OTP asks for the host of a node that it calls
        assert python.ping(beam.name)
        python.eval("node.disconnect(NAME)", NAME=beam.name)
        wait_until(lambda: beam.nodes() == set() and python.nodes() == set())
        assert not beam.ping(python.name)
    else:
        error = neither_connects(beam, python)
        assert "refused the TLS connection: our certificate" in error
    wait_until(lambda: python.logged("the peer refused the TLS connection: "))


def test_a_beam_without_a_certificate_is_refused(tls, otp):
    def anonymous(text):
        server, client = text.split("{client,")
        return server + "{client," + re.sub(r"\{(certfile|keyfile), [^}]*\},", "", client)

    beam, python = tls.beam("beam", otp=otp, options=anonymous), tls.python("python")

    assert not beam.ping(python.name)
    wait_until(lambda: python.logged("no TLS connection with the peer: it has no certificate"))


def test_a_beam_without_tls_is_refused(tls, otp):
    beam, python = tls.cluster.beam("beam", otp=otp), tls.python("python")

    error = neither_connects(beam, python)

    assert "does it use TLS" in error or "Does the other node use TLS" in error
    wait_until(lambda: python.logged("the peer does not speak TLS, and this node takes only TLS connections"))


def test_a_beam_with_tls_is_refused_by_a_node_without(tls, otp):
    beam, python = tls.beam("beam", otp=otp), tls.cluster.pynode("python")

    error = neither_connects(beam, python)

    if otp == 23:  # it closes so early that its alert may be lost
        assert error
    else:
        assert "the peer speaks TLS, and this node does not: start both with TLS, or neither" in error
    wait_until(lambda: python.logged("the peer speaks TLS, and this node does not"))


def test_an_allow_list_of_a_beam_asks_for_the_host_in_the_certificate(tls, otp):
    beam = tls.beam("beam", otp=otp)
    good, bad = tls.python("good"), tls.python("bad", hosts=("plato.example",))
    beam.eval("ok = net_kernel:allow(Names)", Names=[good.atom, bad.atom])

    assert good.ping(beam.name)
    assert not bad.ping(beam.name)
    assert "certificate" in bad.eval("node.last_connect_error(NAME)", NAME=beam.name)


@pytest.mark.parametrize("kinds", ["DNS", "IP"])
def test_an_address_may_be_either_kind_of_entry_in_the_certificate_of_a_beam(tls, otp, kinds):
    beam = tls.beam("beam", otp=otp, hosts=(f"{kinds}:{HOST}",))

    assert tls.python("python").ping(beam.name)


# Connections that last


ECHO = """
Loop = fun Loop() -> receive {From, Data} -> From ! {erlang:md5(Data), byte_size(Data), Data}, Loop() end end,
register(echo, spawn(Loop))
"""


def test_large_messages_arrive_in_both_directions(tls, otp):
    beam, python = tls.beam("beam", otp=otp), tls.python("python")
    beam.eval(ECHO)
    assert python.ping(beam.name)

    for size in (0, 1, 16_384, 1 << 20, 40 << 20):
        exchange = (
            f"data = os.urandom({size}); me.send(('echo', NAME), (me.pid, data)); "
            "answer = await me.receive(timeout=60)\n"
            "result = (answer[0] == hashlib.md5(data).digest(), answer[1], answer[2] == data)"
        )
        python.eval("import hashlib, os\n" + exchange, NAME=beam.name, timeout=60)
        assert python.eval("result") == (True, size, True)


COUNT_KEY_UPDATES = """
from collections import Counter
updates = Counter()

def count(connection, direction, version, content_type, message_type, data):
    updates[direction] += getattr(message_type, "name", "") == "KEY_UPDATE"

node.internals._config.tls._contexts.current().initiating._msg_callback = count
"""


def test_keys_are_updated_in_a_long_stream(tls, otp):
    """OTP makes new keys after each 100 KB, and asks the peer to do the same."""
    if otp == 23:
        pytest.skip("OTP 23 has no option for it")

    def updating(text):
        return text.replace("{verify, verify_peer}", "{key_update_at, 100000}, {verify, verify_peer}")

    beam = tls.beam("beam", otp=otp, options=updating)
    python = tls.python("python")
    beam.eval(ECHO)
    python.eval(COUNT_KEY_UPDATES)
    assert python.ping(beam.name)

    python.eval(
        "import os\ndata = os.urandom(200_000); same = 0\n"
        "for _ in range(100):\n"
        "    me.send(('echo', NAME), (me.pid, data))\n"
        "    same += (await me.receive(timeout=60))[2] == data",
        NAME=beam.name,
        timeout=60,
    )

    assert python.eval("same") == 100
    assert python.eval("updates['read'] > 10 and updates['write'] > 10")
    assert beam.nodes() == {python.name}


MANY = """
Self = self(),
Send = fun() -> [{sink, Node} ! N || N <- lists:seq(1, 50000)], Self ! sent end,
[spawn(Send) || _ <- [1, 2]], [receive sent -> ok end || _ <- [1, 2]], ok
"""


def test_many_short_messages_keep_their_order(tls, otp):
    beam, python = tls.beam("beam", otp=otp), tls.python("python")
    python.eval("numbers = []; node.spawn_handler(numbers.append, name='sink')")
    assert beam.ping(python.name)

    beam.eval(MANY, Node=python.atom, timeout=60)

    wait_until(lambda: python.eval("len(numbers)") == 100_000)
    assert python.eval("sorted(numbers) == sorted([*range(1, 50001)] * 2)")


BLOCK = """
import time
me.send(("sink", BEAM), bytes(8 << 20))
began = time.monotonic()
while time.monotonic() - began < SECONDS:
    sum(number * number for number in range(1000))
"""


def test_a_blocked_event_loop_stays_connected_for_three_tick_times(tls, otp):
    beam = tls.beam("beam", otp=otp, arguments=["-kernel", "net_ticktime", "4"])
    python, other = tls.python("python", net_ticktime=4), tls.python("other", net_ticktime=4)
    beam.eval("Me = self(), register(sink, spawn(fun() -> receive Big -> Me ! {got, byte_size(Big)} end end))")
    python.eval("received = []; node.spawn_handler(received.append, name='sink')")
    for node in (beam, other):
        assert node.ping(python.name)
    assert other.ping(beam.name)
    beam.eval("net_kernel:monitor_nodes(true)")

    with ThreadPoolExecutor() as threads:
        holding = threads.submit(python.eval, BLOCK, BEAM=beam.name, SECONDS=13, timeout=60)
        wait_until(lambda: other.eval("set(node.blocked_peers())") == {python.name})
        beam.eval("[{sink, Node} ! {N, binary:copy(<<1>>, 30000)} || N <- lists:seq(1, 300)], ok", Node=python.atom)
        assert not holding.done()  # no sender had to wait: the thread has received all
        holding.result()

    assert beam.eval("receive {got, Size} -> Size after 10000 -> late end") == 8 << 20
    assert beam.eval("receive {nodedown, Gone} -> Gone after 0 -> nobody end") == Atom("nobody")
    wait_until(lambda: python.eval("[number for number, _ in received]") == list(range(1, 301)))
    assert python.nodes() == {beam.name, other.name}
    assert not python.logged("no data from")
    wait_until(lambda: python.logged(f"{python.name}: the event loop has been blocked for"))


def test_a_mesh_of_two_beams_and_two_python_nodes_shares_groups_and_global_names(tls):
    beams = [tls.beam("first", otp=25), tls.beam("second", otp=27)]
    pythons = [tls.python("third"), tls.python("fourth")]
    everybody = [*beams, *pythons]
    members = [node.join(Atom("group")) for node in everybody]
    for node in everybody[1:]:
        assert node.ping(beams[0].name)
    for node in everybody:
        wait_until(lambda node=node: len(node.nodes()) == 3, what=f"a full mesh at {node.name}")
        wait_until(lambda node=node: len(node.members(Atom("group"))) == len(members))

    pythons[0].eval("await node.global_.register(Atom('leader'), me.pid)")

    for beam in beams:
        wait_until(lambda beam=beam: beam.eval("is_pid(global:whereis_name(leader))"))
    pythons[0].kill()
    for node in everybody:
        if node is not pythons[0]:
            wait_until(lambda node=node: len(node.members(Atom("group"))) == 3)
    wait_until(lambda: beams[1].eval("global:whereis_name(leader)") == Atom("undefined"))


EXCHANGE = """
Data = binary:copy(<<1>>, 20000),
Self = self(),
spawn_link(fun() -> [{echo, Node} ! {Self, {N, Data}} || N <- lists:seq(1, 2000)] end),
[receive {N, Data} -> ok after 20000 -> exit({late, N}) end || N <- lists:seq(1, 2000)],
ok
"""


@pytest.mark.parametrize("caller", ["beam", "python"])
def test_tls_1_2_is_renegotiated_in_a_long_stream(tls, otp, caller):
    """OTP does so after 2^28 records, and ends the connection if it is refused."""

    def often(text):
        text = text.replace("['tlsv1.3', 'tlsv1.2']", "['tlsv1.2']")
        return text.replace("{verify, verify_peer}", "{renegotiate_at, 200}, {verify, verify_peer}")

    beam, python = tls.beam("beam", otp=otp, options=often), tls.python("python")
    python.eval("echo = node.spawn_handler(lambda message: node.send(*message), name='echo')")
    assert beam.ping(python.name) if caller == "beam" else python.ping(beam.name)
    beam.eval("net_kernel:monitor_nodes(true)")

    assert beam.eval(EXCHANGE, Node=python.atom, timeout=60) == Atom("ok")

    assert beam.eval("receive {nodedown, Gone} -> Gone after 0 -> nobody end") == Atom("nobody")
