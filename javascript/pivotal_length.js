/* Asks for the length of the planned run once the settings have stopped changing, and for the presets once the page is
   there. Gradio calls changed() for every setting that a person or a button has changed. */

var pivotalLength = (function() {
    "use strict";

    const QUIET_MS = 600;
    const START_MS = 1500;

    let timer = null;

    function press(id) {
        const button = gradioApp().getElementById(id) || document.getElementById(id);
        if (button) {
            button.click();
        }
    }

    function changed() {
        clearTimeout(timer);
        timer = setTimeout(press, QUIET_MS, "pivotal_length_refresh");
    }

    onUiLoaded(function() {
        // Presets may have been saved since the server sent out its first list.
        setTimeout(press, START_MS, "pivotal_presets_refresh");
        setTimeout(changed, START_MS);
    });

    return {changed};
})();
