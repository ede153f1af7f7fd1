"""The targets of the coverage-guided fuzzer. Each is a function of bytes that raises AssertionError for a fault.

Every target checks one door through which bytes of others come in. All share these properties: any bytes give events or
the documented error; how the bytes are cut makes no difference; what is written comes back; both builds do the same.
"""

from fuzz.targets import channel, decoder, epmd, handshake, services

TARGETS = {
    "decoder": decoder.run,
    "handshake": handshake.run,
    "channel": channel.run,
    "epmd": epmd.run,
    "services": services.run,
}
