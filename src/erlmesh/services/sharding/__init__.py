"""Which node holds which shard: the servers of ``node.shards``."""
