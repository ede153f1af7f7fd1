"""Mutants of a node that stops."""

from simulation.mutants.mutation import Mutant

STOP = "erlmesh.runtime.graceful_stop:GracefulStop."
SERVER = "erlmesh.behaviours.gen_server:GenServer."

MUTANTS = [
    Mutant(
        "erlmesh.core.stop_order:StopOrder.begin",
        "a node that stops tells the children of a supervisor",
        "self._supervisor_of(pid)",
        "None",
    ),
    Mutant(
        "erlmesh.core.stop_order:StopOrder.ended",
        "a process that outlives its supervisor is not told",
        "if not self._wait(each, above)",
        "if False",
    ),
    Mutant(
        STOP + "_tell",
        "a process that traps exits is terminated when its node stops",
        "process.trap_exit or process._stop_mode in (StopMode.DRAINS, StopMode.SUPERVISES)",
        "False",
    ),
    Mutant(
        STOP + "_tell",
        "a call in flight is terminated when the node stops",
        "elif process._stop_mode is StopMode.ENDS:",
        "else:",
    ),
    Mutant(
        STOP + "_terminated", "a node that stops does not wait for the clean-up of a task", "self._tasks[task]", "_"
    ),
    Mutant(
        "erlmesh.runtime.router:Router._exit_received",
        "the supervisor of a node that stops ends a server that owes replies",
        "reason is SHUTDOWN and self.termination.is_stopping",
        "False",
    ),
    Mutant(
        SERVER + "_is_working",
        "a server of a node that stops ends before it has replied to its callers",
        "bool(self._pending or self._owed)",
        "False",
    ),
    Mutant(
        SERVER + "_serve",
        "a second request to stop interrupts terminate",
        "self.me.handles_system_messages = True",
        "pass",
    ),
    Mutant(
        "erlmesh.runtime.instance:NodeInstance.refuse_work",
        "a node that stops starts processes for other nodes",
        "self.router.on_spawn_request = self.spawn_server.on_request_while_stopping",
        "pass",
    ),
    Mutant(
        "erlmesh.services.pg.server:Pg.leave_all",
        "the members of a node that stops stay in their groups",
        "if self.alive:",
        "if False:",
    ),
    Mutant(
        "erlmesh.runtime.runtime:Runtime._exchange_with_peers",
        "a node that stops does not wait for calls on their way",
        "for peer in self.nodes()",
        "for peer in ()",
    ),
]
