"""Host adapters: each implements the engine's ports for one kind of host.

Status: careful, see tests/contract.
"""
