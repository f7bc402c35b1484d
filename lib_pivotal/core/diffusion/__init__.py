"""Noise levels, targets and loss weights.

Status: free.
"""
