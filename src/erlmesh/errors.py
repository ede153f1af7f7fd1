"""All exceptions that erlmesh raises, in one tree::

    ErlmeshError
    ├── CodecError
    │   ├── EncodeError          a value is not an Erlang term                       (also a ValueError)
    │   └── DecodeError          bytes are not a valid Erlang term; has an offset    (also a ValueError)
    ├── ProtocolError
    │   ├── LocalProtocolError   a local request would violate the protocol
    │   └── RemoteProtocolError  the peer violated the protocol; it closes the connection and is not raised to users
    ├── NodeStartError           the node cannot start: name taken, port taken, bad name, no cookie
    ├── CertificateError         a certificate or a key cannot be made or read; says what to do
    ├── ConnectError             no connection could be made; says which step failed and what to do
    │   ├── HandshakeRefused     one of the two nodes refused the connection
    │   └── HandshakeTimeout     the handshake did not complete in time
    ├── ProcessStartError        a GenServer or Supervisor did not start; has the reason, a term
    ├── NodeNotAlive             the node was never started, or has stopped
    ├── CallError                a call got no result
    │   ├── NoProcess            the called process or registered name does not exist
    │   ├── NoConnection         the node cannot be reached, or the connection was lost during the call
    │   ├── CallTimeout          no reply in time                                    (also a TimeoutError)
    │   ├── CalleeExited         the called process exited before it replied; has its exit reason
    │   ├── ServingError         a serving has refused an input, or its function has failed; has the reason
    │   ├── RemoteThrow          the called function threw a value; has the value
    │   ├── RemoteExit           the called function exited; has the reason
    │   └── RemoteError          the called function failed; has the reason and Erlang's stack
    ├── GroupError               a pg2 operation failed; has OTP's reason, a term
    │   ├── NoSuchGroup          the group was never created, or it was deleted
    │   └── EmptyGroup           the group has no member to choose
    ├── PubSubError              a Phoenix.PubSub cannot do what it is asked for; says why and what to do
    │   ├── PubSubNotReady       no other node with this PubSub is known
    │   └── SubscriptionOverflow more messages waited for a subscriber than its limit allows
    ├── TrackerError             a Phoenix.Tracker cannot do what it is asked for; says why and what to do
    ├── Full                     an outbox keeps as many messages for a holder as its credit allows
    ├── OutboxClosed             an outbox has ended, or its node has
    ├── Exit                     raised by a process or an exposed function: exit(Reason)
    ├── Throw                    raised by an exposed function: throw(Value)
    └── ErlangError              raised by an exposed function: error(Reason)
        └── Undef                the function does not exist, or is not exposed to other nodes

An expected absence is a value, not an error: ``whereis`` returns ``None``, ``ping`` returns ``False``.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "CallError",
    "CallTimeout",
    "CalleeExited",
    "CertificateError",
    "CodecError",
    "ConnectError",
    "DecodeError",
    "EmptyGroup",
    "EncodeError",
    "ErlangError",
    "ErlmeshError",
    "Exit",
    "Full",
    "GroupError",
    "HandshakeRefused",
    "HandshakeTimeout",
    "LocalProtocolError",
    "NoConnection",
    "NoProcess",
    "NoSuchGroup",
    "NodeNotAlive",
    "NodeStartError",
    "OutboxClosed",
    "ProcessStartError",
    "ProtocolError",
    "PubSubError",
    "PubSubNotReady",
    "RemoteError",
    "RemoteExit",
    "RemoteProtocolError",
    "RemoteThrow",
    "ServingError",
    "SubscriptionOverflow",
    "Throw",
    "TrackerError",
    "Undef",
]


class ErlmeshError(Exception):
    """Base class of all errors in this module."""


class CodecError(ErlmeshError, ValueError):
    """A value cannot be encoded, or bytes cannot be decoded."""


class EncodeError(CodecError):
    """A value is not an Erlang term. The message names the value and what to use instead."""


class DecodeError(CodecError):
    """The bytes are not a valid Erlang term. ``offset`` is the position of the tag or byte at fault."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} (at byte {offset})")
        self.message = message
        self.offset = offset


class ProtocolError(ErlmeshError):
    """The distribution protocol was violated."""


class LocalProtocolError(ProtocolError):
    """The caller asked for something that the protocol, or the peer's capabilities, do not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer violated the protocol."""


class NodeStartError(ErlmeshError):
    """The node cannot start. The message says why and what to do."""


class CertificateError(ErlmeshError):
    """A certificate or a key cannot be made or read. The message says why and what to do."""


