"""Texts of the part "Runs" and of the queue."""

from __future__ import annotations

__all__ = [
    "QUEUE_BUTTONS",
    "QUEUE_STATES",
    "RUN_BUTTONS",
    "RUN_COLUMNS",
    "RUN_FIELDS",
    "RUN_HEADINGS",
    "RUN_MESSAGES",
    "RUN_STATES",
    "STEP_COLUMNS",
]

RUN_BUTTONS = {
    "runs_refresh": "Refresh runs",
    "runs_more": "Show more runs",
    "run_load": "Load settings",
    "run_weights": "Start from its weights",
    "run_use": "Use in txt2img",
    "run_continue": "Continue",
    "run_queue": "Continue in the queue",
    "run_delete": "Delete states",
    "run_delete_sure": "Yes, delete the states",
    "run_delete_steps": "Delete kept bundles",
    "run_delete_steps_sure": "Yes, delete the bundles",
    "run_choose": "Make this the file",
    "run_choose_sure": "Yes, replace the file",
    "run_compare": "Compare",
}

QUEUE_BUTTONS = {
    "queue_start": "Start queue",
    "queue_stop": "Stop all",
    "queue_up": "Move up",
    "queue_down": "Move down",
    "queue_remove": "Remove from queue",
    "queue_refresh": "Refresh queue",
}

RUN_HEADINGS = {
    "list": "Past runs",
    "queue": "Queue",
    "run": "Selected run",
    "continue": "Continue",
    "step": "Best step",
    "compare": "Compare",
}

RUN_FIELDS = {
    "run": ("Run", "The run that the buttons below act on."),
    "run_steps": ("Total steps", "How many steps the run has in all when it continues; 0 keeps its number."),
    "run_use_fields": (
        'Use the settings of the tab "Train a bundle"',
        "Otherwise the run continues with its own settings.",
    ),
    "run_step": (
        "Step to choose",
        'Steps whose bundles this run has kept; the setting "Steps to choose from" says how many.',
    ),
    "run_other": ("Compare with", "Another run."),
    "queue_item": ("Run of the queue", "The run to move or remove."),
}
"""Label and help text of each field."""

RUN_COLUMNS = ("Image", "Run", "Model", "Began", "Steps", "Loss", "Validation", "State", "")
STEP_COLUMNS = ("Step", "Validation loss", "Samples")

RUN_STATES = {
    "running": "in progress",
    "finished": "finished",
    "stopped": "stopped",
    "discarded": "discarded",
    "failed": "failed",
    "interrupted": "interrupted",
}

QUEUE_STATES = {
    "waiting": "waiting, {place} of {count}",
    "running": "in progress",
    "done": "finished",
    "stopped": "stopped",
    "discarded": "discarded",
    "failed": "failed",
    "interrupted": "interrupted when the webui was closed",
}

RUN_MESSAGES = {
    "none": "There are no runs yet. Every run that you start appears here.",
    "shown": "{shown} of {total} runs",
    "select": "Select",
    "select_run": "Select the run {name}",
    "sample_of": "Last sample of {name}",
    "sample_at": "Sample after {step} steps",
    "nothing_selected": "Select a run in the list.",
    "steps": "{step} of {total}",
    "states": "It can continue from step {step}. States: {count}, {size}.",
    "no_states": "It has no saved state, so it cannot continue.",
    "unreadable": "Its settings cannot be read: {problem}",
    "folder": "Folder:",
    "failed": "It failed: {message}",
    "loaded": "The settings of {name} are filled in.",
    "weights": (
        "The settings of {name} are filled in, and the new run will start from its weights. The family of the model, "
        "names, vectors, and the kind, layers and ranks of the LoRA must stay the same, unless "
        '"Keep the other names" adds names.'
    ),
    "continued": 'The run continues; its progress is shown on the tab "Train a bundle".',
    "may_change": "Settings that may differ when a run continues",
    "exact": (
        "A run continues exactly where its last state was saved, as if it had never stopped. With more steps than "
        "before, the learning rates follow the new length from there on."
    ),
    "ask_delete": (
        "Delete the states of {name}? This frees {size}. The run cannot continue after that; its bundles stay."
    ),
    "deleted": "The states were deleted, which freed {size}.",
    "ask_delete_steps": (
        "Delete the bundles of the steps to choose from in the folder of {name}? This frees {size}. Bundles in the "
        "Lora folder stay."
    ),
    "deleted_steps": "The bundles were deleted, which freed {size}.",
    "kept_steps": "Steps to choose from in its folder: {size}.",
    "no_bundle": "The bundle of {name} is no longer in the Lora folder. Choose a step to write it again.",
    "no_steps": (
        'This run has kept no bundles of earlier steps. The setting "Steps to choose from" says how many are kept.'
    ),
    "best": "lowest validation loss",
    "no_validation": "not measured",
    "chosen": "{path} is now the bundle of step {step}. The bundle of the last step is kept under its number.",
    "ask_replace": "{problem} Replace it anyway?",
    "differences": "Settings that differ",
    "no_differences": "All settings are the same.",
    "setting": "Setting",
    "same_run": "Select two different runs.",
    "queued": "Added to the queue as {name}, place {place}.",
    "queued_after": "It starts by itself after the run in progress.",
    "queued_idle": 'Click "Start queue" on the tab "Runs" to start it.',
    "queue_empty": 'The queue is empty. The button "Add to queue" is next to "Train".',
    "queue_going": "The next run starts by itself when the current one has ended.",
    "queue_stopped": "The queue is not running.",
    "queue_started": "The queue has been started.",
    "queue_nothing": "No run is waiting.",
    "queue_stopping": "The current run stops after its current step and keeps its progress; the others keep waiting.",
    "continues": "{name} (continued)",
}
