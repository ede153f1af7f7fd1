"""Discovery by gossip beside a UDP socket of a BEAM that sends and reads heartbeats as libcluster does."""

from __future__ import annotations

import pytest

from erlmesh.terms import Atom
from polling import wait_until

pytestmark = [pytest.mark.timeout(120), pytest.mark.otps(25, 29)]
BEAM = """
    {ok, _} = application:ensure_all_started(crypto),
    Group = {239, 9, 9, 9}, Loopback = {127, 0, 0, 1},
    Open = fun(Port) ->
        {ok, Socket} = gen_udp:open(Port, [
            binary, {active, true}, {ip, {0, 0, 0, 0}}, {reuseaddr, true}, {broadcast, true},
            {multicast_ttl, 1}, {multicast_loop, true}, {multicast_if, Loopback}, {add_membership, {Group, Loopback}}]),
        Socket
    end,
    Key = fun(Secret) -> crypto:hash(sha256, Secret) end,
    Crypt = fun(Secret, Iv, Text, Encrypt) -> crypto:crypto_one_time(aes_256_cbc, Key(Secret), Iv, Text, Encrypt) end,
    Heartbeat = fun(Name) -> <<"heartbeat::", (term_to_binary(#{node => Name}))/binary>> end,
    Encrypted = fun(Secret, Name) ->
        Text = Heartbeat(Name), Missing = 16 - byte_size(Text) rem 16, Iv = crypto:strong_rand_bytes(16),
        <<Iv/binary, (Crypt(Secret, Iv, <<Text/binary, (binary:copy(<<Missing>>, Missing))/binary>>, true))/binary>>
    end,
    Hear = fun Hear(Secret) -> receive
        {udp, _, _, _, <<"heartbeat::", Term/binary>>} when Secret == none -> binary_to_term(Term);
        {udp, _, _, _, <<Iv:16/binary, Rest/binary>>} when Secret =/= none ->
            Padded = Crypt(Secret, Iv, Rest, false),
            <<"heartbeat::", Term/binary>> = binary:part(Padded, 0, byte_size(Padded) - binary:last(Padded)),
            binary_to_term(Term);
        {udp, _, _, _, _} -> Hear(Secret)
    after 10000 -> nothing end end
"""
PYTHON = """
from erlmesh.discovery.discovery import Discovery
from erlmesh.discovery.lookup import Lookup
from erlmesh.discovery.sources import parse_sources
"""


@pytest.mark.parametrize("secret", [None, b"somepassword"], ids=["plain", "secret"])
def test_a_python_node_and_a_beam_find_each_other_by_gossip(cluster, otp, tmp_path, secret):
    port = cluster.epmd_port  # nothing else on this machine uses that number
    beam, python = cluster.beam("plato", otp=otp), cluster.pynode("socrates")
    beam.eval(BEAM)
    beam.eval("Socket = Open(Port), ok", Port=port)
    source = f"gossip:239.9.9.9,port={port},interface=127.0.0.1"
    if secret is not None:
        (tmp_path / "secret").write_bytes(secret + b"\n")
        source += f",secret-file={tmp_path / 'secret'}"
    python.eval(PYTHON)
    python.eval(
        "discovery = await Discovery(node, Lookup(parse_sources([SOURCE]), epmd_port=1)).__aenter__()", SOURCE=source
    )

    heard = beam.eval("Hear(Secret)", Secret=Atom("none") if secret is None else secret)

    assert dict(heard) == {Atom("node"): python.atom}
    assert python.nodes() == set()
    beam.eval('ok = gen_udp:send(Socket, Group, Port, <<"heartbeat::", 131, 0>>)', Port=port)
    datagram = "Heartbeat(node())" if secret is None else "Encrypted(Secret, node())"
    beam.eval(f"ok = gen_udp:send(Socket, Group, Port, {datagram})", Port=port, Secret=secret or b"")
    wait_until(lambda: python.nodes() == {beam.name})
    assert python.eval("discovery.found") == [beam.name]
