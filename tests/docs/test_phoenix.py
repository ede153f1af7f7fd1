"""The programs of the page about Phoenix.PubSub, beside Elixir nodes with a stand-in of Phoenix."""

import pytest
from blocks import ROOT, block

from erlmesh import Atom, Map
from polling import wait_until
from test_gen_server_otp import COMPILE
from test_phoenix_pubsub_otp import elixir_node

pytestmark = pytest.mark.otp
ELIXIR = ROOT / "tests/otp"
PUBSUB = ("MyApp.PubSub", 2, "2.1.1")


def test_the_live_view_shows_the_progress_and_cancels_a_job(cluster, program):
    web = elixir_node(cluster, "web", None, PUBSUB)
    web.eval(COMPILE, Source=(ELIXIR / "phoenix_live_view.ex").read_bytes())
    web.eval(COMPILE, Source=block("phoenix-live-view").encode())
    view = web.eval("L = 'Elixir.StandIn.LiveView', L:start('Elixir.MyAppWeb.JobsLive')")

    program("phoenix-worker")

    def progress():
        return web.eval("maps:get(progress, L:assigns(View__))", View__=view)

    wait_until(lambda: progress().get(b"train", 0) > 2 and progress().get(b"test", 0) > 2)
    web.eval('View__ ! {event, <<"cancel">>, #{<<"job">> => <<"train">>}}', View__=view)
    wait_until(lambda: progress()[b"train"] is Atom("nil"))
    wait_until(lambda: progress() == Map({b"train": Atom("nil"), b"test": 100}))


def test_the_guest_gets_typed_orders_and_moves_to_another_node(cluster, program):
    one, two = (elixir_node(cluster, name, None, PUBSUB) for name in ("web1", "web2"))
    struct = "#{'__struct__' => 'Elixir.Shop.Order', id => Id__, customer => C__}"
    order = f"M:broadcast('Elixir.MyApp.PubSub', <<\"orders\">>, {struct})"

    orders = program("phoenix-guest")
    wait_until(lambda: orders.logged("subscribed on web1@127.0.0.1"), details=orders.recent_log)
    one.eval(order, Id__=7, C__=b"Ada")
    wait_until(lambda: orders.logged("order 7 of Ada"), details=orders.recent_log)
    one.kill()
    wait_until(lambda: orders.logged("moved from web1@127.0.0.1 to web2@127.0.0.1"), details=orders.recent_log)
    two.eval(order, Id__=8, C__=b"Grace")
    wait_until(lambda: orders.logged("order 8 of Grace"), details=orders.recent_log)
