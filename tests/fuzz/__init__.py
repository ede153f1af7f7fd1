"""Seeded comparison of the native code with the pure Python code on random input. ``make fuzz`` runs it.

Each kind of input is a module with a function ``run_case(seed)``. It raises AssertionError, with the input, if the two
builds differ. The same seed gives the same input.
"""
