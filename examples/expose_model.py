"""Offer a Python model to Erlang and Elixir. Nothing is installed on the other side.

Start the node, and call the function from ``iex --name diotima@127.0.0.1 --cookie monster``::

    python examples/expose_model.py

    :erpc.call(:"model@127.0.0.1", :sentiment, :score, ["a good and happy day"])
    :erpc.call(:"model@127.0.0.1", :sentiment, :score_all, [["good", "bad"]])
"""

import asyncio
from collections.abc import Sequence

from erlmesh import Node

WEIGHTS = {"good": 1.0, "happy": 0.5, "bad": -1.0, "sad": -0.5}  # stands for a real model


def score(text: bytes) -> float:
    """Return the sum of the weights of the words. An Elixir string arrives as UTF-8 bytes."""
    return sum(WEIGHTS.get(word, 0.0) for word in text.decode().split())


def score_all(texts: Sequence[bytes]) -> list[float]:
    """Score many texts. The node runs it in a thread, so a long computation does not block the event loop."""
    return [score(text) for text in texts]


async def main() -> None:
    async with Node("model@127.0.0.1", cookie="monster") as node:
        node.expose(score, as_="sentiment")
        node.expose(score_all, as_="sentiment")
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
