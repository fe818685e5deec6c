"use strict";
// A row of the differential count: a class, its cells, and a bar with its interval.

import { coloured, drawn, element, tableRow } from "./parts.js";

export function shareRow({ name, count, share, low, high }, longest) {
  const number = (value) => (100 * value).toFixed(1);
  const cells = { cells: count.toLocaleString("en"), "per cent": number(share), "95\u00a0% interval": `${number(low)} to ${number(high)}` };
  const made = tableRow([coloured(element("span", undefined, "chip"), name), name], cells, Object.keys(cells));
  const chart = element("td", undefined, "whisker");
  chart.append(whisker(...[share, low, high].map((value) => (100 * value) / longest), name));
  made.append(chart);
  return made;
}

// A bar up to the share, and a line from the lower to the upper limit, in per cent of the longest line.
function whisker(share, low, high, name) {
  const made = coloured(drawn("svg", { viewBox: "0 0 100 16", preserveAspectRatio: "none", "aria-hidden": "true" }), name);
  made.append(drawn("rect", { y: 3, width: share, height: 10 }), drawn("path", { d: `M${low} 8H${high}M${low} 4V12M${high} 4V12` }));
  return made;
}
