"""What a cluster looks like from each of its nodes: reports, the events between them, and a bounded history. No I/O."""
