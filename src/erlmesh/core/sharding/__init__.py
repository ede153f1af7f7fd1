"""Which node is responsible for what: the choice by rendezvous, and the tables of shards. No I/O."""
