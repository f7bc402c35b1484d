"""What depends on a host: the adapters that implement the engine's ports, what webuis share, bundles in prompts.

Status: careful, see tests/contract.
"""
