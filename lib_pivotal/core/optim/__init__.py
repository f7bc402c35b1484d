"""Flat parameters, optimizer and learning rates.

Status: free.
"""
