"""The garbage collector is off during a call, and as before after it."""

import gc

import pytest

from erlmesh.collector import without_collector
from erlmesh.errors import DecodeError
from erlmesh.services.pg.state import ScopeState


@pytest.fixture(params=[True, False])
def was_enabled(request):
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def test_collector_is_off_during_the_call_and_as_before_after_it(was_enabled):
    during = without_collector(gc.isenabled)

    assert during is False
    assert gc.isenabled() is was_enabled


def test_collector_is_as_before_after_an_exception(was_enabled):
    def fail():
        raise DecodeError("bad", 0)

    with pytest.raises(DecodeError):
        without_collector(fail)

    assert gc.isenabled() is was_enabled


def test_sync_is_applied_without_the_collector_and_observers_are_called_with_it(monkeypatch):
    from fake_cluster import Cluster
    from test_pg import G, Pg

    cluster = Cluster()
    a, b = cluster.node("a@h"), cluster.node("b@h")
    pg_a, pg_b = Pg(a), Pg(b)
    pg_b.join(G, b.process().pid)
    seen, handle_sync = [], ScopeState.handle_sync
    monkeypatch.setattr(ScopeState, "handle_sync", lambda *args: (seen.append(gc.isenabled()), handle_sync(*args))[1])
    pg_a.subscribe(lambda _: seen.append(gc.isenabled()))

    cluster.connect(a, b)
    cluster.run()

    assert seen.count(False) == 4  # the syncs
    assert seen.count(True) == 1  # the subscriber
