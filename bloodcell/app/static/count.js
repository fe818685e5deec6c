"use strict";
// The differential count of all fields on the page. The server has the statistics; here cells are only summed up.

import { at, element, MANY, percent, plural, sentence } from "./parts.js";
import { shareRow } from "./shares.js";

let latest, busy = false;

// Show the count of the fields among all results; while one is on its way, only the latest results wait.
export async function recount(done) {
  latest = done;
  if (busy) return;
  busy = true;
  while (latest) await update();
  busy = false;
}

async function update() {
  const done = latest, all = done.filter((one) => one.kind === "field").map((one) => one.answer);
  latest = undefined;
  const fields = [...new Map(all.map((one) => [one.picture, one])).values()]; // the same picture counts once
  at("count").hidden = !fields.length;
  if (!fields.length) return at("count-status").replaceChildren();
  const singles = done.filter((one) => one.answer.row).length;
  show(await ask(sums(fields)), fields, all.length - fields.length, singles);
}

async function ask(numbers) {
  try {
    const response = await fetch("/differential", { method: "POST", body: JSON.stringify(numbers) });
    return await response.json();
  } catch {
    return { reason: "no answer; bloodcell app has ended, or is busy" };
  }
}

function sums(fields) {
  const cells = fields.flatMap((one) => one.cells), counts = {}, left_out = {};
  for (const cell of cells) {
    const [group, name] = cell.left_out ? [left_out, cell.left_out] : [counts, cell.prediction];
    group[name] = (group[name] ?? 0) + 1;
  }
  const unlike = cells.filter((cell) => cell.unlike === true).length;
  return { counts, left_out, unlike, fields: fields.length, empty: fields.filter((one) => !one.cells.length).length };
}

function show(answer, fields, twice, singles) {
  at("count-table").hidden = !answer.shares?.length;
  at("count-corrected").hidden = !answer.corrected;
  if (answer.reason) {
    at("count-status").textContent = `The count failed: ${answer.reason}.`;
    return at("count-notes").replaceChildren();
  }
  const cells = fields.reduce((sum, one) => sum + one.cells.length, 0);
  const [most] = [...answer.shares].sort((one, other) => other.share - one.share);
  const found = `${answer.cells.toLocaleString("en")} of ${plural(cells, "cell")} in ${plural(fields.length, "field")} counted`;
  at("count-status").textContent = `${found}${most ? `; most frequent: ${most.name}, ${percent(most.share)}` : ""}.`;
  const shown = MANY ? answer.shares.filter((one) => one.count) : answer.shares, longest = Math.max(...shown.map((one) => one.high));
  at("count-rows").replaceChildren(...shown.map((one) => shareRow(one, longest)));
  const lines = [
    answer.left_out && `Not counted: ${answer.left_out}.`,
    singles && `${plural(singles, "picture")} of one cell or none ${singles === 1 ? "is" : "are"} not counted: only fields are.`,
    twice && `${plural(twice, "field")} dropped more than once ${twice === 1 ? "counts" : "count"} once.`,
    shown.length < answer.shares.length && "Classes without a cell are not listed.",
    answer.others && sentence(answer.others),
    answer.needed && sentence(answer.needed),
    ...answer.notes.map((note) => `Note: ${note}.`),
  ];
  at("count-notes").replaceChildren(...lines.filter(Boolean).map((line) => element("li", line)));
}
