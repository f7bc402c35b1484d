/* Draws the table of concepts and its tools. Rows of the page belong to positions, not to concepts, so the focus stays
   where it is. */

var pivotalNamesTable = (function() {
    "use strict";

    const RETRY_MS = 500;
    const REPORTED = ["images", "alone", "share", "views"];

    let place = null; // the element around the table
    let parts = {};
    let summary = "";

    const known = {}; // as in pivotalNames

    function make(tag, properties, ...children) {
        const made = document.createElement(tag);
        for (const [name, value] of Object.entries(properties || {})) {
            name in made ? (made[name] = value) : made.setAttribute(name, value);
        }
        made.append(...children);
        return made;
    }

    function isDrawn() {
        return place !== null;
    }

    function fieldOf(cell) {
        return known.fields.find((field) => field.name === cell.dataset.field);
    }

    // ---- rows

    function makeCell(field, row) {
        const label = pivotalNames.fill(known.words.label, {label: field.label, row: row + 1});
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
        box.setAttribute("aria-label", pivotalNames.fill(known.words.select, {row: row + 1}));
        box.dataset.row = String(row);
        const more = make("button", {type: "button", className: "pivotal-names-open"}, "▸");
        more.setAttribute("aria-label", pivotalNames.fill(known.words.more, {row: row + 1}));
        more.dataset.row = String(row);
        const basic = known.fields.filter((field) => field.level === "basic");
        const line = make("tr", {},
            make("th", {scope: "row"}, make("label", {}, box, ` ${row + 1}`)),
            ...basic.map((field) => make("td", {className: `pivotal-names-${field.type}`}, makeCell(field, row))),
            ...REPORTED.map((name) => make("td", {className: `pivotal-names-reported pivotal-names-${name}`})),
            make("td", {}, more));
        const rest = known.fields.filter((field) => field.level !== "basic").map(
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

    function syncCell(cell, item, list) {
        const field = fieldOf(cell);
        const text = pivotalNames.shownValue(item, field);
        const read = pivotalNames.readValue(cell.value, field);
        const isSame = JSON.stringify(read) === JSON.stringify(item.values[field.name]);
        if (cell.value !== text && !(isSame && cell === document.activeElement)) {
            cell.value = text;
        }
        const found = item.problems.filter((problem) => problem.field === field.name);
        cell.setAttribute("aria-invalid", String(found.some((problem) => problem.severity === "error")));
        found.length ? cell.setAttribute("aria-describedby", list.id) : cell.removeAttribute("aria-describedby");
    }

    function syncRow(row) {
        const item = pivotalNames.rows()[row];
        const {line, box, more, details, problems, list, cells} = parts.table.tBodies[row].shown;
        cells.forEach((cell) => syncCell(cell, item, list));
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
        const items = pivotalNames.rows();
        while (table.tBodies.length < items.length) {
            table.append(makeRow(table.tBodies.length));
        }
        while (table.tBodies.length > items.length) {
            table.tBodies[table.tBodies.length - 1].remove();
        }
        items.forEach((item, index) => syncRow(index));
        syncTools();
    }

    // ---- tools

    function syncTools() {
        const {words} = known;
        const items = pivotalNames.rows();
        const selected = items.filter((item) => item.isSelected).length;
        const used = items.filter((item) => !pivotalNames.isEmpty(item)).length;
        const count = pivotalNames.fill(words.count, {count: used});
        const chosen = selected ? pivotalNames.fill(words.selected, {count: selected}) : "";
        parts.count.textContent = [count, summary, chosen].filter(Boolean).join(" · ");
        const can = pivotalNames.canUndo();
        parts.remove.disabled = !selected;
        parts.undo.disabled = !can.undo;
        parts.redo.disabled = !can.redo;
        parts.all.checked = selected === items.length;
    }

    function tool(name, action) {
        const button = make("button", {type: "button", id: `pivotal_names_${name}`}, known.words[name]);
        button.addEventListener("click", action);
        parts[name] = button;
        return button;
    }

    function makeSetForAll() {
        const {fields, words} = known;
        const choices = fields.filter((field) => field.name !== "name");
        const select = make("select", {}, ...choices.map((field) => make("option", {value: field.name}, field.label)));
        const value = make("input", {type: "text", autocomplete: "off"});
        select.setAttribute("aria-label", words.setting);
        value.setAttribute("aria-label", words.value);
        const set = make("button", {type: "button"}, words.set);
        set.addEventListener("click", () => pivotalNamesKeys.setForAll(
            fields.find((field) => field.name === select.value), value.value));
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

    function openSetForAll() {
        parts.set.hidden = !parts.set.hidden;
        parts.set_for_all.setAttribute("aria-expanded", String(!parts.set.hidden));
        if (!parts.set.hidden) {
            parts.set.querySelector("select").focus();
        }
    }

    function makeTools() {
        parts.count = make("span", {className: "pivotal-names-count"});
        parts.message = make("span", {className: "pivotal-names-message"});
        parts.message.setAttribute("role", "status");
        const tools = make("div", {className: "pivotal-names-tools"},
            tool("add", () => pivotalNamesKeys.addBelow(pivotalNames.rows().length - 1)),
            tool("remove", () => pivotalNamesKeys.removeSelected()),
            tool("undo", pivotalNames.undo),
            tool("redo", pivotalNames.redo),
            tool("set_for_all", openSetForAll),
            tool("export", () => pivotalNamesServer.exportNames()),
            parts.count, parts.message);
        tools.setAttribute("role", "toolbar");
        tools.setAttribute("aria-label", known.words.caption);
        parts.set = makeSetForAll();
        parts.set_for_all.setAttribute("aria-expanded", "false");
        return tools;
    }

    // ---- the whole

    function makeHead() {
        parts.all = make("input", {type: "checkbox"});
        parts.all.setAttribute("aria-label", known.words.select_all);
        parts.all.addEventListener("change", () => {
            pivotalNames.rows().forEach((item) => (item.isSelected = parts.all.checked));
            sync();
        });
        const headings = known.fields.filter((field) => field.level === "basic").map(
            (field) => make("th", {scope: "col", title: field.help}, field.label));
        const reported = REPORTED.map(
            (name) => make("th", {scope: "col", title: known.words[`${name}_help`]}, known.words[name]));
        return make("thead", {},
            make("tr", {}, make("th", {scope: "col"}, parts.all), ...headings, ...reported, make("td")));
    }

    function build() {
        parts = {};
        const tools = makeTools();
        parts.table = make("table", {}, make("caption", {}, known.words.caption), makeHead());
        place.replaceChildren(tools, parts.set,
            make("div", {className: "pivotal-names-scroll"}, parts.table),
            make("div", {className: "pivotal-hint"}, known.words.keys));
        pivotalNamesKeys.listen(parts.table, place);
        parts.table.addEventListener("paste", pivotalNamesServer.onPaste);
    }

    // The webui itself translates only whole texts: no tooltips of cells, names for screen readers or texts with numbers.
    function translate(text) {
        return (window.localization || {})[text] || text;
    }

    function translated({fields, words, copied}) {
        return {
            fields: fields.map((field) => ({...field, label: translate(field.label), help: translate(field.help)})),
            words: Object.fromEntries(Object.entries(words).map(([name, text]) => [name, translate(text)])),
            copied,
        };
    }

    function draw() {
        const found = gradioApp().querySelector("#pivotal_concepts_table .pivotal-names");
        if (!found || !pivotalNames.hidden("json")) {
            setTimeout(draw, RETRY_MS);
            return;
        }
        place = found;
        const sent = translated(JSON.parse(place.dataset.known));
        Object.assign(known, sent);
        build();
        pivotalNames.begin(sent);
    }

    function say(text) {
        parts.message.textContent = text;
    }

    function summarize(text) {
        summary = text || summary;
    }

    function contains(name, target) {
        return parts[name].contains(target);
    }

    // Moves the focus into a cell; rows beyond the last one stand for the last one.
    function focusCell(row, name) {
        const cell = bodyOf(row).querySelector(`[data-field="${name}"]`);
        cell.focus();
        if (cell.select) {
            cell.select();
        }
    }

    function bodyOf(row) {
        return parts.table.tBodies[Math.max(0, Math.min(row, pivotalNames.rows().length - 1))];
    }

    onUiLoaded(draw);

    return {bodyOf, contains, fieldOf, focusCell, isDrawn, make, say, summarize, sync, syncRow, syncTools};
})();
