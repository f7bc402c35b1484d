/* The page's side of the Pivotal Tuning tab: polls the server while training is in progress and shows the webui's own
   progress bar. It stores nothing about a run: everything comes from the server, so nothing is lost when the page is reloaded. */

var pivotal = (function() {
    "use strict";

    const POLL_MS = 2000;
    const ANSWER_LOST_MS = 15000;

    let isActive = false;
    let isQueueOn = false;
    let hasAnswer = false;
    let requestedAt = 0;
    let isWaiting = false;
    let barTaskId = null;

    function element(id) {
        return gradioApp().getElementById(id) || document.getElementById(id);
    }

    // Hidden buttons stay in the page, and their handlers are protected by the webui's login.
    function press(id) {
        const button = element(id);
        if (button) {
            button.click();
        }
        return Boolean(button);
    }

    function refresh() {
        isWaiting = press("pivotal_run_refresh");
        requestedAt = Date.now();
    }

    function attachBar(taskId) {
        const container = element("pivotal_progress_here");
        // The webui hides the bar until its settings have been loaded: wait for the next answer.
        if (barTaskId === taskId || !container || !("show_progressbar" in opts)) {
            return;
        }
        barTaskId = taskId;
        requestProgress(taskId, container, element("pivotal_live"), function() {
            // The bar of the next run may be there already.
            if (barTaskId === taskId) {
                barTaskId = null;
            }
            // The model is being restored: refresh when that is done, and attach the bar again if it disappeared too early.
            setTimeout(refresh, POLL_MS / 2);
        }, null);
    }

    // Called with the server's answer after every event of the tab.
    function update(text) {
        isWaiting = false;
        let status;
        try {
            status = JSON.parse(text);
        } catch (error) {
            return;
        }
        const isChange = !hasAnswer || (status.is_active && !isActive);
        if (isActive && !status.is_active) {
            document.dispatchEvent(new CustomEvent("pivotal-run-ended"));
        }
        hasAnswer = true;
        isActive = status.is_active;
        isQueueOn = status.is_queue_on;
        if (isActive) {
            attachBar(status.task_id);
        }
        if (isChange) {
            refresh();
        }
    }

    function poll() {
        const now = Date.now();
        const answerIsLost = isWaiting && now - requestedAt > ANSWER_LOST_MS;
        // Between two runs of the queue none is active.
        if ((isActive || isQueueOn) && !document.hidden && (!isWaiting || answerIsLost)) {
            refresh();
        }
    }

    function addTo(selector, words) {
        const field = gradioApp().querySelector(selector);
        if (field && words && !field.value.includes(words)) {
            field.value = field.value.trim() ? field.value.trim() + ", " + words : words;
            updateInput(field);
        }
    }

    // Negative embeddings are in a second line, as in the text that describes an image.
    function sendToPrompt(words) {
        if (!words) {
            return;
        }
        const [prompt, negative] = words.split("\nNegative prompt: ");
        addTo("#txt2img_prompt textarea", prompt);
        addTo("#txt2img_neg_prompt textarea", negative);
        switch_to_txt2img();
    }

    function copyWords(words) {
        if (navigator.clipboard && window.isSecureContext) {
            navigator.clipboard.writeText(words);
            return;
        }
        // Pages that are served neither over https nor from this computer have no clipboard object.
        const field = element("pivotal_result_words").querySelector("textarea, input");
        field.select();
        document.execCommand("copy");
    }

    // Right after loading, buttons may be missing or not connected yet: press until the first answer arrives.
    function start() {
        if (!hasAnswer) {
            press("pivotal_run_load");
            setTimeout(start, POLL_MS);
        }
    }

    // Host: javascript/hints.js, 1.6.1 to 1.10.1: labels that the webui has, too, such as "Seed", would get its tooltips, which
    // are about making images. Elements with a tooltip are left alone.
    function keepOwnHints() {
        gradioApp().querySelectorAll("#pivotal_tab [data-testid=block-info]").forEach((label) => {
            if (label.textContent in titles && label.nextElementSibling) {
                label.title = label.nextElementSibling.textContent;
            }
        });
    }

    onUiLoaded(function() {
        start();
        keepOwnHints();
        setInterval(poll, POLL_MS);
    });
    onUiTabChange(function() {
        const tab = element("tab_pivotal");
        // Training may have been started through the API or from another page.
        if (hasAnswer && tab && tab.style.display !== "none") {
            refresh();
        }
    });

    return {update, sendToPrompt, copyWords};
})();
