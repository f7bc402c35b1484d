"""The parts of the tab: each makes its components and returns them by name; ``tab.py`` wires them.

Status: free.
"""
