"""What a node answers to the tools of Erlang and Elixir that show it. Simulated nodes ask each other."""

import asyncio
import functools
import inspect

import pytest

from erlmesh import GenServer
from erlmesh.errors import RemoteError
from erlmesh.services.node_services import OBSERVED_MODULES
from erlmesh.services.observing import process_table
from erlmesh.services.observing.live_dashboard import SYSTEM_INFO
from erlmesh.services.observing.look_limit import LOOK_LIMIT
from erlmesh.terms import Atom, Map, Pid
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

NIL, UNDEFINED, OK = Atom("nil"), Atom("undefined"), Atom("ok")
A, B = "a@10.0.0.1", "b@10.0.0.2"


def with_two_nodes(test):
    """Run ``test(a, b, ask)``. ``ask(module, function, *arguments)`` is a call from ``b`` to ``a``."""

    @functools.wraps(test)
    def wrapped(**fixtures):
        async def main():
            async with Cluster(1) as cluster:
                a, b = await cluster.start("a", "b")
                await b.ping(a.name)

                async def ask(module, function, *arguments):
                    return await b.rpc(a.name, module, function, list(arguments))

                await test(a, b, ask, **fixtures)

        run(main)

    parameters = list(inspect.signature(test).parameters.values())[3:]
    wrapped.__signature__ = inspect.Signature([each.replace(kind=each.KEYWORD_ONLY) for each in parameters])
    return wrapped


async def idle(me):
    await me.receive(lambda _: False)


# erlang


@with_two_nodes
async def test_a_process_is_described(a, b, ask):
    pid = a.spawn(idle, name="orders")
    watcher_done = asyncio.get_running_loop().create_future()

    async def watch(me):
        me.link(pid)
        me.monitor(pid)
        watcher_done.set_result(me.pid)
        await me.receive(lambda _: False)

    watcher = b.spawn(watch)
    await watcher_done
    for number in range(3):
        a.send(pid, number)
    await asyncio.sleep(1)

    info = dict(await ask("erlang", "process_info", pid))

    assert info[Atom("registered_name")] is Atom("orders")
    assert info[Atom("initial_call")] == (Atom(__name__), Atom("idle"), 1)
    assert info[Atom("current_function")] == (Atom(__name__), Atom("idle"), 1)
    assert info[Atom("message_queue_len")] == 3
    assert info[Atom("links")] == [watcher]
    assert info[Atom("status")] is Atom("waiting")
    assert info[Atom("trap_exit")] is False
    assert await ask("erlang", "process_info", pid, Atom("monitored_by")) == (Atom("monitored_by"), [watcher])
    assert await ask("erlang", "process_info", pid, Atom("messages")) == (Atom("messages"), [])
    trace = (await ask("erlang", "process_info", pid, Atom("current_stacktrace")))[1]
    assert (Atom(__name__), Atom("idle"), 1) in [frame[:3] for frame in trace]


class Stock(GenServer):
    async def handle_call(self, request, caller):
        return request


@with_two_nodes
async def test_servers_and_functions_of_other_nodes_show_what_they_run(a, b, ask):
    async def slow(me: "Process"):  # noqa: F821
        await me.receive()

    a.expose(slow, as_="prices")
    call = Atom("initial_call")
    server = await Stock.start(a)
    running = await b.spawn_remote(A, "prices", "slow")

    assert await ask("erlang", "process_info", server, call) == (call, (Atom(__name__), Atom("Stock"), 1))
    assert await ask("erlang", "process_info", running, call) == (call, (Atom("prices"), Atom("slow"), 0))
    assert (await ask("erlang", "process_info", a.whereis("rex"), call))[1][0] is Atom("erlmesh.services.rpc.rex")


@with_two_nodes
async def test_a_process_without_a_name_has_no_name(a, b, ask):
    pid = a.spawn(idle)
    name = Atom("registered_name")

    assert await ask("erlang", "process_info", pid, name) == []
    assert await ask("erlang", "process_info", pid, [name]) == [(name, [])]
    assert name not in dict(await ask("erlang", "process_info", pid))


