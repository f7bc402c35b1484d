/* The page's side of the part "Data set": buttons within the server's HTML send what they say to the server.
   It stores nothing about the images. */

var pivotalImages = (function() {
    "use strict";

    const POLL_MS = 2000;
    const START_MS = 1500;

    let last = null;
    let timer = null;

    function element(id) {
        return gradioApp().getElementById(id) || document.getElementById(id);
    }

    function put(id, text) {
        const field = element(id)?.querySelector("textarea, input");
        if (field) {
            field.value = text;
            updateInput(field);
        }
        return Boolean(field);
    }

    function send(action) {
        last = JSON.parse(action);
        if (put("pivotal_browser_action", action)) {
            element("pivotal_browser_act").click();
        }
    }

    // Called after the server's answer: what was asked for gets the focus, so that the keyboard goes on from there.
    function acted() {
        if (!last) {
            return;
        }
        const isOpened = last.do === "open";
        const target = isOpened ? "#pivotal_browser_details [tabindex]" : "#pivotal_browser_cards [tabindex]";
        const isFocused = ["open", "page"].includes(last.do);
        last = null;
        // Gradio puts the answer into the page a moment later.
        setTimeout(function() {
            const field = isFocused ? gradioApp().querySelector(target) : null;
            if (field) {
                field.focus({preventScroll: true});
                field.scrollIntoView({block: "nearest"});
            }
        }, 100);
    }

    // Called with the state of a job that writes captions: asks again until it has ended.
    function jobIs(job) {
        clearTimeout(timer);
        if (job === "active") {
            timer = setTimeout(poll, POLL_MS);
        }
    }

    function poll() {
        const button = element("pivotal_browser_poll");
        if (button) {
            button.click();
        }
    }

    function onClick(event) {
        const button = event.target.closest ? event.target.closest("[data-pivotal]") : null;
        if (button && !button.disabled) {
            event.preventDefault();
            send(button.dataset.pivotal);
        }
    }

    // The server knows which core tags are ticked when another button is pressed.
    function onChange(event) {
        const box = event.target;
        if (!box.matches || !box.matches("[data-pivotal-concept]")) {
            return;
        }
        const ticks = {};
        for (const other of gradioApp().querySelectorAll("#pivotal_browser_core_tags [data-pivotal-concept]")) {
            const name = other.dataset.pivotalConcept;
            ticks[name] = (ticks[name] || []).concat(other.checked ? [other.dataset.pivotalTag] : []);
        }
        put("pivotal_browser_ticks", JSON.stringify(ticks));
    }

    onUiLoaded(function() {
        document.addEventListener("click", onClick);
        document.addEventListener("change", onChange);
        // A job may have been started before the page was reloaded.
        setTimeout(poll, START_MS);
    });

    return {acted, jobIs};
})();
