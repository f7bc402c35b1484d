"""Fuses bundles that were trained apart into one whose LoRA does for each name what that name's own LoRA did.

Status: stable, see tests/unit/test_fuse_solution.py for the algebra and tests/runs/test_fuse.py for whole fusions.
"""
