/* What the mouse and the keyboard do in the table of concepts. */

var pivotalNamesKeys = (function() {
    "use strict";

    function listen(table, place) {
        table.addEventListener("input", onInput);
        table.addEventListener("change", onChange);
        table.addEventListener("click", onClick);
        table.addEventListener("focusout", onLeave);
        place.addEventListener("keydown", onKey);
    }

    function itemOf(target) {
        return pivotalNames.rows()[Number(target.dataset.row)];
    }

    function onInput(event) {
        const cell = event.target;
        if (!cell.dataset.field) {
            return;
        }
        const item = itemOf(cell);
        const field = pivotalNamesTable.fieldOf(cell);
        pivotalNames.beginEdit(`${cell.dataset.row}/${cell.dataset.field}`);
        pivotalNames.put(item.values, field, pivotalNames.readValue(cell.value, field));
        item.problems = [];
        pivotalNamesTable.syncRow(Number(cell.dataset.row));
        pivotalNamesTable.syncTools();
        pivotalNames.write();
    }

    function onChange(event) {
        if (event.target.type === "checkbox" && "row" in event.target.dataset) {
            itemOf(event.target).isSelected = event.target.checked;
            pivotalNamesTable.sync();
        }
    }

    // A cell that is left shows what was understood, and the next change of it is another step.
    function onLeave(event) {
        pivotalNames.endEdit();
        const cell = event.target;
        if (cell.dataset.field && itemOf(cell)) {
            cell.value = pivotalNames.shownValue(itemOf(cell), pivotalNamesTable.fieldOf(cell));
        }
    }

    function onClick(event) {
        if (event.target.classList.contains("pivotal-names-open")) {
            const item = itemOf(event.target);
            item.isOpen = !item.isOpen;
            pivotalNamesTable.sync();
        }
    }

    function addBelow(row) {
        const added = pivotalNames.newItem(pivotalNames.valuesBelow(row));
        pivotalNames.change(() => pivotalNames.rows().splice(row + 1, 0, added));
        pivotalNamesTable.focusCell(row + 1, "name");
    }

    function removeSelected() {
        const items = pivotalNames.rows();
        const first = items.findIndex((item) => item.isSelected);
        if (first >= 0) {
            pivotalNames.change(() => pivotalNames.setRows(items.filter((item) => !item.isSelected)));
            pivotalNamesTable.focusCell(first, "name");
        }
    }

    function moveRows(row, by) {
        const items = pivotalNames.rows();
        const current = items[row];
        const moved = current.isSelected ? items.filter((item) => item.isSelected) : [current];
        const edge = by < 0 ? items[0] : items[items.length - 1];
        if (moved.includes(edge)) {
            return row;
        }
        pivotalNames.change(() => {
            for (const item of by < 0 ? moved : moved.slice().reverse()) {
                const at = items.indexOf(item);
                items.splice(at, 1);
                items.splice(at + by, 0, item);
            }
        });
        return items.indexOf(current);
    }

    function setForAll(field, text) {
        const items = pivotalNames.rows();
        const selected = items.filter((item) => item.isSelected);
        pivotalNames.change(() => {
            for (const item of selected.length ? selected : items) {
                pivotalNames.put(item.values, field, pivotalNames.readValue(text, field));
                item.problems = [];
            }
        });
    }

    // Moves the focus to the same control of another row; the last row gets a new one below it.
    function goTo(target, row) {
        const items = pivotalNames.rows();
        if (row >= items.length && !pivotalNames.isEmpty(items[items.length - 1])) {
            addBelow(items.length - 1);
        } else if (target.dataset.field) {
            pivotalNamesTable.focusCell(row, target.dataset.field);
        } else {
            const control = target.type === "checkbox" ? "[type=checkbox]" : ".pivotal-names-open";
            pivotalNamesTable.bodyOf(row).querySelector(control).focus();
        }
    }

    function onKey(event) {
        const {key, target} = event;
        const isText = target.matches("input[type=text]");
        const withControl = event.ctrlKey || event.metaKey;
        // While an input method composes a word, all keys belong to it.
        if (event.isComposing || pivotalNamesTable.contains("set", target)) {
            return;
        }
        const row = "row" in target.dataset ? Number(target.dataset.row) : -1;
        if (withControl && !event.altKey && key.toLowerCase() === "z") {
            event.shiftKey ? pivotalNames.redo() : pivotalNames.undo();
        } else if (withControl && !event.altKey && key.toLowerCase() === "y") {
            pivotalNames.redo();
        } else if (withControl || row < 0) {
            return;
        } else if (event.altKey && (key === "ArrowUp" || key === "ArrowDown")) {
            goTo(target, moveRows(row, key === "ArrowUp" ? -1 : 1));
        } else if (event.altKey) {
            return;
        } else if (key === "Delete" && !isText && pivotalNames.rows().some((item) => item.isSelected)) {
            removeSelected();
        } else if (key === "Enter" && target.tagName !== "BUTTON") {
            goTo(target, event.shiftKey ? row - 1 : row + 1);
        } else if ((key === "ArrowUp" || key === "ArrowDown") && isText) {
            pivotalNamesTable.focusCell(row + (key === "ArrowUp" ? -1 : 1), target.dataset.field);
        } else {
            return;
        }
        event.preventDefault();
        event.stopPropagation();
    }

    return {addBelow, listen, removeSelected, setForAll};
})();
