/* The concepts behind their table: rows, their values, and undo. A hidden text field holds them as JSON; every change is
   written back at once, so nothing is lost when a button is pressed while a cell is being edited. The table is drawn by
   pivotal_names_table.js, used through pivotal_names_keys.js, and what the server knows comes through
   pivotal_names_server.js. */

var pivotalNames = (function() {
    "use strict";

    const MAX_UNDO = 200;

    // What the page got from the server: settings of a concept, texts, and settings that a new row takes from the row above.
    const known = {fields: [], words: {}, copied: []};

    let items = []; // rows: {values, isSelected, isOpen, report, problems}
    let written = null; // the JSON that the table shows
    let undoSteps = [];
    let redoSteps = [];
    let editedCell = "";

    function element(id) {
        return gradioApp().getElementById(id) || document.getElementById(id);
    }

    function hidden(end) {
        const component = element(`pivotal_concepts_${end}`);
        return component && component.querySelector("textarea, input");
    }

    function fill(text, values) {
        return text.replace(/\{(\w+)\}/g, (whole, name) => name in values ? values[name] : whole);
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

    // ---- rows

    function rows() {
        return items;
    }

    function setRows(changed) {
        items = changed;
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
        for (const name of known.copied) {
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
        let found;
        try {
            found = JSON.parse(box.value || "[]");
        } catch (error) {
            return; // a check says what is wrong
        }
        if (!Array.isArray(found)) {
            return;
        }
        if (items.some((item) => !isEmpty(item))) {
            rememberStep();
        }
        written = box.value;
        show(found);
    }

    // Called when the hidden field has changed, by the table or by the server. The field itself may show the new value
    // a moment later.
    function update() {
        if (pivotalNamesTable.isDrawn()) {
            setTimeout(take, 0);
        }
    }

    function show(found) {
        const before = items;
        items = found.map((row, index) => {
            const values = row && typeof row === "object" && !Array.isArray(row) ? row : {name: ""};
            const old = before[index];
            if (old && JSON.stringify(old.values) === JSON.stringify(values)) {
                return old;
            }
            return {...newItem(values), isOpen: Boolean(old && old.isOpen)};
        });
        keepOneRow();
        pivotalNamesTable.sync();
    }

    function keepOneRow() {
        if (!items.length) {
            items = [newItem({name: ""})];
        }
    }

    // Called when the table has been drawn for the first time.
    function begin(sent) {
        Object.assign(known, sent);
        items = [];
        show([]);
        take();
    }

    // ---- changes and undo

    function rememberStep() {
        undoSteps.push(asText());
        undoSteps.splice(0, undoSteps.length - MAX_UNDO);
        redoSteps = [];
        editedCell = "";
    }

    function change(action) {
        rememberStep();
        action();
        keepOneRow();
        pivotalNamesTable.sync();
        write();
    }

    // All that is typed into one cell is one step.
    function beginEdit(cell) {
        if (editedCell !== cell) {
            rememberStep();
            editedCell = cell;
        }
    }

    function endEdit() {
        editedCell = "";
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

    function canUndo() {
        return {undo: undoSteps.length > 0, redo: redoSteps.length > 0};
    }

    return {
        begin, beginEdit, canUndo, change, element, endEdit, fill, hidden, isEmpty, known, newItem, put, readValue, redo,
        rows, setRows, shownValue, undo, update, valuesBelow, write,
    };
})();
