"""The books of one shard of Phoenix.Tracker: what it knows, and the messages that follow. No I/O.

::

    messages          the five messages of the protocol, to terms
    validation        terms to messages; everything that arrives or leaves passes it
    entries, deltas   what is exchanged: entries, changes, full states
    entry_index       the entries by topic and key
    presence_state    the replicated set of entries (a CRDT)
    delta_generations the last changes, kept to answer replicas that have missed some
    replica_table     which replicas are up, down or forgotten
    shard_book        all of these together
    presence_shape    the form in which Phoenix.Presence shows entries
"""
