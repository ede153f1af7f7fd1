// The events and the time bar: which moment the page shows.
import { element, keyed, setAttributes, setText } from "./dom.js";
import { MOST_SHOWN, shownEvents, toneOf } from "./events.js";
import { renderChoices } from "./lists_view.js";
import { clockTime, duration, shortened } from "./text.js";

export class EventsView {
  constructor({ list, choice }, onChange) {
    Object.assign(this, { list, choice });
    choice.addEventListener("change", onChange);
  }

  render(events, nodes) {
    renderChoices(this.choice, [["", "all nodes"], ...nodes.map(({ name }) => [name, name])]);
    keyed(this.list, shownEvents(events, this.choice.value), keyOfEvent, newEvent);
  }
}

function keyOfEvent(event) {
  return `${event.time}|${event.id}|${event.text}`;
}

function newEvent(event) {
  const text = element("span", { class: "what" }, event.text);
  if (event.reason && !event.text.includes(event.reason)) text.append(element("span", { class: "reason" }, ` ${event.reason}`));
  return element(
    "li",
    { "data-event": event.kind, "data-subject": event.subject, "data-peer": event.peer, "data-tone": toneOf(event) },
    element("time", { datetime: isoTime(event.time) }, clockTime(event.time)),
    text,
    element("span", { class: "observer", title: "the node that saw it" }, event.observer ?? ""),
  );
}

function isoTime(unix) {
  const date = new Date(unix * 1000);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString();
}

/**
 * The shown moment. `shown` is null while the page is live, else a Unix time. Playing moves it, and a live page becomes live
 * again when it reaches the present.
 */
export class TimeBar {
  constructor({ slider, play, live, speed, shownTime, marks }, onChange) {
    Object.assign(this, { slider, play, live, speed, shownTime, marks, onChange });
    this.shown = null;
    this.playing = false;
    this.range = [0, 0];
    slider.addEventListener("input", () => this.show(this.range[0] + Number(slider.value)));
    play.addEventListener("click", () => this.setPlaying(!this.playing));
    live.addEventListener("click", () => this.goLive());
  }

  /** Show a moment; null is the present. */
  show(time) {
    this.shown = time;
    this.onChange();
  }

  goLive() {
    this.playing = false;
    this.show(null);
  }

  setPlaying(playing) {
    if (playing && (this.shown === null || this.shown >= this.range[1])) this.shown = this.range[0];
    this.playing = playing;
    this.onChange();
  }

  /** Move on by the real seconds since the last call. */
  advance(seconds) {
    if (!this.playing) return;
    this.shown = Math.min(this.range[1], (this.shown ?? this.range[0]) + seconds * Number(this.speed.value));
    if (this.shown >= this.range[1]) this.playing = false;
    this.onChange();
  }

  render({ range, events, canBeLive }) {
    this.range = range;
    const [start, end] = range;
    const length = Math.max(0, end - start);
    const shown = this.shown === null ? end : Math.max(start, Math.min(end, this.shown));
    const text = this.shown === null ? "live" : `${clockTime(shown)}, ${duration(end - shown)} before the ${canBeLive ? "present" : "end"}`;
    setAttributes(this.slider, { max: length.toFixed(1), "aria-valuetext": text });
    const value = (shown - start).toFixed(1);
    if (this.slider.value !== value) this.slider.value = value;
    setText(this.play, this.playing ? "Pause" : "Play");
    setAttributes(this.live, { "aria-pressed": String(this.shown === null) });
    setText(this.shownTime, this.shown === null ? clockTime(end) : text);
    const marks = events.filter((event) => event.time >= start && toneOf(event) !== "plain").slice(-MOST_SHOWN);
    keyed(this.marks, marks, keyOfEvent, (event) => element("i", { "data-tone": toneOf(event), title: shortened(event.text, 80) }), (mark, event) => {
      const left = `${((100 * (event.time - start)) / (length || 1)).toFixed(1)}%`;
      if (mark.style.left !== left) mark.style.left = left;
    });
  }
}
