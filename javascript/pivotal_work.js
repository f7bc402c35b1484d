/* The page's side of work in the background other than training, such as a comparison: asks the server for its state
   while it is being done, and shows the webui's own progress bar. Like pivotal.js it stores nothing: after a reload
   everything comes from the server. */

var pivotalWork = (function() {
    "use strict";

    const POLL_MS = 1500;
    const PLACES = ["compare_result", "compare_bundles", "fuse"];

    const states = {};
    const shown = {};

    function element(place, name) {
        const id = `pivotal_${place}_${name}`;
        return gradioApp().getElementById(id) || document.getElementById(id);
    }

    function isVisible(place) {
        const button = element(place, "start");
        return Boolean(button) && button.offsetParent !== null;
    }

    function refresh(place) {
        const button = element(place, "refresh");
        if (button) {
            button.click();
        }
    }

    function attachBar(place, taskId) {
        const container = element(place, "bar");
        // The webui hides the bar until its settings have been loaded: wait for the next answer.
        if (states[place].bar === taskId || !container || !("show_progressbar" in opts)) {
            return;
        }
        states[place].bar = taskId;
        requestProgress(taskId, container, null, function() {
            // Every answer has made a new state, and the bar of the next task may be there already.
            if (states[place].bar === taskId) {
                states[place].bar = null;
            }
            setTimeout(refresh, POLL_MS / 2, place);
        }, null);
    }

    // Called with the server's answer after every event of such work.
    function update(place, text) {
        let status;
        try {
            status = JSON.parse(text);
        } catch (error) {
            return;
        }
        const before = states[place] || {bar: null};
        states[place] = {...before, isActive: status.is_active, task: status.task_id};
        if (status.is_active && isVisible(place)) {
            attachBar(place, status.task_id);
        }
        if (before.task !== status.task_id || before.isActive !== status.is_active) {
            refresh(place);
        }
    }

    function poll() {
        for (const place of PLACES) {
            const before = shown[place];
            shown[place] = isVisible(place) && !document.hidden;
            // When it appears, because another part, page or the API may have started it; and while it is being done.
            if (shown[place] && (!before || !states[place] || states[place].isActive)) {
                refresh(place);
            }
        }
    }

    onUiLoaded(function() {
        setInterval(poll, POLL_MS);
    });

    return {update};
})();
