"""Which node holds which shard, and acknowledged delivery: the servers of ``node.shards`` and ``node.outbox``."""
