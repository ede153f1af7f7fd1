"""Every exception erlmesh raises, in one tree::

    ErlmeshError
    ├── CodecError
    │   ├── EncodeError          this value is no Erlang term                     (also a ValueError)
    │   └── DecodeError          these bytes are no Erlang term; has an offset    (also a ValueError)
    ├── ProtocolError
    │   ├── LocalProtocolError   we were about to break the protocol
    │   └── RemoteProtocolError  the peer did; it travels as the last event, not up a user's stack
    ├── NodeStartError           the node cannot start: name taken, port taken, bad name, no cookie
    ├── ConnectError             a connection could not be made; says which step failed and what to do
    │   ├── HandshakeRefused     the peer said no
    │   └── PeerSilent           nothing usable arrived in time
    ├── NodeNotAlive             the node was never started, or has stopped
    ├── CallError                a call got no answer
    │   ├── NoProcess            there is no such process or name there
    │   ├── NoConnection         the node cannot be reached, or was lost during the call
    │   ├── CallTimeout          no answer in time                                (also a TimeoutError)
    │   ├── CalleeExited         the process died instead of answering; has its reason
    │   ├── RemoteThrow          the function called there threw; has the value
    │   ├── RemoteExit           it exited; has the reason
    │   └── RemoteError          it failed; has the reason and Erlang's stack
    ├── GroupError               pg2 says no; has OTP's reason, a term
    │   ├── NoSuchGroup          nobody has created it, or it was deleted
    │   └── EmptyGroup           it has no members to choose from
    ├── Exit                     raised by a process or an exposed function: exit(Reason)
    ├── Throw                    raised by an exposed function: throw(Value)
    └── ErlangError              raised by an exposed function: error(Reason)
        └── Undef                there is no such function that other nodes may call

Expected absence is a value, not an error: ``whereis`` gives ``None``, ``ping`` gives ``False``.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "CallError",
    "CallTimeout",
    "CalleeExited",
    "CodecError",
    "ConnectError",
    "DecodeError",
    "EmptyGroup",
    "EncodeError",
    "ErlangError",
    "ErlmeshError",
    "Exit",
    "GroupError",
    "HandshakeRefused",
    "HandshakeTimeout",
    "LocalProtocolError",
    "NoConnection",
    "NoProcess",
    "NoSuchGroup",
    "NodeNotAlive",
    "NodeStartError",
    "ProtocolError",
    "RemoteError",
    "RemoteExit",
    "RemoteProtocolError",
    "RemoteThrow",
    "Throw",
    "Undef",
]


class ErlmeshError(Exception):
    """Base of all."""


class CodecError(ErlmeshError, ValueError):
    """A value or its bytes cannot be translated."""


class EncodeError(CodecError):
    """This value is no Erlang term; the message names the value and what to use instead."""


class DecodeError(CodecError):
    """These bytes are no Erlang term. ``offset`` is the position of the tag (or byte) at fault."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} (at byte {offset})")
        self.message = message
        self.offset = offset


class ProtocolError(ErlmeshError):
    """The distribution protocol was broken."""


class LocalProtocolError(ProtocolError):
    """We were asked to do what the protocol forbids."""


class RemoteProtocolError(ProtocolError):
    """The peer did what the protocol forbids."""


class NodeStartError(ErlmeshError):
    """The node cannot start; the message says why and what to do."""


class ConnectError(ErlmeshError):
    """A connection could not be made; the message says which step failed, what it means and what to do."""


class HandshakeRefused(ConnectError):
    """The peer refused the handshake."""


class HandshakeTimeout(ConnectError):
    """Nothing usable arrived within the time allowed."""


class NodeNotAlive(ErlmeshError):
    """The node is not running."""


class CallError(ErlmeshError):
    """A call got no answer."""


class NoProcess(CallError):
    """No such process or registered name (``noproc``)."""


class NoConnection(CallError):
    """The node cannot be reached or was lost during the call (``noconnection``)."""


class CallTimeout(CallError, TimeoutError):
    """No answer within the timeout. A late answer is dropped."""


class CalleeExited(CallError):
    """The called process died before it answered; ``reason`` is the exit reason, a term."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason


class RemoteThrow(CallError):
    """The function called on another node threw ``value``, a term."""

    def __init__(self, message: str, value: Any) -> None:
        super().__init__(message)
        self.value = value


class RemoteExit(CallError):
    """The function called on another node exited with ``reason``, a term."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason


class RemoteError(CallError):
    """The function called on another node failed with ``reason``, a term.

    ``stack`` is Erlang's: ``[(module, function, arity_or_arguments, info)]``, the innermost call first.
    """

    def __init__(self, message: str, reason: Any, stack: list[Any]) -> None:
        super().__init__(message)
        self.reason = reason
        self.stack = stack


class GroupError(ErlmeshError):
    """pg2 says no. ``reason`` is what OTP gives in ``{error, Reason}``, such as ``{no_such_group, Name}``."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason


class NoSuchGroup(GroupError):
    """No group of this name has been created, or it was deleted (``{no_such_group, Name}``)."""


class EmptyGroup(GroupError):
    """The group has no members (``{no_process, Name}``)."""


class Exit(ErlmeshError):
    """Raised inside a process body or an exposed function: ends it with ``reason`` (a term), as ``exit(Reason)``."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason


class Throw(ErlmeshError):
    """Raised inside an exposed function: the caller catches ``value`` (a term), as of ``throw(Value)``."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


class ErlangError(ErlmeshError):
    """Raised inside an exposed function: fails with ``reason`` (a term), as ``error(Reason)`` does.

    ``stack`` is what the caller is shown, in Erlang's form ``[(module, function, arity_or_arguments, info)]``; without
    one it is made of Python's frames.
    """

    def __init__(self, reason: Any, stack: list[Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stack = stack


class Undef(ErlangError):
    """There is no such function that other nodes may call. ``reason`` and ``stack`` are Erlang's own for that."""

    def __init__(self, reason: Any, stack: list[Any], function: str) -> None:
        super().__init__(reason, stack)
        self.function = function

    def __str__(self) -> str:
        return f"{self.function} is not exposed on this node"
