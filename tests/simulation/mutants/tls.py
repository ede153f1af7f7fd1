"""Mutants of TLS: a wrong peer is let in, or records are torn."""

from simulation.mutants.mutation import Mutant

MUTANTS = [
    Mutant(
        "erlmesh.net.tls_socket:TlsSharedSocket._push",
        "the rest of a record that was written in part is lost (TLS)",
        'memoryview(self._ciphertext)[sent:] if sent < len(self._ciphertext) else b""',
        'b"" if sent else self._ciphertext',
    ),
    Mutant(
        "erlmesh.net.tls_socket:TlsSharedSocket.write_from_thread",
        "a tick is kept although the socket is full (TLS)",
        "if not _is_writable(self.fd):",
        "if False:",
    ),
    Mutant(
        "erlmesh.net.tls_socket:TlsSharedSocket.write_from_thread",
        "the thread does not write what waits (TLS)",
        "self._count_external(0, self._write_waiting())",
        "pass",
    ),
    Mutant(
        "erlmesh.net.tls_session:TlsSession.receive",
        "a peer without TLS is not recognized (TLS)",
        "data[0] not in _RECORD_TYPES",
        "False",
    ),
    Mutant(
        "erlmesh.net.tls_session:TlsSession._read",
        "the rest of a read is forgotten after its first record (TLS)",
        "if not self._incoming.pending:",
        "if True:",
    ),
    Mutant(
        "erlmesh.net.tls_contexts:TlsContexts._make_pair",
        "a caller needs no certificate (TLS)",
        "context.verify_mode = ssl.CERT_REQUIRED",
        "context.verify_mode = ssl.CERT_OPTIONAL",
    ),
    Mutant(
        "erlmesh.net.tls_contexts:TlsContexts.current",
        "new files are not used (TLS)",
        "signature != self._signature",
        "False",
    ),
    Mutant(
        "erlmesh.net.tls_protocol:TlsProtocol._refusal",
        "the host of a called node is not checked (TLS)",
        "fits_host(certificate, self._host)",
        "True",
    ),
    Mutant(
        "erlmesh.net.tls_protocol:TlsConnections.refusal",
        "an allow-list does not check the host of a caller (TLS)",
        "is_restricted or self.config.verify_caller_host",
        "self.config.verify_caller_host",
    ),
    Mutant(
        "erlmesh.core.certificate_hosts:_matches",
        "a star in a certificate stands for several labels (TLS)",
        "entry[2:] == rest",
        "rest.endswith(entry[2:])",
    ),
]
