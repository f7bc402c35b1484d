"""The engine: uses only torch, numpy, PIL and safetensors, and does not depend on any webui or model library.

Status: free. Read ``train/loop.py`` first.
"""
