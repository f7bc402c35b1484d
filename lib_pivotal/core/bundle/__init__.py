"""The bundle file (LoRA and embeddings in one safetensors file), readers of other programs' files, and the tools.

Status: the key names are frozen, since they are in users' files. docs/bundle-format.md describes them,
tests/unit/golden holds a file that another program wrote.
"""
