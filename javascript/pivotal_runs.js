/* The part "Runs": the buttons in the table select a run, and the queue is refreshed while it can change. */

var pivotalRuns = (function() {
    "use strict";

    const POLL_MS = 4000;

    function element(id) {
        return gradioApp().getElementById(id) || document.getElementById(id);
    }

    function select(name) {
        const field = element("pivotal_runs_name").querySelector("textarea, input");
        field.value = name;
        updateInput(field);
        // Gradio must have taken over the value before the button sends it.
        setTimeout(() => element("pivotal_runs_open").click(), 100);
    }

    function isShown(part) {
        return Boolean(part) && part.offsetParent !== null;
    }

    // The queue changes by itself only while it says so; its text is a status, which screen readers announce once.
    function poll() {
        const view = element("pivotal_queue_view");
        if (!document.hidden && isShown(view) && view.querySelector(".pivotal-queue-on")) {
            element("pivotal_queue_refresh").click();
        }
    }

    onUiLoaded(function() {
        gradioApp().addEventListener("click", function(event) {
            const button = event.target.closest("[data-pivotal-run]");
            if (button) {
                select(button.dataset.pivotalRun);
            }
        });
        setInterval(poll, POLL_MS);
    });

    return {select};
})();
