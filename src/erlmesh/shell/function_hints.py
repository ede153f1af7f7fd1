"""Functions of OTP and Elixir that the shell's modules do not have, each with what to type instead. No I/O."""

from __future__ import annotations

from typing import Final

__all__ = ["function_hint", "missing_function"]

_BODY: Final = "a process runs a function of Python: spawn(f), spawn_link(f)"
_START: Final = "a server is a class of `erlmesh.GenServer`: `await Server.start(Node, argument)` in a program"
_STOP: Final = "exit() leaves the shell, and its node stops"
_DICTIONARY: Final = "a process of Python has no dictionary: use a variable"
_ASYNC: Final = "start it beside the line: `t = asyncio.create_task(erpc.call(…))`, and later `await t`"
_RESOLVE: Final = "names of two halves of a cluster are resolved as :global does without a function"
_PY_DEBUG: Final = "ask the server's own node: sys.get_status(server), or sys.trace(server, true)"

_HINTS: Final = {
    "Node": {
        "stop": _STOP,
    },
    "Process": {
        "get": _DICTIONARY, "put": _DICTIONARY, "delete": _DICTIONARY, "get_keys": _DICTIONARY,
        "hibernate": "a process of Python does not hibernate",
        "spawn": _BODY,
        "set_label": "`register(:name, pid)` gives a process a name",
        "spawn_link": _BODY, "spawn_monitor": "`pid = spawn(f)`, then `monitor(pid)`",
    },
    "GenServer": {
        "start": _START, "start_link": _START,
        "abcast": "`for node in nodes(): GenServer.cast({:name, node}, :request)`",
        "enter_loop": _START, "send_request": _ASYNC,
    },
    "pg": {"update": "groups have no values: a group has members only"},
    "global_": {
        "notify_all_name": _RESOLVE, "random_exit_name": _RESOLVE, "random_notify_name": _RESOLVE,
        "trans": "`await global_.set_lock({:resource, self()})`, then the work, then `await global_.del_lock(…)`",
        "disconnect": "`for node in nodes(): Node.disconnect(node)`",
    },
    "net_kernel": {
        "start": "the node runs already: its name is the option --name of `erlmesh shell`",
        "stop": _STOP,
        "set_net_ticktime": "the option --net-ticktime of the node sets it at the start",
        "nodes_info": "`nodes` is a table of all connected nodes",
        "node_info": "`nodes` is a table of all connected nodes",
        "get_state": "`i` prints what the shell knows of its node, and `nodes` its connections",
        "getopts": "the options of connections are those of `erlmesh shell --help`",
        "setopts": "the options of connections are those of `erlmesh shell --help`",
    },
    "net_adm": {
        "world": "the options --join and --discover of `erlmesh shell` connect to many nodes",
        "world_list": "`for name in names: Node.ping(name)`",
        "host_file": "the options --join and --discover of `erlmesh shell` name the hosts",
        "dns_hostname": "`socket.getfqdn(host)`, after `import socket`",
    },
    "erpc": {
        "send_request": _ASYNC, "receive_response": _ASYNC, "wait_response": _ASYNC, "check_response": _ASYNC,
        "multicast": "`for node in nodes(): erpc.cast(node, :module, :function, [])`",
    },
    "rpc": {
        "async_call": _ASYNC, "yield": _ASYNC, "nb_yield": _ASYNC, "server_call": "use GenServer.call",
        "abcast": "`for node in nodes(): send({:name, node}, :message)`",
        "sbcast": "`for node in nodes(): send({:name, node}, :message)`",
        "eval_everywhere": "`for node in nodes(): rpc.cast(node, :module, :function, [])`",
        "parallel_eval": "`await asyncio.gather(rpc.call(…), rpc.call(…))`",
        "pmap": "`await asyncio.gather(*(f(x) for x in xs))`",
        "pinfo": "`i(pid)` asks the node of a process",
    },
    "erlang": {
        "spawn": _BODY, "spawn_link": _BODY, "spawn_monitor": "`pid = spawn(f)`, then `monitor(pid)`",
        "get_cookie": "use Node.get_cookie", "set_cookie": "use Node.set_cookie(node, cookie)",
        "monitor_node": "use Node.monitor(node, true)", "disconnect_node": "use Node.disconnect(node)",
        "get": _DICTIONARY, "put": _DICTIONARY, "erase": _DICTIONARY,
        "send_after": "use Process.send_after(pid, message, milliseconds)",
        "cancel_timer": "use Process.cancel_timer(ref)",
        "process_flag": "use Process.flag(:trap_exit, true)",
        "memory": "`import resource` measures a program of Python",
        "system_info": 'ask a BEAM: :erpc.call(:"plato@10.0.0.3", :erlang, :system_info, [:otp_release])',
        "atom_to_binary": "`atom.name` is the text of an atom",
        "binary_to_atom": "`Atom(text)` is the atom of a text",
        "term_to_binary": "`from erlmesh.etf import encode`, then `encode(term)`",
        "binary_to_term": "`from erlmesh.etf import decode`, then `decode(data)`",
        "now": "`time.time()`, after `import time`",
        "system_time": "`time.time()`, after `import time`",
        "monotonic_time": "`time.monotonic()`, after `import time`",
        "halt": _STOP,
    },
    "sys": {
        "replace_state": "a function of Python cannot be sent to another process: the server needs a call for it",
        "log": _PY_DEBUG, "log_to_file": _PY_DEBUG, "install": _PY_DEBUG, "remove": _PY_DEBUG, "no_debug": _PY_DEBUG,
        "change_code": "code of Python is not changed while it runs: restart the node",
    },
}  # fmt: skip


