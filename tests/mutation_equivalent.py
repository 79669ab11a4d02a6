"""Mutants that change nothing that anybody can see, by file and name, each with the reason."""

EQUIVALENT = {}
