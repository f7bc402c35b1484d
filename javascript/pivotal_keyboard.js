/* Opens and closes the tab's accordions with the keyboard: those of Gradio 3 react to the mouse only. */

(function() {
    "use strict";

    // Host: Gradio 3.41.2, js/accordion: the heading is a div of this class, which also has the class "open" while the
    // accordion is open. From Gradio 4 on it is a button.
    const HEADING = "div.label-wrap";

    function prepare(heading) {
        const show = () => heading.setAttribute("aria-expanded", String(heading.classList.contains("open")));
        heading.setAttribute("role", "button");
        heading.tabIndex = 0;
        show();
        new MutationObserver(show).observe(heading, {attributes: true, attributeFilter: ["class"]});
    }

    function press(event) {
        if (["Enter", " "].includes(event.key) && event.target.matches(HEADING)) {
            event.preventDefault();
            event.target.click();
        }
    }

    onUiLoaded(function() {
        const tab = gradioApp().querySelector("#pivotal_tab");
        if (tab) {
            tab.querySelectorAll(HEADING).forEach(prepare);
            tab.addEventListener("keydown", press);
        }
    });
})();
