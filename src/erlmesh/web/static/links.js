// The connection of two nodes, decided from what each of them says of the other. Pure functions.
import { OLD_AFTER, ageOf, isFresh } from "./nodes.js";
import { aliveName, bytes, duration } from "./text.js";

const DEFAULT_TICK_TIME = 60;

/** The key of a pair of nodes: both names, sorted, with "|" between them. */
export function linkKey(one, other) {
  return one < other ? `${one}|${other}` : `${other}|${one}`;
}

/**
 * What the node `from` says of its connection to `to`. `state` is one of
 * - "up", "silent", "slow" (the other node reads slowly), "connecting", "reconnecting", "down"
 * - "absent": its report does not name the other node
 * - "unknown": there is no report of it
 * `current` is false if its report is old. Then the state is the last one known.
 *
 * A peer sends something at least once in half of the net tick time, so a longer silence is a fault.
 */
export function sideView(reports, from, to, now) {
  const report = reports.get(from);
  if (!report || !report.alive || report.source === "none") return { from, to, state: "unknown", current: false };
  const current = isFresh(report, now);
  const limit = report.tick_time || DEFAULT_TICK_TIME;
  const links = report.links ?? {};
  if (!Object.hasOwn(links, to)) return { from, to, state: "absent", current, limit };
  const link = links[to];
  const age = Math.min(ageOf(report, now), OLD_AFTER);
  const side = {
    from,
    to,
    state: link.state,
    current,
    limit,
    silent: Number.isFinite(link.silent) ? link.silent + age : null,
    sent: link.out ?? 0,
    received: link.in ?? 0,
    queued: link.queued ?? 0,
    suspended: Boolean(link.suspended),
    reason: link.reason ?? null,
    attempt: link.attempt ?? null,
    next: Number.isFinite(link.next) ? Math.max(0, link.next - ageOf(report, now)) : null,
  };
  if (side.state === "up" && side.silent !== null && side.silent >= limit / 2) side.state = "silent";
  if (side.state === "up" && link.slow) side.state = "slow";
  return side;
}

/**
 * The connection of the nodes `a` and `b` (sorted), from both sides. `state` is
 * - "up", "silent" or "slow": all sides with a current report have the connection; the worst counts
 * - "one-sided": one side has the connection and the other one does not; `seenBy` is the side that has it
 * - "reconnecting", "connecting", "down": no side has it
 * - "absent": neither report names the other node
 * - "unknown": no report of either side
 */
export function linkView(reports, a, b, now) {
  const sides = [sideView(reports, a, b, now), sideView(reports, b, a, now)];
  const told = sides.filter((side) => side.state !== "unknown");
  const current = told.filter((side) => side.current);
  const voices = current.length > 0 ? current : told;
  const link = { key: `${a}|${b}`, a, b, sides, state: "unknown", seenBy: null };
  const having = voices.filter(hasConnection);
  if (voices.length === 0) return link;
  if (having.length === voices.length) {
    link.state = ["silent", "slow"].find((state) => having.some((side) => side.state === state)) ?? "up";
  } else if (having.length > 0) {
    link.state = "one-sided";
    link.seenBy = having[0].from;
  } else {
    link.state = ["reconnecting", "connecting", "down", "absent"].find((state) => voices.some((side) => side.state === state)) ?? "absent";
  }
  return link;
}

/** Whether a side says that it has the connection. */
export function hasConnection(side) {
  return side.state === "up" || side.state === "silent" || side.state === "slow";
}

/**
 * The bytes per second that flow from each end: [a to b, b to a]. The sides measure both; the greater figure counts. An old report
 * does not tell what flows now.
 */
export function flowOf(link) {
  const [a, b] = link.sides.map((side) => (side.current && hasConnection(side) ? side : {}));
  return [Math.max(a.sent ?? 0, b.received ?? 0), Math.max(b.sent ?? 0, a.received ?? 0)];
}

/** All connections that are worth drawing. Pairs that have none on purpose (a hidden or lost node) are left out. */
export function linksToDraw(reports, names, now) {
  const links = [];
  for (let first = 0; first < names.length; first += 1) {
    for (let second = first + 1; second < names.length; second += 1) {
      const link = linkView(reports, names[first], names[second], now);
      if (link.state === "unknown") continue;
      if (link.state === "absent" && !expectsMesh(reports, names[first], names[second])) continue;
      links.push(link);
    }
  }
  return links;
}

/** Two visible nodes that run belong to one full mesh. */
function expectsMesh(reports, a, b) {
  return [a, b].every((name) => {
    const report = reports.get(name);
    return Boolean(report) && report.alive && !report.hidden && report.source !== "none";
  });
}

/** What is wrong with a connection, in few words, or an empty text: "silent for 41 of 60 s". */
export function troubleText(link) {
  const lead = link.sides.find((side) => side.state === link.state && side.current) ?? link.sides.find((side) => side.state === link.state);
  switch (link.state) {
    case "silent":
      return lead ? `silent for ${Math.floor(lead.silent)} of ${Math.round(lead.limit)} s` : "silent";
    case "slow":
      return lead ? `${aliveName(lead.to)} reads slowly: ${bytes(lead.queued)} wait` : "slow";
    case "one-sided":
      return `only ${aliveName(link.seenBy)} has it`;
    case "reconnecting":
      return reconnectText(lead);
    case "connecting":
      return "connecting";
    case "down":
      return lead?.reason ? `down: ${lead.reason}` : "down";
    case "absent":
      return "not connected";
    default:
      return "";
  }
}

function reconnectText(side) {
  const attempt = side?.attempt ? ` (attempt ${side.attempt})` : "";
  if (side?.next === null || side?.next === undefined) return `reconnecting${attempt}`;
  return side.next > 0 ? `reconnects in ${Math.ceil(side.next)} s${attempt}` : `reconnects now${attempt}`;
}

/** The words for a screen reader: "socrates@host and plato@host: up, 4.1 kB/s". */
export function linkLabel(link) {
  const total = flowOf(link)[0] + flowOf(link)[1];
  const state = troubleText(link) || "up";
  return `${link.a} and ${link.b}: ${state}${total > 0 ? `, ${bytes(total)}/s` : ""}`;
}

/** What one side says, as pairs of a name and a value, for the details of a connection. */
export function sideFacts(side) {
  if (side.state === "unknown") return [["state", "no report"]];
  const facts = [["state", side.state === "absent" ? "not connected" : side.state]];
  if (!side.current) facts.push(["report", "old"]);
  if (side.silent !== null && side.silent !== undefined) facts.push(["silence", `${duration(side.silent)} of ${Math.round(side.limit)} s`]);
  if (hasConnection(side)) {
    facts.push(["sends", `${bytes(side.sent)}/s`], ["receives", `${bytes(side.received)}/s`]);
  }
  if (side.queued) facts.push(["queued", bytes(side.queued)]);
  if (side.suspended) facts.push(["suspended", "yes"]);
  if (side.reason) facts.push(["reason", side.reason]);
  if (side.attempt) facts.push(["attempt", String(side.attempt)]);
  if (side.next !== null && side.next !== undefined) facts.push(["next attempt", `in ${duration(side.next)}`]);
  return facts;
}