class ConnectError(ErlmeshError):
    """No connection could be made. The message says which step failed, what it means and what to do."""


class HandshakeRefused(ConnectError):
    """One of the two nodes refused the connection during the handshake."""


class HandshakeTimeout(ConnectError):
    """The peer did not complete the handshake within the time allowed."""


class NodeNotAlive(ErlmeshError):
    """The node is not running."""


class CallError(ErlmeshError):
    """A call got no result."""


class NoProcess(CallError):
    """The called process or registered name does not exist (``noproc``)."""


class NoConnection(CallError):
    """The node cannot be reached, or the connection was lost during the call (``noconnection``)."""


class CallTimeout(CallError, TimeoutError):
    """No reply arrived within the timeout. A late reply is dropped."""


class ServingError(CallError):
    """A serving has refused an input, or its function has failed.

    ``reason`` is a term: ``overloaded``, ``timeout``, or what the exception of the function means.
    """

    def __init__(self, serving: Any, reason: Any) -> None:
        super().__init__(f"the serving {serving} has not answered: {_reason_text(reason)}")
        self.reason = reason


class CalleeExited(CallError):
    """The called process exited before it replied. ``reason`` is its exit reason, a term."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason


class RemoteThrow(CallError):
    """A function called on another node threw ``value``, a term."""

    def __init__(self, message: str, value: Any) -> None:
        super().__init__(message)
        self.value = value


class RemoteExit(CallError):
    """A function called on another node exited with ``reason``, a term."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason


class RemoteError(CallError):
    """A function called on another node failed with ``reason``, a term.

    ``stack`` is Erlang's stack trace: ``[(module, function, arity_or_arguments, info)]``, innermost call first.
    """

    def __init__(self, message: str, reason: Any, stack: list[Any]) -> None:
        super().__init__(message)
        self.reason = reason
        self.stack = stack


class ProcessStartError(ErlmeshError):
    """``init`` of a server failed. ``reason`` is that of OTP's ``{error, Reason}``, as ``{already_started, Pid}``."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason


class GroupError(ErlmeshError):
    """A pg2 operation failed. ``reason`` is OTP's term from ``{error, Reason}``, such as ``{no_such_group, Name}``."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason


class NoSuchGroup(GroupError):
    """The group was never created, or it was deleted (``{no_such_group, Name}``)."""


class EmptyGroup(GroupError):
    """The group has no members (``{no_process, Name}``)."""


class PubSubError(ErlmeshError):
    """A Phoenix.PubSub cannot do what it is asked for. The message says why and what to do."""


class PubSubNotReady(PubSubError):
    """No other node with this PubSub is known, so a broadcast would be lost."""


class SubscriptionOverflow(PubSubError):
    """More messages waited for a subscriber than its limit allows, so the subscription has ended."""


class TrackerError(ErlmeshError):
    """A Phoenix.Tracker cannot do what it is asked for. The message says why and what to do."""


class Full(ErlmeshError):
    """An outbox keeps as many messages for a holder as its credit allows, and the caller does not want to wait."""


class OutboxClosed(ErlmeshError):
    """An outbox has ended, or its node has."""


class Exit(ErlmeshError):
    """Raise it in a process body or an exposed function to exit with ``reason``, a term, as ``exit(Reason)`` does."""

    def __init__(self, reason: Any) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return _reason_text(self.reason)


class Throw(ErlmeshError):
    """Raise it in an exposed function to throw ``value``, a term, to the caller, as ``throw(Value)`` does."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


class ErlangError(ErlmeshError):
    """Raise it in an exposed function to fail with ``reason``, a term, as ``error(Reason)`` does.

    ``stack`` is the stack trace that the caller gets, ``[(module, function, arity_or_arguments, info)]``. If it is
    None, it is built from Python's frames.
    """

    def __init__(self, reason: Any, stack: list[Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.stack = stack

    def __str__(self) -> str:
        return _reason_text(self.reason)


def _reason_text(reason: Any) -> str:
    from erlmesh.terms.exit_text import format_reason  # noqa: PLC0415 - the terms import this module

    return format_reason(reason)


class Undef(ErlangError):
    """The function does not exist or is not exposed. ``reason`` and ``stack`` are those of Erlang's ``undef`` error."""

    def __init__(self, reason: Any, stack: list[Any], function: str) -> None:
        super().__init__(reason, stack)
        self.function = function

    def __str__(self) -> str:
        return f"{self.function} is not exposed on this node"
