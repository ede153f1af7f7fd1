"""The programs of the guide to the synchronous node run with a server at the other end."""

import asyncio
import contextlib
import importlib
import os
import signal
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


BROKER = """
app.conf.broker_url = "filesystem://"
app.conf.result_backend = "file://results"
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
"""


def test_workers_of_celery_that_were_forked_share_no_connection(wallet, tmp_path, monkeypatch):
    """The program connects where it is loaded. Each of the two workers that are forked later connects again."""
    import_or_skip("celery")
    for folder in ("results", "queue", "control"):
        (tmp_path / folder).mkdir()
    (block,) = [each for each in all_blocks() if each.check == "synchronous-celery"]
    used = 'wallet.call("Elixir.Wallet", (Atom("balance"), 7))\n'
    (tmp_path / "worker_tasks.py").write_text(
        block.text.replace('Celery("tasks")', 'Celery("worker_tasks")') + BROKER + used
    )
    worker_tasks = importlib.import_module("worker_tasks")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "worker_tasks", "worker", "-c", "2", "-l", "ERROR"], cwd=tmp_path
    )
    try:
        results = [worker_tasks.credit.delay(7, 1) for _ in range(8)]
        assert max(each.get(timeout=60) for each in results) == 108
    finally:
        worker.send_signal(signal.SIGTERM)
        code = worker.wait(30)
        worker_tasks.wallet.close()
        sys.modules.pop("worker_tasks")
    assert code == 0
