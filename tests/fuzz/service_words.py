"""Well-formed messages of OTP's protocols, as the members of a cluster send them to the services of a node.

They are the start of the fuzzer's input for the target ``services``, and its mutator takes parts of them.
``fuzz.targets.services`` explains the atoms that start with ``$``.
"""

from erlmesh.terms import Atom, ImproperList, Map

A = Atom
SELF, OTHER, PG, REF = A("$self"), A("$other"), A("$pg"), A("$ref")
SENDER, VICTIM, BYSTANDER = A("$sender"), A("$victim"), A("$bystander")
CALLER = (SELF, REF)
ALIAS_CALLER = (SELF, ImproperList((A("alias"),), REF))


def call(request):
    """Return a request of ``gen_server:call``."""
    return (A("$gen_call"), CALLER, request)


def cast(request):
    """Return a message of ``gen_server:cast``."""
    return (A("$gen_cast"), request)


PG_MESSAGES = [
    (A("discover"), SELF),
    (A("discover"), SELF, 1),
    (A("join"), SELF, A("group"), SELF),
    (A("join"), SELF, A("group"), [SELF, OTHER, SELF]),
    (A("leave"), SELF, SELF, [A("group")]),
    (A("leave"), SELF, [SELF], [A("group"), 1, 1.0]),
    cast((A("sync"), SELF, [(A("group"), [SELF]), ((1, b"x"), [SELF, SELF])])),
    call((A("join_local"), A("group"), SELF)),
    call((A("leave_local"), A("group"), [SELF])),
    call((A("monitor"), A("group"))),
    call(A("monitor")),
    call((A("demonitor"), REF)),
    (A("DOWN"), REF, A("process"), SELF, A("normal")),
    (A("nodeup"), BYSTANDER),
    (A("nodedown"), BYSTANDER),
]
PG2_MESSAGES = [
    cast((A("exchange"), SENDER, [(A("group"), [SELF])])),
    call((A("create"), A("group"))),
    call((A("delete"), A("group"))),
    call((A("join"), A("group"), SELF)),
    call((A("leave"), A("group"), SELF)),
    (A("new_pg2"), SENDER),
    (A("nodeup"), SENDER),
    cast((A("del_member"), A("group"), SELF)),
]
LOCK = (A("global"), [VICTIM, SENDER])
GLOBAL_MESSAGES = [
    cast((A("init_connect"), (8, 77), SENDER, (A("locker"), A("no_longer_a_pid"), [], SELF))),
    cast((A("init_connect"), (5, 77), SENDER, (A("locker"), SELF, [VICTIM], SELF))),
    cast((A("init_connect_ack"), SENDER, 77, 78)),
    cast((A("cancel_connect"), SENDER, 77)),
    cast((A("lock_is_set"), SENDER, 77, LOCK)),
    (A("lock_set"), SELF, True, [VICTIM], 77),
    (A("lock_set"), SELF, False, []),
    (A("cancel"), SENDER, 77, []),
    (A("his_the_locker"), SELF, 8, 77, 78),
    cast((A("exchange"), SENDER, [(A("name"), SELF, A("random_exit_name"))], [], 77)),
    cast((A("exchange_ops"), SENDER, 77, [(A("insert"), (A("name"), SELF, A("random_exit_name")))], [SENDER])),
    cast((A("resolved"), SENDER, [(A("delete"), A("name"))], [SENDER], [SENDER], [], 77)),
    cast((A("new_nodes"), SENDER, [], [], [SENDER, BYSTANDER], [])),
    cast((A("in_sync"), SENDER, True)),
    cast((A("async_del_name"), A("name"), SELF)),
    cast((A("async_del_lock"), REF, SELF)),
    call((A("set_lock"), (A("resource"), SELF))),
    call((A("del_lock"), (A("resource"), SELF))),
    call((A("register"), A("name"), SELF, (A("global"), A("random_exit_name")))),
    call((A("register_ext"), A("name"), SELF, (A("m"), A("f")), SENDER)),
    call((A("unregister"), A("name"))),
    call((A("sync"), [SENDER])),
    call((A("whereis"), A("name"))),
    call(A("get_known")),
    call(A("get_protocol_version")),
    (A("lost_connection"), SENDER, 7, 1, BYSTANDER),
    (A("remove_connection"), SENDER),
    (A("nodeup"), SENDER),
    (A("nodedown"), BYSTANDER),
    (A("extra_nodedown"), BYSTANDER),
    (A("DOWN"), REF, A("process"), SELF, A("killed")),
]
NET_KERNEL_MESSAGES = [call((A("is_auth"), SENDER)), call((A("connect"), A("normal"), BYSTANDER)), call(A("get_state"))]
REX_MESSAGES = [
    call((A("call"), A("erlang"), A("node"), [], OTHER)),
    call((A("block_call"), A("lists"), A("reverse"), [[1, 2]], OTHER)),
    cast((A("cast"), A("erlang"), A("node"), [], OTHER)),
    (SELF, (A("call"), A("erlang"), A("node"), [], OTHER)),
    (SELF, (A("sbcast"), A("pg"), A("hello"))),
    (SELF, A("features_request")),
    (A("DOWN"), REF, A("process"), SELF, A("noproc")),
]
CHARACTERS = (A("put_chars"), A("unicode"), b"text\n")
FORMATTED = (A("put_chars"), A("unicode"), A("io_lib"), A("format"), [b"~p ~10w ~2.3f ~ts~n", [1, [2], 3.0, "x"]])
USER_MESSAGES = [
    (A("io_request"), SELF, REF, CHARACTERS),
    (A("io_request"), SELF, REF, FORMATTED),
    (A("io_request"), SELF, REF, (A("requests"), [CHARACTERS, CHARACTERS])),
    (A("io_request"), SELF, REF, (A("setopts"), [(A("binary"), True)])),
    (A("io_request"), SELF, REF, (A("get_line"), A("unicode"), b"> ")),
    (A("log"), A("error"), b"~p", [1], Map({A("pid"): SELF})),
    (A("log"), A("info"), (A("report"), [(A("a"), 1)]), Map()),
]
SYSTEM_MESSAGES = [
    (A("system"), CALLER, A("get_status")),
    (A("system"), CALLER, A("get_state")),
    (A("system"), CALLER, A("suspend")),
    (A("system"), CALLER, A("resume")),
    (A("system"), CALLER, (A("debug"), (A("log"), A("get")))),
    (A("system"), ALIAS_CALLER, (A("debug"), (A("trace"), True))),
    (A("$gen_call"), ALIAS_CALLER, A("which_children")),
    (A("EXIT"), SELF, A("shutdown")),
    (REF, A("late_reply")),
]
SERVICES = {
    "pg": PG_MESSAGES,
    "pg2": PG2_MESSAGES,
    "global_name_server": GLOBAL_MESSAGES,
    "net_kernel": NET_KERNEL_MESSAGES,
    "rex": REX_MESSAGES,
    "user": USER_MESSAGES,
    "logger_proxy": USER_MESSAGES,
}
"""The messages of each registered service."""
NAMES = [A(name) for name in SERVICES]
MESSAGES = [message for messages in SERVICES.values() for message in messages] + SYSTEM_MESSAGES
ATOMS = [SELF, OTHER, PG, REF, SENDER, VICTIM, BYSTANDER, A("ok"), A("undefined"), A("group"), A("name"), A("global")]
