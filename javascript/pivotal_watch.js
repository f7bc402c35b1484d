/* Tells the user that a run has ended, the way the webui does for generations, and keeps opened details open when they
   are replaced. The progress in the page's title is the webui's own: its progress bar sets it. */

var pivotalWatch = (function() {
    "use strict";

    const SHOWN_MS = 300;

    const opened = new Set();

    // Host: javascript/notification.js, 1.6.1 to 1.10.1: the sound, its volume (from 1.7), and no notification while the
    // page has the focus.
    function notify() {
        const audio = gradioApp().querySelector("#audio_notification audio");
        if (audio) {
            audio.volume = opts.notification_volume / 100.0 || 1.0;
            audio.play();
        }
        if (document.hasFocus() || !("Notification" in window)) {
            return;
        }
        const shown = gradioApp().querySelector("#pivotal_run_status .pivotal-box b");
        try {
            const notification = new Notification("Pivotal Tuning", {body: shown ? shown.textContent : ""});
            notification.onclick = function() {
                parent.focus();
                this.close();
            };
        } catch (error) {
            // Some mobile browsers allow notifications from service workers only.
            console.warn(error);
        }
    }

    function remember(event) {
        const details = event.target;
        if (!details.matches || !details.matches("details[data-keep]")) {
            return;
        }
        if (details.open) {
            opened.add(details.dataset.keep);
        } else if (details.isConnected) {
            opened.delete(details.dataset.keep);
        }
    }

    function reopen() {
        gradioApp().querySelectorAll("#pivotal_tab details[data-keep]").forEach((details) => {
            if (opened.has(details.dataset.keep) && !details.open) {
                details.open = true;
            }
        });
    }

    onUiLoaded(function() {
        const root = gradioApp();
        // The event does not bubble.
        root.addEventListener("toggle", remember, true);
        const place = root.querySelector("#pivotal_run_warnings");
        if (place) {
            new MutationObserver(reopen).observe(place, {childList: true, subtree: true});
        }
        // The status is shown a moment after the answer.
        document.addEventListener("pivotal-run-ended", () => setTimeout(notify, SHOWN_MS));
    });

    return {notify};
})();
