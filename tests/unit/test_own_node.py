"""Calls, spawns and exits within one node: their arguments and results are those of another node."""

import pytest
from test_server_restarts import with_nodes

from erlmesh.errors import CalleeExited, EncodeError, Exit, RemoteError, RemoteExit, Throw
from erlmesh.terms import Atom, Map, Pid
from erlmesh.testing.loop import run_iterations

EXIT, DOWN, X = map(Atom, ("EXIT", "DOWN", "x"))
NESTED = ["text", ("text", {"key": ["text"], 1: bytearray(b"raw")}), Atom("atom"), 1, 1.5, True]
RECEIVED = [b"text", (b"text", Map({b"key": [b"text"], 1: b"raw"})), Atom("atom"), 1, 1.5, True]


def expose(*nodes, **functions):
    for node in nodes:
        for name, function in functions.items():
            node.expose(function, as_="m", name=name)


@with_nodes("a@h", "b@h")
async def test_a_call_to_the_own_node_has_the_arguments_and_the_result_of_a_call_to_another(a, b):
    calls = []

    def change(numbers, given):
        calls.append((list(numbers), given))
        numbers.append(2)
        return {"numbers": numbers}

    expose(a, b, change=change)
    mine = [1]

    results = [await a.rpc(peer, "m", "change", [mine, NESTED]) for peer in ("a@h", "b@h")]

    assert calls == [([1], RECEIVED)] * 2
    assert results == [Map({b"numbers": [1, 2]})] * 2
    assert mine == [1]
    assert [type(given[1][1]) for _, given in calls] == [Map, Map]


@with_nodes("a@h", "b@h")
async def test_the_result_of_a_function_is_not_shared_with_its_caller(a, b):
    kept = [1]
    expose(a, b, get=lambda: kept)

    for peer in ("a@h", "b@h"):
        (await a.rpc(peer, "m", "get")).append(2)

    assert kept == [1]


@with_nodes("a@h", "b@h")
async def test_a_multicall_has_values_of_one_kind(a, b):
    expose(a, b, echo=lambda given: given)

    replies = (await a.rpc.multicall(["a@h", "b@h"], "m", "echo", [NESTED])).replies

    assert list(replies.values()) == [RECEIVED, RECEIVED]


@with_nodes("a@h", "b@h")
async def test_a_cast_has_the_arguments_of_a_cast_to_another_node(a, b):
    calls = []
    expose(a, b, note=calls.append)
    for peer in ("a@h", "b@h"):
        a.rpc.cast(peer, "m", "note", [NESTED])
    await run_iterations()

    assert calls == [RECEIVED, RECEIVED]


@with_nodes("a@h", "b@h")
async def test_what_a_function_raises_is_the_same_from_both_nodes(a, b):
    def leave(kind):
        raise {1: Exit({"why": "text"}), 2: Throw("text"), 3: ValueError("text")}[kind]

    expose(a, b, leave=leave)
    seen = []
    for peer in ("a@h", "b@h"):
        for kind in (1, 2, 3):
            try:
                await a.rpc(peer, "m", "leave", [kind])
            except (RemoteExit, RemoteError) as error:
                seen.append((type(error), error.reason))
            except Exception as error:
                seen.append((type(error), error.value))

    assert seen[:3] == seen[3:]
    assert seen[0] == (RemoteExit, Map({b"why": b"text"}))


@with_nodes("a@h")
async def test_an_argument_that_is_not_a_term_raises_on_the_own_node_too(a):
    expose(a, echo=lambda given: given)

    with pytest.raises(EncodeError):
        await a.rpc("a@h", "m", "echo", [object()])
    with pytest.raises(EncodeError):
        a.rpc.cast("a@h", "m", "echo", [object()])
    assert len(a.internals._instance.router.spawn_client) == 0


@with_nodes("a@h", "b@h")
async def test_a_process_started_by_spawn_remote_has_the_same_arguments_everywhere(a, b):
    calls = []
    expose(a, b, body=calls.append)

    for peer in ("a@h", "b@h"):
        await a.spawn_remote(peer, "m", "body", [NESTED])
    await run_iterations()

    assert calls == [RECEIVED, RECEIVED]


@pytest.mark.parametrize("leave", ["exit", "raise", "signal"])
def test_monitors_and_links_have_the_same_reason_on_all_nodes(leave):
    @with_nodes("a@h", "b@h")
    async def run_test(a, b):
        reason = {"why": ["text"]}

        async def body(me):
            await me.receive()
            raise Exit(reason) if leave == "exit" else ValueError("text")

        target = a.spawn(body)
        seen = [watch(node, target) for node in (a, b)]
        await run_iterations()
        if leave == "signal":
            a.exit(target, reason)
        else:
            a.send(target, 1)
        await run_iterations()

        ours, theirs = ([(message[0], message[-1]) for message in messages] for messages in seen)
        assert ours == theirs
        assert [kind for kind, _ in ours] == [EXIT, DOWN]
        expected = Map({b"why": [b"text"]})
        assert leave == "raise" or ours[0][1] == expected
        assert leave != "raise" or ours[0][1][0] == (Atom("ValueError"), b"text")
        reason["why"].append("later")
        assert leave == "raise" or ours[0][1] == expected

    run_test()


def watch(node, target: Pid):
    """The messages of a process that monitors ``target`` and is linked to it."""
    seen = []
    watcher = node.internals.spawn_handler(seen.append)
    watcher.trap_exit = True
    watcher.monitor(target)
    watcher.link(target)
    return seen


@with_nodes("a@h", "b@h")
async def test_a_call_that_the_callee_does_not_survive_has_the_same_reason_from_both_nodes(a, b):
    async def body(me):
        await me.receive()
        raise Exit(("text", {"key": "text"}))

    reasons = []
    for node in (a, b):
        with pytest.raises(CalleeExited) as raised:
            await node.call(a.spawn(body), X)
        reasons.append(raised.value.reason)

    assert reasons == [(b"text", Map({b"key": b"text"}))] * 2


@with_nodes("a@h", "b@h")
async def test_the_members_of_a_group_get_and_give_values_of_one_kind(a, b):
    requests = []

    async def body(me):
        _, caller, request = await me.receive()
        requests.append(request)
        me.reply(caller, NESTED)

    for node in (a, b):
        node.pg.join("group", node.spawn(body))
    await run_iterations()

    result = await a.pg.multi_call("group", NESTED)

    assert list(result.replies.values()) == [RECEIVED, RECEIVED]
    assert requests == [RECEIVED, RECEIVED]
