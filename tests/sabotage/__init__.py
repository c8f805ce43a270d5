"""Proof that the tests can fail: one-line mutations, each with the tests that must turn red."""
