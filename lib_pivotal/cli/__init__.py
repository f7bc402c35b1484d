"""The command line, a thin layer over core and the headless host.

Status: free.
"""
