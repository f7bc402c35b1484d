"""The bundle file: LoRA and embeddings in one safetensors.

Status: frozen, the key names are in users' files, see tests/unit/golden.
"""
