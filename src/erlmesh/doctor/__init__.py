"""Diagnose why two nodes cannot connect: steps from the name to a working connection, each with a finding."""
