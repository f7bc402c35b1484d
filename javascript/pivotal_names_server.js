/* What the server does for the table of concepts: it reads pasted text, whose notation it knows, writes the table as a
   file, and tells what a check, or the names and images by themselves, say about each row. */

var pivotalNamesServer = (function() {
    "use strict";

    const ANSWER_LOST_MS = 15000;

    let lastRequest = 0;
    const waiting = new Map();

    function ask(request, done) {
        const id = ++lastRequest;
        const timer = setTimeout(() => {
            waiting.delete(id);
            pivotalNamesTable.say(pivotalNames.known.words.failed);
        }, ANSWER_LOST_MS);
        waiting.set(id, {done, timer});
        const box = pivotalNames.hidden("request");
        box.value = JSON.stringify({id, ...request});
        updateInput(box);
        // Gradio takes over the value of the field before it handles the click.
        setTimeout(() => pivotalNames.element("pivotal_concepts_ask").click(), 0);
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
        const item = pivotalNames.rows()[Number(cell.dataset.row)];
        ask({action: "read", text, first: cell.dataset.field}, (values) => insert(item, values.rows));
    }

    function insert(item, rows) {
        if (!rows.length) {
            return;
        }
        const items = pivotalNames.rows();
        // Meanwhile the row may have been moved or removed.
        const at = items.includes(item) ? items.indexOf(item) : items.length - 1;
        pivotalNames.change(() => {
            if (rows.some((row) => row.name)) {
                const added = rows.map((row) => pivotalNames.newItem({...pivotalNames.valuesBelow(at), ...row}));
                pivotalNames.isEmpty(items[at]) ? items.splice(at, 1, ...added) : items.splice(at + 1, 0, ...added);
            } else {
                fillRows(items, at, rows);
            }
        });
        pivotalNamesTable.say(pivotalNames.fill(pivotalNames.known.words.pasted, {count: rows.length}));
    }

    // Columns without names belong to the rows that are there, from one of them on.
    function fillRows(items, at, rows) {
        rows.forEach((row, index) => {
            if (at + index === items.length) {
                items.push(pivotalNames.newItem(pivotalNames.valuesBelow(items.length - 1)));
            }
            Object.assign(items[at + index].values, row);
            items[at + index].problems = [];
        });
    }

    function exportNames() {
        const rows = pivotalNames.rows().filter((item) => !pivotalNames.isEmpty(item)).map((item) => item.values);
        ask({action: "write", rows}, (values) => {
            const url = URL.createObjectURL(new Blob([values.text], {type: "text/csv"}));
            pivotalNamesTable.make("a", {href: url, download: pivotalNames.known.words.file}).click();
            setTimeout(() => URL.revokeObjectURL(url), ANSWER_LOST_MS);
        });
    }

    // What a check found out, or what is known while the table is edited. Rows may have been moved since it was asked for.
    function report(text) {
        let found;
        try {
            found = pivotalNamesTable.isDrawn() && JSON.parse(text);
        } catch (error) {
            found = null; // nothing has been found out yet
        }
        if (!found) {
            return;
        }
        const items = pivotalNames.rows();
        const itemFor = (entry) => {
            const isIt = (item) => item && String(item.values.name || "").trim() === entry.name;
            return isIt(items[entry.row]) ? items[entry.row] : items.find(isIt);
        };
        pivotalNamesTable.summarize(found.summary);
        for (const item of items) {
            item.problems = item.problems.filter((problem) => found.is_live && !problem.isLive);
            item.report = found.rows || found.is_live ? null : item.report;
        }
        for (const entry of found.rows || []) {
            const item = itemFor(entry);
            if (item) {
                item.report = entry;
            }
        }
        for (const entry of found.problems) {
            const item = itemFor(entry);
            if (item && item.problems.every((problem) => problem.text !== entry.text)) {
                item.problems.push({...entry, isLive: found.is_live});
            }
        }
        pivotalNamesTable.sync();
    }

    return {answer, exportNames, onPaste, report};
})();
