/* What our scripts use of the webui's page, as small as possible, for pages without a webui. */

var opts = {show_progressbar: true};

var titles = {Seed: "of an image"};

function gradioApp() {
    return document;
}

function updateInput(target) {
    const event = new Event("input", {bubbles: true});
    Object.defineProperty(event, "target", {value: target});
    target.dispatchEvent(event);
}

var standIns = {loaded: [], updated: [], tabChanged: [], isLoaded: false, tab: null};

function onUiLoaded(callback) {
    standIns.loaded.push(callback);
}

function onUiUpdate(callback) {
    standIns.updated.push(callback);
}

var onAfterUiUpdate = onUiUpdate;

function onUiTabChange(callback) {
    standIns.tabChanged.push(callback);
}

function onOptionsChanged() {}

function randomId() {
    return `task(${Math.random().toString(36).slice(2)})`;
}

function localSet(name, value) {
    localStorage.setItem(name, value);
}

function localGet(name, otherwise) {
    return localStorage.getItem(name) || otherwise;
}

function localRemove(name) {
    localStorage.removeItem(name);
}

function requestProgress(taskId, container) {
    const bar = document.createElement("div");
    bar.className = "progressDiv";
    bar.textContent = taskId;
    container.append(bar);
}

function switch_to_txt2img() {
    document.querySelector("#tabs button").click();
}

document.addEventListener("DOMContentLoaded", function() {
    new MutationObserver(function() {
        if (!standIns.isLoaded && document.querySelector("#txt2img_prompt")) {
            standIns.isLoaded = true;
            standIns.loaded.forEach((callback) => callback());
        }
        standIns.updated.forEach((callback) => callback());
        const tab = document.querySelector("#tabs button.selected");
        if (tab && tab !== standIns.tab) {
            standIns.tab = tab;
            standIns.tabChanged.forEach((callback) => callback());
        }
    }).observe(document, {childList: true, subtree: true});
});
