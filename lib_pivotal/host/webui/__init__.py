"""What all webuis have in common, for training and for bundle prompts: Lora extension, folders, queue.

Status: careful, see tests/contract: every assumption about the webui carries a ``Host:`` line.
"""
