"""What every webui has in common, for the training adapters and for bundle prompts: its Lora extension, folders, queue.

Status: careful, see tests/contract: every assumption about the webui carries a ``Host:`` line.
"""
