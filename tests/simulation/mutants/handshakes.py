"""Mutants of the handshake: authentication, and the values that both sides agree on."""

from simulation.mutants.mutation import Mutant

HANDSHAKE = "erlmesh.proto.handshake:"

MUTANTS = [
    Mutant(
        HANDSHAKE + "accept",
        "an initiator without the cookie is accepted",
        "if not is_digest(proof, cookie, our_challenge):",
        "if False:",
    ),
    Mutant(
        HANDSHAKE + "_receive_status",
        "an initiator continues after nok",
        'raise SimultaneousConnect(f"{name} is connecting to us at the same time, and its attempt goes on")',
        "return False",
    ),
    Mutant(
        HANDSHAKE + "_receive_status",
        "an initiator always insists when the acceptor answers alive",
        "replaces = keep_attempt()",
        "replaces = True",
    ),
    Mutant(
        HANDSHAKE + "_enforce_status",
        "an initiator that got ok_simultaneous for its own attempt is accepted",
        'raise SimultaneousConnect(f"Connection attempt from node {name} rejected: our own attempt goes on")',
        "return",
    ),
    Mutant(
        HANDSHAKE + "accept",
        "each incarnation of a peer is taken for the first one",
        "return HandshakeCompleted(name, flags & peer_flags, peer_flags, creation)",
        "return HandshakeCompleted(name, flags & peer_flags, peer_flags, 4)",
    ),
]
