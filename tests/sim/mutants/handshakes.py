"""The handshake: who is let in, and what the two agree on."""

from mutants.mutation import Mutant

HANDSHAKE = "erlmesh.proto.handshake:"

MUTANTS = [
    Mutant(
        HANDSHAKE + "answer",
        "who calls need not know the cookie",
        "if not hmac.compare_digest(proof, digest(cookie, ours)):",
        "if False:",
    ),
    Mutant(
        HANDSHAKE + "_be_welcomed",
        "who is told that the other calls, too, goes on nevertheless",
        'raise CallMeNot(f"{name} is calling us at the same time, and its call goes first")',
        "return False",
    ),
    Mutant(
        HANDSHAKE + "_be_welcomed",
        "who is thought to be connected already always insists",
        "wanted = still_wanted()",
        "wanted = True",
    ),
    Mutant(
        HANDSHAKE + "_welcome",
        "who said that our call goes first is let in nevertheless",
        'raise CallMeNot(f"Connection attempt from node {name} rejected: our own call to it goes first")',
        "return",
    ),
    Mutant(
        HANDSHAKE + "answer",
        "a life of a peer is taken for its first",
        "return Met(name, me.flags & theirs, theirs, creation)",
        "return Met(name, me.flags & theirs, theirs, 4)",
    ),
]
