/* Offers the embedding names of the LoRAs in a prompt as the user types. If the extension "tagcomplete" is
   installed, its list shows them instead. */

var pivotalCompletion = (function() {
    "use strict";

    const PROMPTS = "#txt2img_prompt textarea, #txt2img_neg_prompt textarea, #img2img_prompt textarea, " +
        "#img2img_neg_prompt textarea, #hires_prompt textarea, #hires_neg_prompt textarea";
    const TAG = /<(?:lora|lyco):([^>]+)>/g;
    const FRESH_MS = 20000;
    const SHORTEST = 2;
    const MAX_SUGGESTIONS = 12;

    const known = new Map();
    let list = null;
    let field = null;
    let found = [];
    let chosen = 0;
    let caretAt = 0;
    let lastEvent = 0;

    function positivePrompts(textarea) {
        const tab = textarea.closest("#tab_img2img") ? "img2img" : "txt2img";
        const wanted = `#${tab}_prompt textarea` + (tab === "txt2img" ? ", #hires_prompt textarea" : "");
        return Array.from(gradioApp().querySelectorAll(wanted), (prompt) => prompt.value).join("\n");
    }

    async function namesOf(tag) {
        const kept = known.get(tag);
        if (kept && Date.now() - kept.at < FRESH_MS) {
            return kept.names;
        }
        const answer = await fetch("pivotal/page/bundled?tag=" + encodeURIComponent(tag));
        const names = answer.ok ? (await answer.json()).names : [];
        known.set(tag, {names, at: Date.now()});
        return names;
    }

    async function namesFor(textarea) {
        const tags = Array.from(positivePrompts(textarea).matchAll(TAG), (match) => match[1]);
        const lists = await Promise.all(Array.from(new Set(tags), namesOf));
        return lists.flat();
    }

    // The names that the text before the caret may be a prefix of, and how many of their characters are already typed.
    function matches(before, names) {
        const text = before.toLowerCase();
        const result = [];
        for (const item of names) {
            const written = asWritten(item.name).toLowerCase();
            for (let length = Math.min(written.length - 1, text.length); length >= SHORTEST; length--) {
                const start = text.length - length;
                const isWordStart = start === 0 || !/[\p{L}\p{N}_]/u.test(text[start - 1]) ||
                    !/[\p{L}\p{N}_]/u.test(written[0]);
                if (isWordStart && text.endsWith(written.slice(0, length))) {
                    result.push({name: item.name, vectors: item.vectors, length});
                    break;
                }
            }
        }
        return result.slice(0, MAX_SUGGESTIONS);
    }

    // Brackets change the weight in a prompt unless they are escaped.
    function asWritten(name) {
        return name.replace(/([()[\]])/g, "\\$1");
    }

    function close() {
        found = [];
        if (list) {
            list.hidden = true;
        }
    }

    function show() {
        if (!list) {
            list = document.createElement("ul");
            list.className = "pivotal-completion";
            list.setAttribute("role", "listbox");
            document.body.appendChild(list);
        }
        list.replaceChildren(...found.map((item, index) => {
            const row = document.createElement("li");
            row.setAttribute("role", "option");
            row.setAttribute("aria-selected", String(index === chosen));
            const count = document.createElement("small");
            count.textContent = item.vectors === 1 ? "1 vector" : `${item.vectors} vectors`;
            row.append(item.name, count);
            // On mousedown, which comes before the text field loses the focus.
            row.addEventListener("mousedown", (event) => {
                event.preventDefault();
                insert(item);
            });
            return row;
        }));
        const place = field.getBoundingClientRect();
        list.style.left = `${place.left + window.scrollX}px`;
        list.style.top = `${place.bottom + window.scrollY}px`;
        list.hidden = false;
    }

    // The list completes the text before the caret, so it is of no use once the caret is somewhere else.
    function caretHasMoved() {
        return field.selectionStart !== caretAt || field.selectionEnd !== caretAt;
    }

    function insert(item) {
        const isOutdated = caretHasMoved();
        close();
        if (!isOutdated) {
            field.setRangeText(asWritten(item.name), caretAt - item.length, caretAt, "end");
            updateInput(field);
        }
    }

    async function onInput(event) {
        const textarea = event.target;
        if (!(textarea instanceof HTMLTextAreaElement) || !textarea.matches(PROMPTS)) {
            return;
        }
        const eventNumber = ++lastEvent;
        let names = [];
        try {
            names = await namesFor(textarea);
        } catch (error) {
            names = []; // the server is busy or gone, so there is no list
        }
        // The answer to an older text may arrive after the answer to a newer one.
        if (eventNumber !== lastEvent || hasTagcomplete() || document.activeElement !== textarea) {
            return;
        }
        field = textarea;
        chosen = 0;
        caretAt = textarea.selectionEnd;
        found = matches(textarea.value.slice(0, caretAt), names);
        found.length ? show() : close();
    }

    function onKey(event) {
        const hasModifier = event.ctrlKey || event.altKey || event.metaKey;
        // While an input method composes a word, these keys are part of it.
        if (!found.length || event.target !== field || hasModifier || event.isComposing) {
            return;
        }
        const steps = {ArrowDown: 1, ArrowUp: -1};
        if (event.key in steps) {
            chosen = (chosen + steps[event.key] + found.length) % found.length;
            show();
        } else if (event.key === "Tab" || event.key === "Enter") {
            insert(found[chosen]);
        } else if (event.key === "Escape") {
            close();
        } else {
            return;
        }
        event.preventDefault();
        event.stopPropagation();
    }

    function hasTagcomplete() {
        return typeof PARSERS !== "undefined" && typeof BaseTagParser !== "undefined";
    }

    // Tagcomplete asks for suggestions at every key press; it gets the names loaded so far.
    function feedTagcomplete() {
        const offered = () => {
            const area = document.activeElement;
            if (!(area instanceof HTMLTextAreaElement) || !area.matches(PROMPTS)) {
                return [];
            }
            const tags = Array.from(positivePrompts(area).matchAll(TAG), (match) => match[1]);
            const names = Array.from(new Set(tags), (tag) => (known.get(tag) || {names: []}).names).flat();
            return matches(area.value.slice(0, area.selectionStart), names);
        };
        // Tagcomplete replaces exactly the word that it found before the caret.
        const replaceable = () => offered().filter(
            (item) => typeof tagword === "undefined" || item.length === tagword.length);
        PARSERS.push(new class extends BaseTagParser {
            parse() {
                return replaceable().map((item) => {
                    const result = new AutocompleteResult(asWritten(item.name), ResultType.embedding);
                    result.meta = "bundled";
                    return result;
                });
            }
        }(() => replaceable().length > 0));
    }

    onUiLoaded(function() {
        if (hasTagcomplete()) {
            feedTagcomplete();
        }
        document.addEventListener("input", onInput);
        document.addEventListener("keydown", onKey, true);
        document.addEventListener("focusout", close);
        document.addEventListener("selectionchange", () => {
            if (found.length && caretHasMoved()) {
                close();
            }
        });
    });

    return {matches};
})();
