"""Lists that grow while the page is open, under both versions of Gradio."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import expect


def test_a_new_entry_in_the_place_of_the_chosen_one_can_be_chosen(bare_server, bare_tab):
    """The newest run is the first in the list, where the chosen one was before."""
    runs = bare_server[1] / "pivotal-tuning" / "runs"
    chosen = bare_tab.page.locator("#pivotal_runs_run input").first
    for name in ("old-20260101-101500", "new-20260102-101500"):
        (runs / name).mkdir(parents=True)
        (runs / name / "loss.csv").write_text("step,loss\n1,0.5\n", encoding="utf-8")
        bare_tab.show()
        bare_tab.go_to("Runs")
        expect(bare_tab.page.locator("#pivotal_runs_list").first).to_contain_text(name)
        bare_tab.choose("runs_run", name)
        expect(chosen).to_have_value(name)
        expect(bare_tab.page.locator("#pivotal_runs_view").first).to_contain_text(name)
    bare_tab.show()
