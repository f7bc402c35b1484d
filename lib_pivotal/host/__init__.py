"""Everything that depends on a host: adapters for the engine's ports, code shared by webuis, and bundles in prompts.

Status: careful, see tests/contract.
"""
