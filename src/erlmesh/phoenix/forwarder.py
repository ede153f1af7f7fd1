"""The process on an Elixir node that subscribes for a guest and forwards what it gets.

Nothing is installed there. ``erl_scan`` and ``erl_parse`` of that node make forms of the text below, and a process
there evaluates them with ``erl_eval:exprs/2``. It ends when the process of the guest ends, or its node is lost. It
sends to the guest, with the reference of the subscription::

    {Ref, subscribed, Pid}   it gets messages from now on; Pid is its own
    {Ref, failed, Reason}    it could not subscribe, and ends
    {Ref, message, Message}
    {Ref, dropped, Count}    the connection was full, and so many messages were too many to keep

It never waits for a full connection. While one is full, it keeps ``Limit`` messages. So a guest that does not read
suspends no process there and takes no memory without limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from erlmesh.core.phoenix_pubsub.names import PLAIN_DISPATCHER
from erlmesh.errors import CallError, PubSubError
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import foreign_text

if TYPE_CHECKING:
    from erlmesh.node import Node
    from erlmesh.runtime.process import LocalProcess

__all__ = ["UNSUBSCRIBE", "failure", "parse_forwarder", "start_forwarder"]

UNSUBSCRIBE: Final = Atom("unsubscribe")
SOURCE: Final = """
    Monitor = erlang:monitor(process, Owner),
    Send = fun Send(Message) ->
        case erlang:send(Owner, Message, [noconnect, nosuspend]) of
            nosuspend ->
                case erlang:process_info(self(), message_queue_len) of
                    {_, Length} when Length >= Limit -> full;
                    _ -> receive {Ref, unsubscribe} -> exit(normal) after 20 -> Send(Message) end
                end;
            _ -> sent
        end
    end,
    Report = fun
        (0) -> 0;
        (Count) -> case Send({Ref, dropped, Count}) of sent -> 0; full -> Count end
    end,
    Forward = fun Forward(Dropped) ->
        receive
            {'DOWN', Monitor, process, _, _} -> ok;
            {Ref, unsubscribe} -> ok;
            Message ->
                case Report(Dropped) of
                    0 ->
                        case Send({Ref, message, Message}) of
                            sent -> Forward(0);
                            full -> Forward(1)
                        end;
                    Count -> Forward(Count + 1)
                end
        end
    end,
    try PubSub:subscribe(Name, Topic) of
        ok -> Owner ! {Ref, subscribed, self()}, Forward(0);
        {error, Why} -> Owner ! {Ref, failed, Why}
    catch
        _:Reason -> Owner ! {Ref, failed, Reason}
    end.
"""


async def parse_forwarder(node: Node, peer: Atom) -> Term:
    """Return the forms of the forwarder, made by ``peer``: they differ between releases of OTP.

    Raises CallError, and PubSubError if the node makes none.
    """
    scanned = await node.rpc(peer, "erl_scan", "string", [[*SOURCE.encode()]])
    match scanned:
        case (Atom("ok"), list() as tokens, _):
            parsed = await node.rpc(peer, "erl_parse", "parse_exprs", [tokens])
            match parsed:
                case (Atom("ok"), list() as forms):
                    return forms
    raise PubSubError(f"{peer.name} does not read Erlang: is it an Elixir node?")


async def start_forwarder(
    owner: LocalProcess, peer: Atom, forms: Term, *, pubsub: Atom, topic: bytes, ref: Ref, limit: int
) -> tuple[Pid, Ref]:
    """Start a forwarder to ``owner``. Return its pid and the monitor of it. Raises CallError."""
    bindings = [
        (Atom("Limit"), limit),
        (Atom("Name"), pubsub),
        (Atom("Owner"), owner.pid),
        (Atom("PubSub"), PLAIN_DISPATCHER),
        (Atom("Ref"), ref),
        (Atom("Topic"), topic),
    ]  # Sorted: a list of bindings is an orddict.
    return await owner._ops.spawn_remote(
        owner, peer, (Atom("erl_eval"), Atom("exprs"), [forms, bindings]), [Atom("monitor")]
    )


def failure(peer: Atom, pubsub: Atom, reason: Term) -> PubSubError:
    """Say in words why a node could not subscribe or broadcast."""
    shown = pubsub.name.removeprefix("Elixir.")
    if isinstance(reason, CallError):
        return PubSubError(f"{peer.name} cannot be used for the PubSub {shown}: {reason}")
    if isinstance(reason, TimeoutError):
        return PubSubError(f"{peer.name} did not answer in time")
    if reason is Atom("noconnection"):
        return PubSubError(f"{peer.name} was lost")
    if reason is Atom("undef"):
        return PubSubError(f"{peer.name} has no Phoenix.PubSub: is it a node of the Phoenix application?")
    return PubSubError(f"{peer.name} has no PubSub {shown}, or it does not run: {foreign_text(reason)}")
