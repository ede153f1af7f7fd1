// What the page has received, so that it can show each moment again. Bounded in time and in size. No DOM, no clock.
//
// For each node it keeps versions of the report. The state at a time is the last version of each node before it. A report
// that differs from the version before it only in figures (silence, bytes) is a new version once in a while.

/** The seconds that a live page can show again. */
export const LIVE_SPAN = 600;
/** The number of connections in all kept reports of a live page; a connection takes about 150 bytes. */
export const LIVE_BUDGET = 250000;
const MOST_EVENTS = 2000;
const SLOW = { groups: [], names: {}, shards: {} };
const FIGURES = new Set(["time", "silent", "in", "out", "queued", "uptime", "processes", "next", "for", "since"]);

export class History {
  constructor({ span = LIVE_SPAN, budget = LIVE_BUDGET } = {}) {
    this.span = span;
    this.budget = budget;
    this.versions = new Map(); // name → [{at, report or null, shape, size}], the oldest first
    this.events = [];
    this.observer = "";
    this.start = null;
    this.end = null;
    this.size = 0;
    this.knownEvents = new Set();
  }

  /** Keep one message: its type, its data and the time when it came. Times do not go back. */
  add(type, data, at) {
    const time = this.end === null ? at : Math.max(at, this.end);
    this.start ??= time;
    this.end = time;
    if (type === "snapshot") this.#addSnapshot(data, time);
    else if (type === "report") this.#addReport(data.report, time);
    else if (type === "gone") this.#addGone(data.node, time);
    else if (type === "event") this.#addEvent(data.event);
    this.#forget();
  }

  /** The reports at `time`: a Map from node names. */
  reportsAt(time) {
    const reports = new Map();
    for (const [name, versions] of this.versions) {
      const version = lastBefore(versions, time);
      if (version?.report) reports.set(name, version.report);
    }
    return reports;
  }

  /** The events until `time`, the oldest first. */
  eventsUntil(time) {
    let end = this.events.length;
    while (end > 0 && this.events[end - 1].time > time) end -= 1;
    return end === this.events.length ? this.events : this.events.slice(0, end);
  }

  /** The lines of a recording with everything that is kept: a snapshot, then all later messages by time. */
  lines() {
    if (this.start === null) return [];
    const first = this.reportsAt(this.start);
    const before = this.eventsUntil(this.start).slice(-500);
    const snapshot = { schema: 1, observer: this.observer, now: this.start, control: false, recorded: true, reports: Object.fromEntries(first), events: before };
    const later = [];
    for (const [name, versions] of this.versions) {
      for (const { at, report } of versions) {
        if (at > this.start) later.push(report ? { at, type: "report", report } : { at, type: "gone", node: name });
      }
    }
    for (const event of this.events) {
      if (event.time > this.start) later.push({ at: event.time, type: "event", event });
    }
    later.sort((a, b) => a.at - b.at);
    return [{ at: this.start, type: "snapshot", ...snapshot }, ...later].map((line) => JSON.stringify(line));
  }

  #addSnapshot(snapshot, at) {
    this.observer = snapshot.observer;
    const reports = new Map(Object.entries(snapshot.reports));
    for (const name of this.versions.keys()) {
      if (!reports.has(name)) this.#addGone(name, at);
    }
    for (const report of reports.values()) this.#addReport(report, at);
    for (const event of snapshot.events) this.#addEvent(event);
    this.events.sort((a, b) => a.time - b.time);
  }

  #addReport(received, at) {
    const versions = this.versions.get(received.node) ?? [];
    this.versions.set(received.node, versions);
    const last = versions.at(-1);
    const before = versions.at(-2);
    // A report leaves out its groups, names and shards if they are as before. Then versions share them.
    const report = { ...SLOW, ...slowParts(last?.report), ...received };
    const { groups, names, shards, ...fast } = received;
    const shape = JSON.stringify(fast, (key, value) => (FIGURES.has(key) && typeof value !== "object" ? undefined : value));
    const isSlow = [groups, names, shards].some((part) => part !== undefined);
    const slowShape = isSlow || !last?.slowShape ? JSON.stringify(slowParts(report)) : last.slowShape;
    const members = slowShape === last?.slowShape ? 0 : report.groups.reduce((sum, group) => sum + 1 + group.members.length, 0);
    const version = { at, report, shape, slowShape, size: 1 + Object.keys(report.links ?? {}).length + members };
    if (slowShape === last?.slowShape) Object.assign(report, slowParts(last.report));
    // Two versions with equal shapes: the second is replaced until the interval has passed.
    const isSame = [last, before].every((each) => each?.shape === shape && each?.slowShape === slowShape);
    if (isSame && at - before.at < this.#interval(version.size)) {
      versions[versions.length - 1] = version;
      this.size += version.size - last.size;
      return;
    }
    versions.push(version);
    this.size += version.size;
  }

  /** The seconds between two kept versions that differ in figures only. More nodes have fewer versions. */
  #interval(size) {
    return Math.max(1, (size * this.versions.size * this.span) / this.budget / 0.8);
  }

  #addGone(name, at) {
    const versions = this.versions.get(name);
    if (versions?.at(-1)?.report) {
      versions.push({ at, report: null, shape: null, slowShape: null, size: 1 });
      this.size += 1;
    }
  }

  #addEvent(event) {
    const key = `${event.time}|${event.id}|${event.text}`;
    if (this.knownEvents.has(key)) return; // a snapshot after a reconnect repeats events
    this.knownEvents.add(key);
    this.events.push(event);
    while (this.events.length > MOST_EVENTS) {
      const { time, id, text } = this.events.shift();
      this.knownEvents.delete(`${time}|${id}|${text}`);
    }
  }

  /** Drop what is older than the span. Over the budget, drop the oldest part. */
  #forget() {
    this.#dropBefore(this.end - this.span);
    while (this.size > this.budget && this.end - this.start > 1) this.#dropBefore(this.start + (this.end - this.start) / 10);
  }

  #dropBefore(time) {
    if (!(time > this.start)) return;
    this.start = time;
    for (const [name, versions] of this.versions) {
      let first = 0; // the last version before the new start stays: it is the state at the start
      while (first + 1 < versions.length && versions[first + 1].at <= time) first += 1;
      for (const { size } of versions.splice(0, first)) this.size -= size;
      if (versions.length === 1 && versions[0].report === null && versions[0].at <= time) {
        this.size -= versions[0].size;
        this.versions.delete(name);
      }
    }
  }
}

function slowParts(report) {
  return report ? { groups: report.groups, names: report.names, shards: report.shards } : {};
}

function lastBefore(versions, time) {
  let low = 0;
  let high = versions.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (versions[middle].at <= time) low = middle + 1;
    else high = middle;
  }
  return versions[low - 1];
}
