// What one node looks like: decided from its report and the time. Pure functions.
import { byText, duration, isForeign } from "./text.js";

/** A report that is older than this many seconds is marked as old. The server has a new one every two seconds. */
export const OLD_AFTER = 6;

/** The seconds since the report was made. */
export function ageOf(report, now) {
  return Math.max(0, now - report.time);
}

/** Whether the report says what its node sees now: the node is alive, was asked, and answered recently. */
export function isFresh(report, now) {
  return Boolean(report) && report.alive && report.source !== "none" && ageOf(report, now) < OLD_AFTER;
}

/** All known nodes, sorted: those with a report, and those that a report has a connection to. */
export function nodeNames(reports) {
  const names = new Set(reports.keys());
  for (const report of reports.values()) {
    if (!report.alive) continue;
    for (const [peer, link] of Object.entries(report.links ?? {})) {
      if (link.state === "up") names.add(peer);
    }
  }
  return [...names].sort(byText);
}

/**
 * A node as the page shows it. `state` is one of
 * - "gone": no node is connected with it
 * - "busy": code holds its event loop; `warning` names the line
 * - "old": its last report is old, so nobody knows how it is now
 * - "unknown": only other nodes tell of it
 * - "up"
 */
export function nodeView(name, report, now) {
  if (!report) return { name, state: "unknown", kind: "unknown", badge: "not asked", warning: "", hidden: false, age: null };
  const age = ageOf(report, now);
  const view = { name, state: "up", kind: report.kind, badge: badgeOf(report), warning: "", hidden: Boolean(report.hidden), age };
  if (!report.alive) return { ...view, state: "gone", warning: "gone" };
  if (report.source === "none") return { ...view, state: "unknown" };
  if (report.busy) return { ...view, state: "busy", warning: busyText(report.busy, now) };
  if (age >= OLD_AFTER) return { ...view, state: "old", warning: `last report ${duration(age)} ago` };
  return view;
}

/** "Python 1.0 · native", "BEAM · OTP 25 · hidden". */
function badgeOf(report) {
  const parts = [];
  if (report.kind === "python") {
    parts.push("Python");
    if (report.build) parts.push(report.build);
  } else if (report.kind === "beam") {
    parts.push("BEAM");
    if (report.otp) parts.push(`OTP ${report.otp}`);
  } else {
    parts.push("kind unknown");
  }
  if (report.hidden) parts.push("hidden");
  if (isForeign(report.node)) parts.push("name not ASCII");
  return parts.join(" · ");
}

/** "busy 3.2 s: model.py:12 in predict". The folder of the file is only in the details, because there is little room. */
function busyText(busy, now) {
  const seconds = Number.isFinite(busy.since) ? now - busy.since : busy.for; // an early recording has no begin
  const held = Number.isFinite(seconds) ? ` ${duration(seconds)}` : "";
  const line = busy.line ? `: ${busy.line.replace(/^.*\//, "")}` : "";
  return `busy${held}${line}${busy.gil ? " (holds the GIL)" : ""}`;
}

/** The words for a screen reader: "plato@host, BEAM · OTP 25, last report 12 s ago". */
export function nodeLabel(view) {
  const state = view.state === "up" ? "up" : view.warning || "known from other nodes only";
  return `${view.name}, ${view.badge}, ${state}`;
}
