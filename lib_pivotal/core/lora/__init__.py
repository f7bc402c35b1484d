"""Adapters (LoRA and its relatives) on borrowed layers: by forward hooks, never by replaced modules.

Status: careful, ``naming.py`` and ``lora.py`` decide the keys in users' files, see tests/unit/test_lora.py.
"""
