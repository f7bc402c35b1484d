/* Values of the chart: shows those of the step that the mouse points at, or that the arrow keys have chosen. The chart
   is replaced while a run goes on; what was shown stays shown, and the chart keeps the focus. */

var pivotalChart = (function() {
    "use strict";

    const SVG = "http://www.w3.org/2000/svg";

    let chosen = null; // The step shown; null shows none.
    let hasFocus = false;
    let drawn = null; // The chart that shows it.

    function chartOf(target) {
        return target && target.closest ? target.closest(".pivotal-chart") : null;
    }

    function dataOf(chart) {
        if (!chart.pivotalData) {
            chart.pivotalData = JSON.parse(chart.dataset.chart);
        }
        return chart.pivotalData;
    }

    // The last point at or before a step: a value holds until the next one.
    function pointAt(points, step) {
        let found = points[0];
        for (const point of points) {
            if (point[0] > step) {
                break;
            }
            found = point;
        }
        return found;
    }

    function nearest(points, step) {
        return points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
    }

    function show(chart, step) {
        const data = dataOf(chart);
        const values = chart.querySelector(".pivotal-chart-values");
        const svg = chart.querySelector("svg.pivotal-plot");
        svg.querySelectorAll(".pivotal-plot-cursor").forEach((line) => line.remove());
        chosen = step;
        drawn = chart;
        if (step === null) {
            values.textContent = values.dataset.hint;
            return;
        }
        const x = data.left + (step - data.first) / Math.max(data.last - data.first, 1e-12) * (data.right - data.left);
        const cursor = document.createElementNS(SVG, "line");
        const places = {x1: x, x2: x, y1: 12, y2: 194};
        Object.entries(places).forEach(([name, value]) => cursor.setAttribute(name, String(value)));
        cursor.setAttribute("class", "pivotal-plot-cursor");
        svg.appendChild(cursor);
        const shown = data.lines.map((line) => `${line.label} ${pointAt(line.points, step)[1]}`);
        values.textContent = [data.step.replace("{step}", String(step)), ...shown].join(" · ");
    }

    function onMove(event) {
        const chart = chartOf(event.target);
        const svg = event.target.closest ? event.target.closest("svg.pivotal-plot") : null;
        if (!chart || !svg) {
            if (drawn && chosen !== null && !hasFocus) {
                show(drawn, null);
            }
            return;
        }
        const data = dataOf(chart);
        const box = svg.getBoundingClientRect();
        const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
        const share = Math.min(Math.max((x - data.left) / (data.right - data.left), 0), 1);
        show(chart, nearest(data.lines[0].points, data.first + share * (data.last - data.first))[0]);
    }

    function onKey(event) {
        const chart = chartOf(event.target);
        if (!chart || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) {
            return;
        }
        event.preventDefault();
        const steps = dataOf(chart).lines[0].points.map((point) => point[0]);
        const at = chosen === null ? steps.length - 1 : steps.indexOf(nearest(dataOf(chart).lines[0].points, chosen)[0]);
        const moved = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: steps.length - 1}[event.key];
        show(chart, steps[Math.min(Math.max(moved, 0), steps.length - 1)]);
    }

    function onFocus(event) {
        const chart = chartOf(event.target);
        if (chart) {
            hasFocus = true;
            const points = dataOf(chart).lines[0].points;
            show(chart, chosen === null ? points[points.length - 1][0] : chosen);
        }
    }

    function onBlur(event) {
        const chart = chartOf(event.target);
        // A chart that is being replaced loses the focus too, and its successor gets it back: look when that is over.
        setTimeout(function() {
            if (chart && chart.isConnected && !chart.contains(document.activeElement)) {
                hasFocus = false;
                show(chart, null);
            }
        });
    }

    function restore() {
        const chart = document.querySelector(".pivotal-chart") || gradioApp().querySelector(".pivotal-chart");
        if (!chart || chart === drawn || (chosen === null && !hasFocus)) {
            return;
        }
        const isLost = !document.activeElement || document.activeElement === document.body;
        if (hasFocus && isLost) {
            chart.querySelector("svg.pivotal-plot").focus({preventScroll: true});
        } else {
            hasFocus = hasFocus && isLost;
        }
        if (chosen !== null) {
            show(chart, chosen);
        }
    }

    onUiLoaded(function() {
        const root = gradioApp();
        root.addEventListener("mousemove", onMove);
        root.addEventListener("keydown", onKey);
        root.addEventListener("focusin", onFocus);
        root.addEventListener("focusout", onBlur);
        const place = root.querySelector("#pivotal_run_plot");
        if (place) {
            new MutationObserver(restore).observe(place, {childList: true, subtree: true});
        }
    });

    return {};
})();
