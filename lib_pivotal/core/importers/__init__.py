"""Reads the settings of other training programs; nothing is changed or written.

Status: free.
"""
