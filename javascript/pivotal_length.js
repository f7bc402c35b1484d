/* Asks for the length of the planned run once the settings have stopped changing, and for the presets once the page is
   there. Gradio calls changed() for every setting that a person or a button has changed. */

var pivotalLength = (function() {
    "use strict";

    const QUIET_MS = 600;
    const START_MS = 1500;
    const ANSWER_LOST_MS = 15000;

    let timer = null;
    let askedAt = 0;
    let isWaiting = false;
    let hasChanged = false;

    function press(id) {
        const button = gradioApp().getElementById(id) || document.getElementById(id);
        if (button) {
            button.click();
        }
        return Boolean(button);
    }

    // Gradio drops a click while the answer to the one before is on its way.
    function ask() {
        hasChanged = isWaiting && Date.now() - askedAt < ANSWER_LOST_MS;
        if (!hasChanged) {
            isWaiting = press("pivotal_length_refresh");
            askedAt = Date.now();
        }
    }

    function changed() {
        clearTimeout(timer);
        timer = setTimeout(ask, QUIET_MS);
    }

    function answered() {
        isWaiting = false;
        if (hasChanged) {
            ask();
        }
    }

    onUiLoaded(function() {
        // Presets may have been saved since the server sent out its first list.
        setTimeout(press, START_MS, "pivotal_presets_refresh");
        setTimeout(changed, START_MS);
    });

    return {answered, changed};
})();
