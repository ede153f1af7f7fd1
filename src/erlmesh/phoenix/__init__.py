"""Parts of Phoenix, the web framework of Elixir, for Python nodes. ``from erlmesh.phoenix import PubSub``.

The first use of a name imports its module.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Final

    from erlmesh.core.phoenix_pubsub.messages import PubSubStatistics
    from erlmesh.core.phoenix_tracker.shard_book import TrackerSettings
    from erlmesh.errors import PubSubError, PubSubNotReady, SubscriptionOverflow, TrackerError
    from erlmesh.phoenix.guest import PubSubGuest
    from erlmesh.phoenix.presence import Presence, PresenceDiff
    from erlmesh.phoenix.pubsub import PubSub
    from erlmesh.phoenix.subscription import Gap, Subscription
    from erlmesh.phoenix.tracker import Tracker
    from erlmesh.phoenix.tracker_guest import TrackerGuest

_EXPORTS: Final = {
    "erlmesh.core.phoenix_pubsub.messages": "PubSubStatistics",
    "erlmesh.core.phoenix_tracker.shard_book": "TrackerSettings",
    "erlmesh.errors": "PubSubError PubSubNotReady SubscriptionOverflow TrackerError",
    "erlmesh.phoenix.guest": "PubSubGuest",
    "erlmesh.phoenix.presence": "Presence PresenceDiff",
    "erlmesh.phoenix.pubsub": "PubSub",
    "erlmesh.phoenix.subscription": "Gap Subscription",
    "erlmesh.phoenix.tracker": "Tracker",
    "erlmesh.phoenix.tracker_guest": "TrackerGuest",
}

__all__ = [
    "Gap",
    "Presence",
    "PresenceDiff",
    "PubSub",
    "PubSubError",
    "PubSubGuest",
    "PubSubNotReady",
    "PubSubStatistics",
    "Subscription",
    "SubscriptionOverflow",
    "Tracker",
    "TrackerError",
    "TrackerGuest",
    "TrackerSettings",
]


def __getattr__(name: str) -> object:
    for home, names in _EXPORTS.items():
        if name in names.split():
            found = globals()[name] = getattr(importlib.import_module(home), name)
            return found
    raise AttributeError(f"module 'erlmesh.phoenix' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
