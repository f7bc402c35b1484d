"""The engine: torch, numpy, PIL and safetensors only; knows no webui and no model library.

Status: free. Read ``train/loop.py`` first.
"""
