"""A page as the browser sees it: presses buttons over Gradio's own HTTP route, with values in its wire format."""

from __future__ import annotations

from typing import Any

import gradio as gr
from fastapi.testclient import TestClient

__all__ = ["Page"]


class Page:
    """The components of a tab by element id, and the events between them.

    Args:
        blocks: the tab.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        config = blocks.get_config_file()
        self.parts = {item["id"]: item for item in config["components"]}
        self.events = config["dependencies"]
        self.values = {self.name(number): item["props"].get("value") for number, item in self.parts.items()}
        self._client = TestClient(blocks.app)

    def name(self, number: int) -> str:
        """Element id of a component."""
        return self.parts[number]["props"].get("elem_id") or f"#{number}"

    def ids(self) -> list[str]:
        """All element ids that were given."""
        return [item["props"]["elem_id"] for item in self.parts.values() if item["props"].get("elem_id")]

    def event(self, button: str) -> dict[str, Any]:
        """The server's event of a button."""
        # Gradio 3 names the same component for an event that follows another.
        events = [event for event in self.events if event.get("backend_fn") and event.get("trigger_after") is None]
        found = [event for event in events if button in self._triggers(event)]
        assert len(found) == 1, f"{button}: {len(found)} events"
        return found[0]

    def followers(self, button: str) -> list[dict[str, Any]]:
        """Events that only run a script, on the button or after its event."""
        event = self.event(button)
        after = event.get("id", self.events.index(event))
        return [item for item in self.events if item.get("trigger_after") == after and not item.get("backend_fn")]

    def press(self, button: str) -> dict[str, Any]:
        """Press a button: send the page's values, apply the answer; returns what changed."""
        event = self.event(button)
        data = [self.values[self.name(number)] for number in event["inputs"]]
        number = event.get("id", self.events.index(event))
        response = self._client.post("/run/predict", json={"fn_index": number, "data": data, "session_hash": "page"})
        assert response.status_code == 200, response.text
        answers = response.json()["data"]
        assert len(answers) == len(event["outputs"])
        changed = {}
        for component, answer in zip(event["outputs"], answers):
            is_update = isinstance(answer, dict) and answer.get("__type__") == "update"
            name = self.name(component)
            if not is_update:
                changed[name] = self.values[name] = answer
            elif _properties(answer):
                changed[name] = _properties(answer)
        return changed

    def _triggers(self, event: dict[str, Any]) -> list[str]:
        # Gradio 3 lists components, Gradio 4 pairs of component and event.
        targets = [target[0] if isinstance(target, (list, tuple)) else target for target in event["targets"]]
        return [self.name(target) for target in targets if target is not None]


def _properties(update: dict[str, Any]) -> dict[str, Any]:
    """What an update changes, in the words of Gradio 4."""
    properties = {key: value for key, value in update.items() if key != "__type__"}
    if "mode" in properties:
        properties["interactive"] = properties.pop("mode") == "dynamic"
    if properties == {"step": 1}:
        # Gradio 3 sends a number field's default step with every update.
        return {}
    return properties
