"""The embedded small model, its drawn world, and the demonstration that uses both.

Status: free. ``python -m lib_pivotal.demo`` runs the demonstration; ``train_base`` made the model.
"""
