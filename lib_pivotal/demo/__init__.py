"""The embedded small model, its world of drawings, and the demo that uses both.

Status: free. ``python -m lib_pivotal.demo`` runs the demo; ``base_model`` holds the programs that made the model.
"""
