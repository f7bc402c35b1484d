"""Flat parameter groups, optimiser and learning rates.

Status: free.
"""