_CLOCK: Final = "`time.time()` is the number of seconds, after `import time`"
_RANDOM: Final = "after `import random`"

_MISSING_MODULES: Final = {
    "System": {
        "halt": _STOP, "stop": _STOP, "restart": _STOP,
        "system_time": _CLOCK, "os_time": _CLOCK,
        "monotonic_time": "`time.monotonic()` is the number of seconds, after `import time`",
        "cmd": '`subprocess.run(["ls", "-l"])`, after `import subprocess`',
        "shell": "`subprocess.run(text, shell=True)`, after `import subprocess`",
        "version": "`sys.version` is that of Python, after `import sys`",
        "put_env": "`os.environ[name] = value`, after `import os`",
        "pid": "`os.getpid()`, after `import os`",
        "argv": "`sys.argv`, after `import sys`",
        "unique_integer": "`next(numbers)`, after `from itertools import count` and `numbers = count()`",
    },
    "Enum": {
        "random": f"`Enum.random(xs)` is `random.choice(xs)` in Python, {_RANDOM}",
        "shuffle": f"`Enum.shuffle(xs)` is `random.sample(xs, len(xs))` in Python, {_RANDOM}",
        "take_random": f"`Enum.take_random(xs, n)` is `random.sample(xs, n)` in Python, {_RANDOM}",
        "each": "`Enum.each(xs, f)` is `for x in xs: f(x)` in Python",
        "filter": "`Enum.filter(xs, f)` is `[x for x in xs if f(x)]` in Python",
        "reject": "`Enum.reject(xs, f)` is `[x for x in xs if not f(x)]` in Python",
        "find": "`Enum.find(xs, f)` is `next((x for x in xs if f(x)), None)` in Python",
        "reduce": "`Enum.reduce(xs, 0, f)` is a loop in Python, or sum(xs), max(xs), `functools.reduce`",
        "count": "`Enum.count(xs)` is `len(xs)` in Python",
        "sum": "`Enum.sum(xs)` is `sum(xs)` in Python",
        "max": "`Enum.max(xs)` is `max(xs)` in Python",
        "min": "`Enum.min(xs)` is `min(xs)` in Python",
        "sort": "`Enum.sort(xs)` is `sorted(xs)` in Python",
        "sort_by": "`Enum.sort_by(xs, f)` is `sorted(xs, key=f)` in Python",
        "reverse": "`Enum.reverse(xs)` is `xs[::-1]` in Python",
        "at": "`Enum.at(xs, 0)` is `xs[0]` in Python",
        "take": "`Enum.take(xs, n)` is `xs[:n]` in Python",
        "drop": "`Enum.drop(xs, n)` is `xs[n:]` in Python",
        "member": "`Enum.member?(xs, x)` is `x in xs` in Python",
        "any": "`Enum.any?(xs, f)` is `any(f(x) for x in xs)` in Python",
        "all": "`Enum.all?(xs, f)` is `all(f(x) for x in xs)` in Python",
        "join": '`Enum.join(xs, ", ")` is `", ".join(map(str, xs))` in Python',
        "zip": "`Enum.zip(xs, ys)` is `[*zip(xs, ys)]` in Python",
        "with_index": "`Enum.with_index(xs)` is `[*enumerate(xs)]` in Python, with the index first",
        "uniq": "`Enum.uniq(xs)` is `[*dict.fromkeys(xs)]` in Python",
        "to_list": "`Enum.to_list(xs)` is `[*xs]` in Python",
        "frequencies": "`Enum.frequencies(xs)` is `Counter(xs)` in Python, after `from collections import Counter`",
    },
    "IO": {"gets": "`IO.gets(text)` is `input(text)` in Python"},
    "init": {"stop": _STOP, "restart": _STOP, "reboot": _STOP},
}  # fmt: skip


def missing_function(module: str, name: str) -> str | None:
    """Return what to type instead of a function of a module that the shell does not have, or None."""
    return _MISSING_MODULES.get(module, {}).get(name)


def function_hint(module: str, name: str) -> str | None:
    """Return what to type instead of a function that a module of the shell does not have, or None."""
    return _HINTS.get({"gen_server": "GenServer", ":global": "global_"}.get(module, module), {}).get(name.rstrip("?!"))
