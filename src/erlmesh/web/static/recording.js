// Reads a recording: JSON lines, a snapshot and then reports, ends of nodes, and events. No DOM.
import { History } from "./history.js";

/** The largest file that the page opens, in bytes. */
export const LARGEST_RECORDING = 256 * 1024 * 1024;
const TYPES = new Set(["snapshot", "report", "gone", "event"]);

/** A recording that cannot be shown. Its message says which line is wrong. */
export class BadRecording extends Error {}

/**
 * The history that the text of a recording holds, and its last snapshot.
 *
 * The last line may be cut off: a recorder that was killed leaves such a file. Raises BadRecording for another line.
 */
export function readRecording(text) {
  const history = new History({ span: Infinity, budget: Infinity });
  const lines = text.split("\n");
  const last = lines.findLastIndex((line) => line.trim());
  let snapshot = null;
  lines.forEach((line, index) => {
    if (!line.trim()) return;
    const entry = parsed(line, index + 1, index === last && snapshot !== null);
    if (entry === null) return;
    const type = entry.type ?? (entry.schema ? "snapshot" : undefined);
    if (snapshot === null && type !== "snapshot") throw new BadRecording("Line 1 is not a snapshot. Choose a file that `erlmesh map --record` or this page has written.");
    if (!TYPES.has(type)) return; // a later version may record more
    const data = checked(type, entry, index + 1);
    if (type === "snapshot") snapshot = data;
    const at = entry.at ?? entry.now;
    if (!Number.isFinite(at)) throw new BadRecording(`Line ${index + 1} has no time.`);
    history.add(type, data, at);
  });
  if (snapshot === null) throw new BadRecording("The file is empty.");
  return { history, snapshot };
}

function parsed(line, number, mayBeCut) {
  try {
    const entry = JSON.parse(line);
    if (entry !== null && typeof entry === "object" && !Array.isArray(entry)) return entry;
  } catch {
    if (mayBeCut) return null;
  }
  throw new BadRecording(`Line ${number} is not a JSON object.`);
}

function checked(type, entry, number) {
  const wrong = (what) => new BadRecording(`Line ${number} has no ${what}.`);
  if (type === "snapshot") {
    const snapshot = entry.snapshot ?? entry;
    if (snapshot.schema !== 1) throw new BadRecording(`Line ${number} has schema ${snapshot.schema}. This page reads schema 1.`);
    if (!isObject(snapshot.reports) || !Object.values(snapshot.reports).every(isReport)) throw wrong("reports");
    if (!isListOf(snapshot.events, isEvent)) throw wrong("events");
    return snapshot;
  }
  if (type === "report" && !isReport(entry.report)) throw wrong("report");
  if (type === "gone" && typeof entry.node !== "string") throw wrong("node");
  if (type === "event" && !isEvent(entry.event)) throw wrong("event");
  return entry;
}

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

function isListOf(value, isItem) {
  return Array.isArray(value) && value.every(isItem);
}

function isTableOf(value, isItem) {
  return isObject(value) && Object.values(value).every(isItem);
}

function hasTexts(value, ...names) {
  return isObject(value) && names.every((name) => typeof value[name] === "string");
}

/** Parts that a report leaves out, or that are not known, are checked no further. */
function isAbsent(value) {
  return value === undefined || value === null;
}

function isEvent(value) {
  return hasTexts(value, "kind", "text", "observer") && Number.isFinite(value.time);
}

function isReport(value) {
  if (!hasTexts(value, "node") || !Number.isFinite(value.time)) return false;
  const { busy, links, groups, names, shards } = value;
  return (
    (isAbsent(busy) || (isObject(busy) && (isAbsent(busy.line) || typeof busy.line === "string"))) &&
    (isAbsent(links) || isTableOf(links, (link) => hasTexts(link, "state") && (isAbsent(link.reason) || typeof link.reason === "string"))) &&
    (isAbsent(groups) || isListOf(groups, (group) => hasTexts(group, "scope", "group") && isListOf(group.members, isPlace))) &&
    (isAbsent(names) || isTableOf(names, isPlace)) &&
    (isAbsent(shards) || isTableOf(shards, (set) => isObject(set) && isTableOf(set.holders, (held) => isListOf(held, Number.isInteger))))
  );
}

function isPlace(value) {
  return hasTexts(value, "pid", "node");
}
