"""LoRA on borrowed layers: by forward hooks, never by replaced modules.

Status: careful, ``naming.py`` decides the keys in users' files, see tests/unit/test_lora_naming.py.
"""
