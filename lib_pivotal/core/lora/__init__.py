"""Adapters (LoRA and its relatives) on borrowed layers, attached with forward hooks, never by replacing modules.

Status: careful, ``naming.py`` and ``lora.py`` decide the keys in users' files, see tests/unit/test_lora.py.
"""
