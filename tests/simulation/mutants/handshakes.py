"""The handshake: who is let in, and what the two agree on."""

from simulation.mutants.mutation import Mutant

HANDSHAKE = "erlmesh.proto.handshake:"

MUTANTS = [
    Mutant(
        HANDSHAKE + "accept",
        "who calls need not know the cookie",
        "if not hmac.compare_digest(proof, digest(cookie, ours)):",
        "if False:",
    ),
    Mutant(
        HANDSHAKE + "_receive_status",
        "who is told that the other calls, too, goes on nevertheless",
        'raise SimultaneousConnect(f"{name} is calling us at the same time, and its call goes first")',
        "return False",
    ),
    Mutant(
        HANDSHAKE + "_receive_status",
        "who is thought to be connected already always insists",
        "wanted = keep_attempt()",
        "wanted = True",
    ),
    Mutant(
        HANDSHAKE + "_enforce_status",
        "who said that our call goes first is let in nevertheless",
        'raise SimultaneousConnect(f"Connection attempt from node {name} rejected: our own call to it goes first")',
        "return",
    ),
    Mutant(
        HANDSHAKE + "accept",
        "a life of a peer is taken for its first",
        "return HandshakeCompleted(name, local.flags & theirs, theirs, creation)",
        "return HandshakeCompleted(name, local.flags & theirs, theirs, 4)",
    ),
]
