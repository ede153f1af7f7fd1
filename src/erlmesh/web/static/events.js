// Which events are shown, and what is said of them. Pure functions.
import { counted } from "./text.js";

/** The number of events that the page shows at once. */
export const MOST_SHOWN = 200;

const BAD = new Set(["node_down", "link_down", "silent", "slow", "busy", "dropped"]);
const GOOD = new Set(["node_up", "link_up", "heard", "fast", "free"]);

/** "bad", "good" or "plain": the colour of an event. */
export function toneOf(event) {
  if (BAD.has(event.kind)) return "bad";
  return GOOD.has(event.kind) ? "good" : "plain";
}

/** The events that concern `node` (all without one), the newest first, at most MOST_SHOWN. */
export function shownEvents(events, node = "") {
  const shown = [];
  for (let index = events.length - 1; index >= 0 && shown.length < MOST_SHOWN; index -= 1) {
    if (!node || concerns(events[index], node)) shown.push(events[index]);
  }
  return shown;
}

/** Whether the event is about the node, or seen by it. */
export function concerns(event, node) {
  return event.subject === node || event.peer === node || event.observer === node;
}

/** What a screen reader says of new events: the text of one or two, or the number of them. */
export function announcement(events) {
  if (events.length === 0) return "";
  if (events.length <= 2) return events.map((event) => event.text).join(" ");
  const bad = events.filter((event) => toneOf(event) === "bad").length;
  return `${counted(events.length, "event")}, ${bad} of them bad. The last one: ${events.at(-1).text}`;
}
