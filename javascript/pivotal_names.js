/* The table of concepts. A hidden text field holds them as JSON; the table shows what is in it and writes every change
   back at once, so nothing is lost when a button is pressed while a cell is being edited. Pasted text is read by the
   server, which knows the notation. */

var pivotalNames = (function() {
    "use strict";

    const MAX_UNDO = 200;
    const ANSWER_LOST_MS = 15000;
    const RETRY_MS = 500;
    const REPORTED = ["images", "alone", "share"];

    let place = null; // the element around the table
    let parts = {};
    let fields = [];
    let words = {};
    let copied = []; // settings that a new row takes from the row above it
    let items = []; // rows: {values, isSelected, isOpen, report, problems}
    let written = null; // the JSON that the table shows
    let undoSteps = [];
    let redoSteps = [];
    let editedCell = "";
    let summary = "";
    let lastRequest = 0;
    const waiting = new Map();

    function element(id) {
        return gradioApp().getElementById(id) || document.getElementById(id);
    }

    function hidden(end) {
        const component = element(`pivotal_concepts_${end}`);
        return component && component.querySelector("textarea, input");
    }

    function make(tag, properties, ...children) {
        const made = document.createElement(tag);
        for (const [name, value] of Object.entries(properties || {})) {
            name in made ? (made[name] = value) : made.setAttribute(name, value);
        }
        made.append(...children);
        return made;
    }

    function fill(text, values) {
        return text.replace(/\{(\w+)\}/g, (whole, name) => name in values ? values[name] : whole);
    }

    // The webui itself translates only whole texts: no tooltips of cells, names for screen readers or texts with numbers.
    function translate(text) {
        return (window.localization || {})[text] || text;
    }

    // ---- values of cells

    function shownValue(item, field) {
        const value = field.name in item.values ? item.values[field.name] : field.default;
        return Array.isArray(value) ? value.join(", ") : String(value === null ? "" : value);
    }

    // What an input says; undefined for an empty number, which means the default. What is not a number stays text.
    function readValue(text, field) {
        if (field.type === "tuple") {
            return text.split(",").map((part) => part.trim()).filter(Boolean);
        }
        if (field.type === "int" || field.type === "float") {
            const trimmed = text.trim();
            return trimmed === "" ? undefined : Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed;
        }
        return field.type === "bool" ? text === "true" : text;
    }

    function put(values, field, value) {
        if (value === undefined) {
            delete values[field.name];
        } else {
            values[field.name] = value;
        }
    }

    function isEmpty(item) {
        const {name, init_text, aliases} = item.values;
        return !name && !init_text && !(aliases && aliases.length);
    }

    function newItem(values) {
        return {values, isSelected: false, isOpen: false, report: null, problems: []};
    }

    // A new row has the numbers of the row above it, which a preset may have set.
    function valuesBelow(index) {
        const above = items[Math.min(index, items.length - 1)];
        const values = {name: ""};
        for (const name of copied) {
            if (above && name in above.values && typeof above.values[name] === "number") {
                values[name] = above.values[name];
            }
        }
        return values;
    }

    // ---- the hidden field

    function asText() {
        return JSON.stringify(items.map((item) => item.values));
    }

    function write() {
        const box = hidden("json");
        if (box) {
            written = asText();
            box.value = written;
            updateInput(box);
        }
    }

    function take() {
        const box = hidden("json");
        if (!box || box.value === written) {
            return;
        }
        let rows;
        try {
            rows = JSON.parse(box.value || "[]");
        } catch (error) {
            return; // a check says what is wrong
        }
        if (!Array.isArray(rows)) {
            return;
        }
        if (items.some((item) => !isEmpty(item))) {
            rememberStep();
        }
        written = box.value;
        show(rows);
    }

    // Called when the hidden field has changed, by the table or by the server. The field itself may show the new value
    // a moment later.
    function update() {
        if (place) {
            setTimeout(take, 0);
        }
    }

    function show(rows) {
        const before = items;
        items = rows.map((row, index) => {
            const values = row && typeof row === "object" && !Array.isArray(row) ? row : {name: ""};
            const old = before[index];
            if (old && JSON.stringify(old.values) === JSON.stringify(values)) {
                return old;
            }
            return {...newItem(values), isOpen: Boolean(old && old.isOpen)};
        });
        if (!items.length) {
            items = [newItem({name: ""})];
        }
        sync();
    }

    // ---- undo

    function rememberStep() {
        undoSteps.push(asText());
        undoSteps.splice(0, undoSteps.length - MAX_UNDO);
        redoSteps = [];
        editedCell = "";
    }

    function change(action) {
        rememberStep();
        action();
        if (!items.length) {
            items = [newItem({name: ""})];
        }
        sync();
        write();
    }

    function step(from, to) {
        if (from.length) {
            to.push(asText());
            editedCell = "";
            show(JSON.parse(from.pop()));
            write();
        }
    }

    function undo() {
        step(undoSteps, redoSteps);
    }

    function redo() {
        step(redoSteps, undoSteps);
    }

    // ---- drawing: rows of the page belong to positions, not to concepts, so the focus stays where it is

    function makeCell(field, row) {
        const label = fill(words.label, {label: field.label, row: row + 1});
        let cell;
        if (field.choices.length || field.type === "bool") {
            const choices = field.type === "bool" ? ["true", "false"] : field.choices;
            cell = make("select", {}, ...choices.map((choice) => make("option", {value: choice}, choice)));
        } else {
            const isNumber = field.type === "int" || field.type === "float";
            cell = make("input", {type: "text", inputMode: isNumber ? "decimal" : "text", spellcheck: false});
            cell.autocomplete = "off";
        }
        cell.setAttribute("aria-label", label);
        cell.title = field.help;
        cell.dataset.field = field.name;
        cell.dataset.row = String(row);
        return cell;
    }

    function makeRow(row) {
        const body = make("tbody");
        const box = make("input", {type: "checkbox"});
        box.setAttribute("aria-label", fill(words.select, {row: row + 1}));
        box.dataset.row = String(row);
        const more = make("button", {type: "button", className: "pivotal-names-open"}, "▸");
        more.setAttribute("aria-label", fill(words.more, {row: row + 1}));
        more.dataset.row = String(row);
        const basic = fields.filter((field) => field.level === "basic");
        const line = make("tr", {},
            make("th", {scope: "row"}, make("label", {}, box, ` ${row + 1}`)),
            ...basic.map((field) => make("td", {className: `pivotal-names-${field.type}`}, makeCell(field, row))),
            ...REPORTED.map((name) => make("td", {className: `pivotal-names-reported pivotal-names-${name}`})),
            make("td", {}, more));
        const rest = fields.filter((field) => field.level !== "basic").map(
            (field) => make("label", {title: field.help}, make("span", {}, field.label), makeCell(field, row)));
        const columns = basic.length + REPORTED.length + 1;
        const details = make("tr", {hidden: true}, make("td"),
            make("td", {colSpan: columns}, make("div", {className: "pivotal-names-more"}, ...rest)));
        const list = make("ul", {id: `pivotal_names_problems_${row}`, className: "pivotal-names-problems"});
        const problems = make("tr", {hidden: true}, make("td"), make("td", {colSpan: columns}, list));
        body.append(line, details, problems);
        body.shown = {line, box, more, details, problems, list, cells: Array.from(body.querySelectorAll("[data-field]"))};
        return body;
    }

    function fieldOf(cell) {
        return fields.find((field) => field.name === cell.dataset.field);
    }

    function syncRow(body, item) {
        const {line, box, more, details, problems, list, cells} = body.shown;
        for (const cell of cells) {
            const field = fieldOf(cell);
            const text = shownValue(item, field);
            const isSame = JSON.stringify(readValue(cell.value, field)) === JSON.stringify(item.values[field.name]);
            if (cell.value !== text && !(isSame && cell === document.activeElement)) {
                cell.value = text;
            }
            const found = item.problems.filter((problem) => problem.field === field.name);
            cell.setAttribute("aria-invalid", String(found.some((problem) => problem.severity === "error")));
            found.length ? cell.setAttribute("aria-describedby", list.id) : cell.removeAttribute("aria-describedby");
        }
        box.checked = item.isSelected;
        line.classList.toggle("pivotal-names-selected", item.isSelected);
        more.textContent = item.isOpen ? "▾" : "▸";
        more.setAttribute("aria-expanded", String(item.isOpen));
        details.hidden = !item.isOpen;
        for (const name of REPORTED) {
            line.querySelector(`.pivotal-names-${name}`).textContent = item.report ? item.report[name] : "";
        }
        line.classList.toggle("pivotal-unusual", Boolean(item.report && item.report.is_unusual));
        problems.hidden = !item.problems.length;
        list.replaceChildren(...item.problems.map(
            (problem) => make("li", {className: `pivotal-names-${problem.severity}`}, problem.text)));
    }

    function sync() {
        const table = parts.table;
        while (table.tBodies.length < items.length) {
            table.append(makeRow(table.tBodies.length));
        }
        while (table.tBodies.length > items.length) {
            table.tBodies[table.tBodies.length - 1].remove();
        }
        items.forEach((item, index) => syncRow(table.tBodies[index], item));
        syncTools();
    }

    function syncTools() {
        const selected = items.filter((item) => item.isSelected).length;
        const count = fill(words.count, {count: items.filter((item) => !isEmpty(item)).length});
        const chosen = selected ? fill(words.selected, {count: selected}) : "";
        parts.count.textContent = [count, summary, chosen].filter(Boolean).join(" · ");
        parts.remove.disabled = !selected;
        parts.undo.disabled = !undoSteps.length;
        parts.redo.disabled = !redoSteps.length;
        parts.all.checked = selected === items.length;
    }

    function tool(name, action) {
        const button = make("button", {type: "button", id: `pivotal_names_${name}`}, words[name]);
        button.addEventListener("click", action);
        parts[name] = button;
        return button;
    }

    function makeSetForAll() {
        const choices = fields.filter((field) => field.name !== "name");
        const select = make("select", {}, ...choices.map((field) => make("option", {value: field.name}, field.label)));
        const value = make("input", {type: "text", autocomplete: "off"});
        select.setAttribute("aria-label", words.setting);
        value.setAttribute("aria-label", words.value);
        const set = make("button", {type: "button"}, words.set);
        set.addEventListener("click", () => setForAll(fields.find((field) => field.name === select.value), value.value));
        value.addEventListener("keydown", (event) => {
            if (event.key === "Enter" && !event.isComposing) {
                event.preventDefault();
                set.click();
            }
        });
        return make("div", {className: "pivotal-names-set", hidden: true},
            make("label", {}, make("span", {}, words.setting), select),
            make("label", {}, make("span", {}, words.value), value), set);
    }

    function build() {
        parts = {};
        parts.count = make("span", {className: "pivotal-names-count"});
        parts.message = make("span", {className: "pivotal-names-message"});
        parts.message.setAttribute("role", "status");
        const tools = make("div", {className: "pivotal-names-tools"},
            tool("add", () => addBelow(items.length - 1)),
            tool("remove", removeSelected),
            tool("undo", undo),
            tool("redo", redo),
            tool("set_for_all", openSetForAll),
            tool("export", exportNames),
            parts.count, parts.message);
        tools.setAttribute("role", "toolbar");
        tools.setAttribute("aria-label", words.caption);
        parts.set = makeSetForAll();
        parts.set_for_all.setAttribute("aria-expanded", "false");
        parts.all = make("input", {type: "checkbox"});
        parts.all.setAttribute("aria-label", words.select_all);
        parts.all.addEventListener("change", () => {
            items.forEach((item) => (item.isSelected = parts.all.checked));
            sync();
        });
        const headings = fields.filter((field) => field.level === "basic").map(
            (field) => make("th", {scope: "col", title: field.help}, field.label));
        const reported = REPORTED.map((name) => make("th", {scope: "col"}, words[name]));
        const head = make("tr", {}, make("th", {scope: "col"}, parts.all), ...headings, ...reported, make("td"));
        parts.table = make("table", {}, make("caption", {}, words.caption), make("thead", {}, head));
        place.replaceChildren(tools, parts.set,
            make("div", {className: "pivotal-names-scroll"}, parts.table),
            make("div", {className: "pivotal-hint"}, words.keys));
        parts.table.addEventListener("input", onInput);
        parts.table.addEventListener("change", onChange);
        parts.table.addEventListener("click", onClick);
        parts.table.addEventListener("paste", onPaste);
        parts.table.addEventListener("focusout", onLeave);
        place.addEventListener("keydown", onKey);
    }

    function draw() {
        const found = gradioApp().querySelector("#pivotal_concepts_table .pivotal-names");
        if (!found || !hidden("json")) {
            setTimeout(draw, RETRY_MS);
            return;
        }
        place = found;
        const known = JSON.parse(place.dataset.known);
        fields = known.fields.map((field) => ({...field, label: translate(field.label), help: translate(field.help)}));
        words = Object.fromEntries(Object.entries(known.words).map(([name, text]) => [name, translate(text)]));
        copied = known.copied;
        build();
        items = [];
        show([]);
        take();
    }

    function say(text) {
        parts.message.textContent = text;
    }

    // ---- what the user does

    function itemOf(target) {
        return items[Number(target.dataset.row)];
    }

    function onInput(event) {
        const cell = event.target;
        if (!cell.dataset.field) {
            return;
        }
        const item = itemOf(cell);
        const name = `${cell.dataset.row}/${cell.dataset.field}`;
        if (editedCell !== name) {
            rememberStep();
            editedCell = name;
        }
        put(item.values, fieldOf(cell), readValue(cell.value, fieldOf(cell)));
        item.problems = [];
        syncRow(parts.table.tBodies[Number(cell.dataset.row)], item);
        syncTools();
        write();
    }

    function onChange(event) {
        if (event.target.type === "checkbox" && "row" in event.target.dataset) {
            itemOf(event.target).isSelected = event.target.checked;
            sync();
        }
    }

    // A cell that is left shows what was understood, and the next change of it is another step.
    function onLeave(event) {
        editedCell = "";
        const cell = event.target;
        if (cell.dataset.field && itemOf(cell)) {
            cell.value = shownValue(itemOf(cell), fieldOf(cell));
        }
    }

    function onClick(event) {
        if (event.target.classList.contains("pivotal-names-open")) {
            const item = itemOf(event.target);
            item.isOpen = !item.isOpen;
            sync();
        }
    }

    function focusCell(row, name) {
        const body = parts.table.tBodies[Math.max(0, Math.min(row, items.length - 1))];
        const cell = body.querySelector(`[data-field="${name}"]`);
        cell.focus();
        if (cell.select) {
            cell.select();
        }
    }

    function addBelow(row) {
        change(() => items.splice(row + 1, 0, newItem(valuesBelow(row))));
        focusCell(row + 1, "name");
    }

    function removeSelected() {
        const first = items.findIndex((item) => item.isSelected);
        if (first >= 0) {
            change(() => (items = items.filter((item) => !item.isSelected)));
            focusCell(first, "name");
        }
    }

    function moveRows(row, by) {
        const moved = items[row].isSelected ? items.filter((item) => item.isSelected) : [items[row]];
        const edge = by < 0 ? items[0] : items[items.length - 1];
        if (moved.includes(edge)) {
            return row;
        }
        const current = items[row];
        change(() => {
            for (const item of by < 0 ? moved : moved.slice().reverse()) {
                const at = items.indexOf(item);
                items.splice(at, 1);
                items.splice(at + by, 0, item);
            }
        });
        return items.indexOf(current);
    }

    function openSetForAll() {
        parts.set.hidden = !parts.set.hidden;
        parts.set_for_all.setAttribute("aria-expanded", String(!parts.set.hidden));
        if (!parts.set.hidden) {
            parts.set.querySelector("select").focus();
        }
    }

    function setForAll(field, text) {
        const selected = items.filter((item) => item.isSelected);
        change(() => {
            for (const item of selected.length ? selected : items) {
                put(item.values, field, readValue(text, field));
                item.problems = [];
            }
        });
    }

    // Moves the focus to the same control of another row; the last row gets a new one below it.
    function goTo(target, row) {
        if (row >= items.length && !isEmpty(items[items.length - 1])) {
            addBelow(items.length - 1);
        } else if (target.dataset.field) {
            focusCell(row, target.dataset.field);
        } else {
            const body = parts.table.tBodies[Math.max(0, Math.min(row, items.length - 1))];
            body.querySelector(target.type === "checkbox" ? "[type=checkbox]" : ".pivotal-names-open").focus();
        }
    }

    function onKey(event) {
        const {key, target} = event;
        const isText = target.matches("input[type=text]");
        const withControl = event.ctrlKey || event.metaKey;
        // While an input method composes a word, all keys belong to it.
        if (event.isComposing || (parts.set.contains(target))) {
            return;
        }
        const row = "row" in target.dataset ? Number(target.dataset.row) : -1;
        if (withControl && !event.altKey && key.toLowerCase() === "z") {
            event.shiftKey ? redo() : undo();
        } else if (withControl && !event.altKey && key.toLowerCase() === "y") {
            redo();
        } else if (withControl || row < 0) {
            return;
        } else if (event.altKey && (key === "ArrowUp" || key === "ArrowDown")) {
            goTo(target, moveRows(row, key === "ArrowUp" ? -1 : 1));
        } else if (event.altKey) {
            return;
        } else if (key === "Delete" && !isText && items.some((item) => item.isSelected)) {
            removeSelected();
        } else if (key === "Enter" && target.tagName !== "BUTTON") {
            goTo(target, event.shiftKey ? row - 1 : row + 1);
        } else if ((key === "ArrowUp" || key === "ArrowDown") && isText) {
            focusCell(row + (key === "ArrowUp" ? -1 : 1), target.dataset.field);
        } else {
            return;
        }
        event.preventDefault();
        event.stopPropagation();
    }

    // ---- what the server does

    function ask(request, done) {
        const id = ++lastRequest;
        const timer = setTimeout(() => {
            waiting.delete(id);
            say(words.failed);
        }, ANSWER_LOST_MS);
        waiting.set(id, {done, timer});
        const box = hidden("request");
        box.value = JSON.stringify({id, ...request});
        updateInput(box);
        // Gradio takes over the value of the field before it handles the click.
        setTimeout(() => element("pivotal_concepts_ask").click(), 0);
    }

    function answer(text) {
        let values;
        try {
            values = JSON.parse(text);
        } catch (error) {
            return; // the request failed, which a message of its own says
        }
        const request = waiting.get(values.id);
        if (request) {
            waiting.delete(values.id);
            clearTimeout(request.timer);
            request.done(values);
        }
    }

    function onPaste(event) {
        const cell = event.target;
        const text = event.clipboardData.getData("text/plain").replace(/\r\n?/g, "\n").replace(/^\n+|\n+$/g, "");
        if (!cell.dataset.field || !/[\t\n]/.test(text)) {
            return;
        }
        event.preventDefault();
        const item = itemOf(cell);
        ask({action: "read", text, first: cell.dataset.field}, (values) => insert(item, values.rows));
    }

    function insert(item, rows) {
        if (!rows.length) {
            return;
        }
        // Meanwhile the row may have been moved or removed.
        const at = items.includes(item) ? items.indexOf(item) : items.length - 1;
        const hasNames = rows.some((row) => row.name);
        change(() => {
            if (hasNames) {
                const added = rows.map((row) => newItem({...valuesBelow(at), ...row}));
                isEmpty(items[at]) ? items.splice(at, 1, ...added) : items.splice(at + 1, 0, ...added);
                return;
            }
            // Columns without names belong to the rows that are there, from this one on.
            rows.forEach((row, index) => {
                if (at + index === items.length) {
                    items.push(newItem(valuesBelow(items.length - 1)));
                }
                Object.assign(items[at + index].values, row);
                items[at + index].problems = [];
            });
        });
        say(fill(words.pasted, {count: rows.length}));
    }

    function exportNames() {
        ask({action: "write", rows: items.filter((item) => !isEmpty(item)).map((item) => item.values)}, (values) => {
            const url = URL.createObjectURL(new Blob([values.text], {type: "text/csv"}));
            make("a", {href: url, download: words.file}).click();
            setTimeout(() => URL.revokeObjectURL(url), ANSWER_LOST_MS);
        });
    }

    // What a check found out; rows may have been moved since it was asked for.
    function report(text) {
        let found;
        try {
            found = place && JSON.parse(text);
        } catch (error) {
            found = null; // there was no check yet
        }
        if (!found) {
            return;
        }
        const itemFor = (entry) => {
            const isIt = (item) => item && String(item.values.name || "").trim() === entry.name;
            return isIt(items[entry.row]) ? items[entry.row] : items.find(isIt);
        };
        summary = found.summary || summary;
        for (const item of items) {
            item.problems = [];
            item.report = found.rows ? null : item.report;
        }
        for (const entry of found.rows || []) {
            const item = itemFor(entry);
            if (item) {
                item.report = entry;
            }
        }
        for (const entry of found.problems) {
            const item = itemFor(entry);
            if (item) {
                item.problems.push(entry);
            }
        }
        sync();
    }

    onUiLoaded(draw);

    return {update, answer, report};
})();