@with_two_nodes
async def test_a_process_that_has_ended_is_undefined(a, b, ask):
    pid = a.spawn(idle)
    a.exit(pid, Atom("kill"))
    await asyncio.sleep(1)

    assert await ask("erlang", "process_info", pid) is UNDEFINED
    assert await ask("erlang", "is_process_alive", pid) is False


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("process_info", [Atom("x")]),
        ("process_info", ["OTHER"]),
        ("process_info", ["OWN", Atom("no_such_item")]),
        ("process_info", ["OWN", [Atom("links")] * 101]),
        ("system_info", [Atom("no_such_item")]),
        ("system_info", [(1, 2)]),
        ("statistics", [Atom("no_such_item")]),
        ("memory", [Atom("no_such_kind")]),
        ("nodes", [Atom("no_such_kind")]),
        ("whereis", [1]),
        ("is_process_alive", [1]),
        ("function_exported", [1, 2, 3]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_arguments_are_badarg(function, arguments):
    async def main():
        async with Cluster(1) as cluster:
            a, b = await cluster.start("a", "b")
            pids = {"OWN": a.spawn(idle), "OTHER": b.spawn(idle)}
            given = [pids.get(each, each) if isinstance(each, str) else each for each in arguments]
            with pytest.raises(RemoteError) as raised:
                await b.rpc(a.name, "erlang", function, given)
            assert raised.value.reason is Atom("badarg")

    run(main)


@with_two_nodes
async def test_the_figures_of_the_node_have_the_shapes_of_otp(a, b, ask):
    await asyncio.sleep(10)

    memory = dict(await ask("erlang", "memory"))
    assert memory[Atom("total")] == memory[Atom("processes")] + memory[Atom("system")] > 1_000_000
    assert await ask("erlang", "memory", [Atom("atom")]) == [(Atom("atom"), 0)]
    uptime, _ = await ask("erlang", "statistics", Atom("wall_clock"))
    assert uptime >= 10_000
    assert bytes(await ask("erlang", "system_info", Atom("otp_release"))) == b"25"
    assert bytes(await ask("erlang", "system_info", Atom("system_version"))).startswith(b"erlmesh ")
    assert await ask("erlang", "system_info", Atom("process_count")) == len(await ask("erlang", "processes"))
    assert await ask("net_kernel", "get_net_ticktime") == a.internals.net_ticktime
    assert await ask("erlang", "nodes") == [Atom(B)]
    assert await ask("erlang", "nodes", [Atom("this"), Atom("connected")]) == [Atom(A), Atom(B)]
    assert Atom("rex") in await ask("erlang", "registered")
    assert await ask("erlang", "whereis", Atom("rex")) == a.whereis("rex")


@with_two_nodes
async def test_modules_are_there_if_they_have_functions(a, b, ask):
    a.expose(lambda: 1, as_="prices", name="all", inline=True)

    assert await ask("code", "ensure_loaded", Atom("prices")) == (Atom("module"), Atom("prices"))
    assert await ask("code", "ensure_loaded", Atom("nothing")) == (Atom("error"), Atom("nofile"))
    assert await ask("code", "is_loaded", Atom("nothing")) is False
    assert (await ask("code", "is_loaded", Atom("observer_backend")))[0] is Atom("file")
    assert await ask("erlang", "function_exported", Atom("observer_backend"), Atom("procs_info"), 1) is True
    assert await ask("erlang", "function_exported", Atom("prices"), Atom("all"), 1) is False


@with_two_nodes
async def test_every_module_of_the_table_has_functions_and_no_other_has(a, b, ask):
    assert {module for module, _, _ in a._builtins.names()} == {*OBSERVED_MODULES, "pg", "pg2", "global", "erlmesh"}


# observer and etop


async def collected(node, function, *arguments):
    """Spawn ``observer_backend:function`` on ``a`` from ``node``, and return what it sends until it ends."""
    messages = []

    async def collect(me):
        me.trap_exit = True
        pid = await me.spawn_remote(A, "observer_backend", function, [me.pid, *arguments], link=True)
        async for message in me:
            if message[0] is Atom("EXIT"):
                assert message[1:] == (pid, Atom("normal"))
                return
            messages.append((pid, message))

    await node.run(collect)
    return messages


@with_two_nodes
async def test_procs_info_sends_all_processes_in_slices(a, b, ask):
    pids = {a.spawn(idle) for _ in range(process_table.SLICE * 2)}

    messages = await collected(b, "procs_info")

    rows = []
    for pid, (tag, sender, slice_) in messages:
        assert (tag, sender) == (Atom("procs_info"), pid)
        assert len(slice_) <= process_table.SLICE
        rows += slice_
    assert pids <= {row[1] for row in rows}
    assert messages[0][0] not in {row[1] for row in rows}
    assert {(row[0], len(row)) for row in rows} == {(Atom("etop_proc_info"), 8)}
    assert Atom("net_kernel") in [row[4] for row in rows]


@with_two_nodes
async def test_etop_collect_sends_the_processes_with_the_longest_mailboxes(a, b, ask, monkeypatch):
    monkeypatch.setattr(process_table, "ROW_LIMIT", 2)
    long, longest = a.spawn(idle), a.spawn(idle)
    for pid, count in ((long, 1), (longest, 2)):
        for _ in range(count):
            a.send(pid, 1)
    count = len(a.internals.processes())

    ((pid, (sender, info)),) = await collected(b, "etop_collect")

    assert sender == pid
    assert (info[0], len(info)) == (Atom("etop_info"), 9)
    assert info[2] in (count, count + 1)
    assert [(row[1], row[7]) for row in info[8]] == [(longest, 2), (long, 1)]


@with_two_nodes
async def test_fetch_stats_ends_with_its_parent(a, b, ask):
    started = asyncio.get_running_loop().create_future()

    async def parent(me):
        pid = await me.spawn_remote(A, "observer_backend", "fetch_stats", [me.pid, 500])
        first = await me.receive(timeout=5)
        second = await me.receive(timeout=5)
        started.set_result((pid, first, second))
        await me.receive(lambda _: False)

    body = b.spawn(parent)
    pid, first, second = await started
    assert first[:2] == second[:2] == (Atom("stats"), 1)
    assert len(first) == 5
    assert a.internals.is_alive(pid)

    b.exit(body, Atom("kill"))
    await asyncio.sleep(1)

    assert not a.internals.is_alive(pid)


@with_two_nodes
async def test_every_question_of_observer_has_an_answer(a, b, ask):
    assert (await ask("observer_backend", "vsn"))[0] is OK
    system = dict(await ask("observer_backend", "sys_info"))
    assert {Atom("uptime"), Atom("total"), Atom("process_count"), Atom("alloc_info")} <= system.keys()
    assert await ask("observer_backend", "get_port_list") == []
    assert await ask("observer_backend", "get_socket_list") == []
    assert await ask("observer_backend", "socket_info") == []
    assert await ask("observer_backend", "get_table_list", Atom("ets"), []) == []
    assert await ask("erlang", "system_info", Atom("dirty_cpu_schedulers")) == 0
    assert await ask("proc_lib", "translate_initial_call", a.spawn(idle)) == (Atom("proc_lib"), Atom("init_p"), 5)


@with_two_nodes
async def test_the_application_monitor_shows_no_applications_and_ends_with_its_starter(a, b, ask):
    async def client(me):
        _, pid = await ask("appmon_info", "start_link2", me.pid, me.pid, [])
        me.cast(pid, (me.pid, Atom("app_ctrl"), Atom(A), True, []))
        answers = [await me.receive(timeout=5)]
        me.cast(pid, (me.pid, Atom("app"), Atom("kernel"), True, []))
        answers.append(await me.receive(timeout=5))
        return pid, answers

    pid, answers = await b.run(client)

    assert answers == [
        (Atom("delivery"), pid, Atom("app_ctrl"), Atom(A), []),
        (Atom("delivery"), pid, Atom("app"), Atom("kernel"), ([], [], [], [])),
    ]
    await asyncio.sleep(1)
    assert not a.internals.is_alive(pid)


@with_two_nodes
async def test_a_node_is_looked_at_by_so_many_tools_at_a_time(a, b, ask):
    async def tool(me):
        await ask("appmon_info", "start_link2", me.pid, me.pid, [])
        await me.receive(lambda _: False)

    tools = [b.spawn(tool) for _ in range(LOOK_LIMIT)]
    await asyncio.sleep(1)

    for call in (
        ("appmon_info", "start_link2", tools[0], tools[0], []),
        ("observer_backend", "procs_info", tools[0]),
        ("observer_backend", "etop_collect", tools[0]),
        ("observer_backend", "fetch_stats", tools[0], 1000),
        (SYSTEM_INFO, "processes_callback", NIL, Atom("memory"), Atom("desc"), 50, NIL),
    ):
        with pytest.raises(RemoteError) as raised:
            await ask(*call)
        assert raised.value.reason[0] is Atom("overloaded")
    b.exit(tools[0], Atom("kill"))
    await asyncio.sleep(1)
    assert await ask("observer_backend", "etop_collect", tools[1]) is OK


# LiveDashboard


def keys(value):
    assert isinstance(value, Map)
    return {key.name for key in value}


@with_two_nodes
async def test_the_dashboard_finds_its_module_and_no_running_dashboard(a, b, ask):
    assert (await ask("code", "is_loaded", Atom(SYSTEM_INFO)))[0] is Atom("file")

    requirements = [(Atom("application"), Atom("os_mon")), (Atom("module"), Atom("X")), (Atom("process"), Atom("rex"))]
    found = await ask(SYSTEM_INFO, "capabilities_callback", requirements)

    assert keys(found) == {"system_info", "dashboard_running?", "applications", "modules", "processes"}
    assert found[Atom("dashboard_running?")] is False  # "Metrics" would call a supervisor that is not here
    code = (b"file", b"code")
    assert await ask("code", "load_binary", Atom(SYSTEM_INFO), *code) == (Atom("module"), Atom(SYSTEM_INFO))
    assert await ask("code", "load_binary", Atom("os"), *code) == (Atom("error"), Atom("badfile"))
    assert found[Atom("applications")] == [Atom("os_mon")]


@with_two_nodes
async def test_the_page_home_has_its_figures_and_no_values_of_the_environment(a, b, ask, monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")

    info = await ask(SYSTEM_INFO, "info_callback", [b"TOKEN"], Atom("shop"))
    usage = await ask(SYSTEM_INFO, "usage_callback")

    assert keys(info) == {"system_info", "system_limits", "system_usage", "environment"}
    assert info[Atom("environment")] == [(b"TOKEN", NIL)]
    assert keys(usage) == {
        *("atoms", "ports", "processes", "io", "uptime", "memory", "total_run_queue", "cpu_run_queue")
    }
    assert keys(usage[Atom("memory")]) == {"total", "process", "atom", "binary", "code", "ets", "other"}
    assert (await ask(SYSTEM_INFO, "info_callback", NIL, Atom("shop")))[Atom("environment")] is NIL


@with_two_nodes
async def test_the_page_processes_sorts_searches_and_cuts(a, b, ask):
    pids = [a.spawn(idle, name=name) for name in ("Orders", "order_book", "users")]
    for count, pid in enumerate(pids):
        for _ in range(count):
            a.send(pid, 1)

    async def found(search, direction, limit):
        rows, count, state = await ask(
            SYSTEM_INFO, "processes_callback", search, Atom("memory"), Atom(direction), limit, NIL
        )
        assert state == Map()
        return [dict(row)[Atom("pid")] for row in rows], count

    assert await found(b"order", "desc", 50) == ([pids[1], pids[0]], 2)
    assert await found(b"order", "asc", 1) == ([pids[0]], 2)
    shown, count = await found(NIL, "desc", 1)
    assert shown == [pids[2]]
    assert count >= 3
    assert await found(f".{pids[2].id}.{pids[2].serial}>".encode(), "desc", 50) == ([pids[2]], 1)
    row = dict((await ask(SYSTEM_INFO, "processes_callback", b"users", NIL, NIL, 1, NIL))[0][0])
    assert {key.name for key in row} == {
        *("pid", "name_or_initial_call", "reductions_diff", "memory", "reductions", "message_queue_len"),
        "current_function",
    }
    assert row[Atom("name_or_initial_call")] == b":users"


@with_two_nodes
async def test_a_process_opens_as_a_window(a, b, ask):
    async def body(me):
        me.monitor(a.whereis("rex"))
        me.link(child)
        await me.receive(lambda _: False)

    child = a.spawn(idle)
    pid = a.spawn(body)
    await asyncio.sleep(1)

    ok, info = await ask(SYSTEM_INFO, "process_info_callback", pid)

    assert ok is OK
    details = dict(info)
    assert [link[Atom("pid")] for link in details[Atom("links")]] == [child]
    assert [link[Atom("name_or_initial_call")] for link in details[Atom("monitors")]] == [b":rex"]
    assert details[Atom("monitors")][0][Atom("__struct__")] is Atom(f"{SYSTEM_INFO}.ProcessDetails")
    a.exit(pid, Atom("kill"))
    await asyncio.sleep(1)
    assert await ask(SYSTEM_INFO, "process_info_callback", pid) is Atom("error")


@with_two_nodes
async def test_the_other_pages_have_data_or_are_empty(a, b, ask):
    page = (NIL, Atom("name"), Atom("asc"), 50)

    for name in ("ets_callback", "ports_callback", "sockets_callback"):
        assert await ask(SYSTEM_INFO, name, *page) == ([], 0)
    for name in ("ets_info_callback", "port_info_callback", "socket_info_callback", "app_tree_callback"):
        assert await ask(SYSTEM_INFO, name, Atom("x")) is Atom("error")
    ((row,), count) = await ask(SYSTEM_INFO, "applications_info_callback", *page)
    assert count == 1
    assert {key.name for key, _ in row} == {"name", "description", "version", "state", "tree?"}
    assert await ask(SYSTEM_INFO, "applications_info_callback", b"oban", *page[1:]) == ([], 0)
    rows, state = await ask(SYSTEM_INFO, "memory_allocators_callback", NIL)
    assert [keys(row) for row in rows] == [{"name", "block_size", "carrier_size", "max_carrier_size"}] * 2
    assert (await ask(SYSTEM_INFO, "memory_allocators_callback", state))[0]
    data = await ask(SYSTEM_INFO, "os_mon_callback")
    assert keys(data) == {*("cpu_avg1", "cpu_avg5", "cpu_avg15", "cpu_nprocs", "cpu_per_core", "disk", "system_mem")}
    assert all(len(disk) == 3 for disk in data[Atom("disk")])


# Remote shells


@pytest.mark.parametrize("shell", ["shell", "iex", "Elixir.IEx"])
@with_two_nodes
async def test_the_module_of_a_remote_shell_is_refused_with_a_sentence(a, b, ask, shell):
    kind, reason = await ask("code", "ensure_loaded", Atom(shell))

    # The node that asks says that it has OTP 25, whose iex shows the reason of a `badrpc` only.
    assert kind is Atom("badrpc" if shell == "Elixir.IEx" else "error")
    assert f"erlmesh remsh {A}" in bytes(reason).decode()


@with_two_nodes
async def test_the_module_of_iex_is_refused_for_a_release_that_says_nothing_of_use(a, b, ask):
    b.expose(lambda _item: [Atom("26")], as_="erlang", name="system_info")

    kind, reason = await ask("code", "ensure_loaded", Atom("Elixir.IEx"))

    assert kind is Atom("error")
    assert f"erlmesh remsh {A}" in bytes(reason).decode()


@with_two_nodes
async def test_relays_of_dbg_are_bounded_and_each_one_answers(a, b, ask):
    async def tracer(me):
        for number in range(LOOK_LIMIT + 5):
            arguments = [me.pid, Atom("to")] if number % 2 else [Atom("session"), me.pid, Atom("to")]
            await me.spawn_remote(A, "dbg", "do_relay", arguments)
            started = await me.receive(lambda message: message[0] is Atom("started"))
            assert len(started) == (2 if number % 2 else 3)

    before = len(await ask("erlang", "processes"))
    await b.run(tracer)  # its end is that of all relays
    await asyncio.sleep(1)

    assert len(await ask("erlang", "processes")) == before


@with_two_nodes
async def test_a_remote_shell_prints_a_sentence_and_ends(a, b, ask):
    printed = []

    async def group_leader(me):
        tag, printer, ref, request = await me.receive()
        printed.append((tag, *request))
        me.send(printer, (Atom("io_reply"), ref, OK))

    leader = b.spawn(group_leader)
    pid = await b.call(("rex", A), (Atom("call"), Atom("shell"), Atom("start"), [Atom("init")], leader))

    assert isinstance(pid, Pid)
    await asyncio.sleep(1)
    assert not a.internals.is_alive(pid)
    assert printed[0][:3] == (Atom("io_request"), Atom("put_chars"), Atom("unicode"))
    assert f"erlmesh remsh {A}\n" in printed[0][3].decode()


@with_two_nodes
async def test_a_shell_without_a_terminal_ends_after_a_while(a, b, ask):
    pid = await b.call(("rex", A), (Atom("call"), Atom("Elixir.IEx"), Atom("start"), [], b.spawn(idle)))
    await asyncio.sleep(1)
    assert a.internals.is_alive(pid)

    await asyncio.sleep(10)

    assert not a.internals.is_alive(pid)
