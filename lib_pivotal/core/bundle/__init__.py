"""The bundle file: LoRA and embeddings in one safetensors file; the readers of everybody else's; the tools for them.

Status: the key names are frozen, since they are in users' files. docs/bundle-format.md describes them,
tests/unit/golden holds a file that another program wrote.
"""
