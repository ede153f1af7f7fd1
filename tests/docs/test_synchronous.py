"""The programs of the guide to the synchronous node run with a server at the other end."""

import asyncio
import contextlib
import importlib
import subprocess
import sys
import threading

import pytest
from blocks import all_blocks

from erlmesh import Atom, Epmd, GenServer, Node
from skips import import_or_skip


class Wallet(GenServer):
    def init(self):
        self.balances = {7: 100}
        self.credited = set()

    def handle_call(self, request, caller):
        match request:
            case (Atom("balance"), user):
                return self.balances.get(user, 0)
            case (Atom("credit"), user, amount):
                self.balances[user] = self.balances.get(user, 0) + amount
                return self.balances[user]
            case (Atom("credit"), key, user, amount):
                if key not in self.credited:
                    self.credited.add(key)
                    self.balances[user] = self.balances.get(user, 0) + amount
                return self.balances[user]

    def handle_cast(self, request):
        self.handle_call(request, None)


def lists_sum(numbers):
    return sum(numbers)


@pytest.fixture
def wallet(free_port, tmp_path, monkeypatch):
    """The node ``wallet@127.0.0.1`` in a thread of its own. Its cookie is in the file ``cookie``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ERL_EPMD_PORT", str(free_port))
    (tmp_path / "cookie").touch(mode=0o600)
    (tmp_path / "cookie").write_text("monster")
    started, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def main():
        async with Node("wallet@127.0.0.1", cookie="monster", epmd=Epmd(free_port)) as node:
            node.expose(lists_sum, as_="lists", name="sum")

            async def body(me):
                await Wallet.start_link(me, name="Elixir.Wallet")
                started.set()
                await stop.wait()

            await node.run(body)

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert started.wait(20)
    yield
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture
def module(wallet, tmp_path):
    """Imports the block of the guide with this check. Its node is closed at the end."""
    with contextlib.ExitStack() as stack:

        def module(check, name):
            (block,) = [each for each in all_blocks() if each.check == check]
            (tmp_path / f"{name}.py").write_text(block.text)
            stack.callback(sys.modules.pop, name, None)
            loaded = importlib.import_module(name)
            stack.callback(loaded.wallet.close)
            return loaded

        yield module


def test_the_script_prints_the_replies(wallet, tmp_path):
    (block,) = [each for each in all_blocks() if each.check == "synchronous-script"]

    done = subprocess.run([sys.executable, "-c", block.text], capture_output=True, text=True, check=True, cwd=tmp_path)

    assert done.stdout == "100\n6\n"


def test_the_django_view_answers(module):
    django = import_or_skip("django")
    from django.conf import settings
    from django.test import RequestFactory

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="x")
        django.setup()
    views = module("synchronous-django", "views")

    assert views.balance(RequestFactory().get("/"), 7).content == b'{"balance": 100}'


def test_the_flask_view_answers(module):
    import_or_skip("flask")
    app = module("synchronous-flask", "app").app

    assert app.test_client().get("/balance/7").json == {"balance": 100}


def test_the_celery_task_returns_the_balance(module):
    import_or_skip("celery")
    tasks = module("synchronous-celery", "tasks")

    assert tasks.credit.apply((7, 50)).get() == 150
