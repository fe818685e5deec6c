"use strict";
// What follows from the labels: the differential count, the agreement of readers, and a classifier that has learnt.

import { at, CLASSES, element, percent, plural, sentence } from "./parts.js";
import { ask, send } from "./review.js";
import { shareRow } from "./shares.js";

const CALM = 600; // milliseconds after the last label until the count follows
let timer, before = "";

// Labels have changed: count again when no further one comes.
export function told() {
  if (!at("share-rows")) return; // a blind reader
  clearTimeout(timer);
  timer = setTimeout(() => { count().catch(() => {}); agree().catch(() => {}); }, CALM);
}

async function count() {
  const slide = at("slide").value ? at("slide").selectedOptions[0].text : "";
  const found = await ask(`count?slide=${encodeURIComponent(slide)}`);
  const longest = Math.max(...found.shares.map((one) => one.high));
  at("share-rows").replaceChildren(...found.shares.map((one) => shareRow(one, longest)));
  at("share-table").hidden = !found.shares.length;
  at("share-status").textContent = `${plural(found.cells, "white cell")} ${found.cells === 1 ? "counts" : "count"}, ${found.confirmed.toLocaleString("en")} of them by your labels or other readers'.`;
  const lines = [found.corrected && "The shares are corrected by the confusions of the classifier, but for cells with a label.", found.left_out && `Not counted: ${found.left_out}.`, found.others && sentence(found.others), found.needed && sentence(found.needed), ...found.notes.map((note) => `Note: ${note}.`)];
  at("share-notes").replaceChildren(...lines.filter(Boolean).map((line) => element("li", line)));
}

async function agree() {
  const { lines } = await ask("agreement");
  at("agreement").replaceChildren(...lines.map((line) => element("li", `${line}.`)));
  at("alone").hidden = lines.length > 0;
}

// Show how far an adaptation is; it is asked for with all else that goes on.
export function learning(state) {
  const now = JSON.stringify(state);
  if (now === before || !at("learn")) return;
  before = now;
  const runs = state.state === "runs", done = state.state === "done", active = document.activeElement;
  at("learn").hidden = runs || done;
  at("learn-bar").hidden = at("cancel").hidden = !runs;
  at("discard").hidden = at("outcome").hidden = !done;
  at("accept").hidden = !done || state.result.kept !== "adapted"; // else it is the classifier that there is
  at("learn-bar").max = state.of ?? 1;
  at("learn-bar").value = state.done ?? 0;
  const said = { none: state.why ? `The adaptation is ${state.why}.` : "", runs: `Learning: ${state.what}, step ${state.done} of ${state.of}.`, failed: `It has not learnt: ${state.why}.`, done: "It has learnt." };
  at("learn-status").textContent = said[state.state];
  if (state.state === "failed") at("discard").hidden = false, at("learn").hidden = true;
  if (done) outcome(state);
  if (active?.hidden) ["accept", "cancel", "discard", "learn"].map(at).find((one) => !one.hidden).focus();
}

function outcome({ result, folder }) {
  const { kept, cells, classes, why } = result;
  at("outcome-rows").replaceChildren(...[["before", result.before], ["after", result.after]].map(([name, one]) => {
    const made = element("tr"), head = element("th", name), number = element("td", percent(one.value), "n");
    head.scope = "row";
    made.append(head, number, element("td", `${percent(one.low)} to ${percent(one.high)}`, "n"));
    return made;
  }));
  at("outcome-why").textContent = `${kept === "adapted" ? "The new classifier is kept in" : "The classifier stays as it is. A copy is in"} ${folder}. ${why}`;
  at("outcome-cells").textContent = `Of ${plural(cells, "labelled cell")}: ${Object.entries(classes).map(([name, number]) => `${number} ${name}`).join(", ")}.`;
}

async function act(action) {
  try {
    learning(await send("learn", { action }));
    if (action === "accept") at("learn-status").textContent = "The cells are judged anew with the new classifier.";
  } catch (error) {
    at("learn-status").textContent = `${error.message}.`;
  }
}

for (const action of ["start", "cancel", "accept", "discard"]) at({ start: "learn" }[action] ?? action)?.addEventListener("click", () => act(action));
at("learn-panel")?.addEventListener("keydown", (event) => { if (event.key === "Escape" && !at("cancel").hidden) act("cancel"); });
at("slide").addEventListener("change", told);
at("keys").textContent = CLASSES.length > 9 ? "1 to 9 for the first nine classes" : `1 to ${CLASSES.length} for the classes`;
