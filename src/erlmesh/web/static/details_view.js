// The details of the selected node or connection, with buttons if the server allows them.
import { element, facts, keyed, setAttributes, setText } from "./dom.js";
import { hasConnection, linkLabel, linkView, sideFacts, troubleText } from "./links.js";
import { nodeView } from "./nodes.js";
import { aliveName, duration, isForeign, shortened, spelt } from "./text.js";

export class DetailsView {
  /** `onSelect` as for the mesh; `onControl(action, data)` when the user presses a button. */
  constructor({ body, title, hint, unselect }, onSelect, onControl) {
    Object.assign(this, { body, title, hint, unselect, onSelect, onControl });
    unselect.addEventListener("click", () => onSelect(null));
  }

  render({ selected, reports, links, now, control }) {
    this.hint.hidden = Boolean(selected);
    this.unselect.hidden = !selected;
    const kind = selected ? (selected.node === undefined ? "link" : "node") : "nothing";
    const key = selected ? `${kind} ${selected.node ?? selected.link}` : "";
    setText(this.title, kind === "node" ? selected.node : kind === "link" ? selected.link.split("|").map(aliveName).join(" – ") : "Selection");
    keyed(this.body, selected ? [key] : [], (item) => item, () => (kind === "node" ? newNodeDetails(this) : newLinkDetails(this)), (root) => {
      if (kind === "node") updateNode(root, selected.node, { reports, links, now, control });
      else updateLink(root, selected.link, { reports, now, control });
    });
  }
}

function newNodeDetails(view) {
  const root = element("div", {}, element("dl", { class: "facts" }), element("div", { class: "row controls" }), element("h3", {}, "Connections"), element("ul", { class: "links-of" }));
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.open) view.onSelect({ link: button.dataset.open });
    if (button?.dataset.control === "ping") view.onControl("ping", { node: root.dataset.of });
  });
  return root;
}

function updateNode(root, name, { reports, links, now, control }) {
  const [list, controls, , own] = root.children;
  const report = reports.get(name);
  const view = nodeView(name, report, now);
  setAttributes(root, { "data-of": name, "data-state": view.state });
  facts(list, nodeFacts(view, report, now));
  keyed(controls, control && view.state !== "gone" ? ["ping"] : [], (action) => action, (action) => element("button", { type: "button", "data-control": action }, "Ping"));
  const ofNode = links.filter((link) => link.a === name || link.b === name);
  keyed(own, ofNode, (link) => link.key, (link) => element("li", {}, element("button", { type: "button", class: "plain", "data-open": link.key })), (item, link) => {
    const other = link.a === name ? link.b : link.a;
    setAttributes(item, { "data-state": link.state });
    setText(item.firstChild, `${other}: ${troubleText(link) || "up"}`);
    setAttributes(item.firstChild, { "aria-label": linkLabel(link) });
  });
}

function nodeFacts(view, report, now) {
  const pairs = [["state", view.warning || view.state], ["kind", view.badge]];
  if (!report) return pairs;
  const add = (name, value) => value !== null && value !== undefined && value !== "" && pairs.push([name, String(value)]);
  add("name", isForeign(report.node) ? shortened(spelt(report.node), 200) : null);
  add("busy at", report.busy?.line);
  add("version", report.version);
  add("uptime", report.uptime === null ? null : duration(report.uptime + (report.alive ? view.age : 0)));
  add("processes", report.processes);
  add("net tick time", report.tick_time === null ? null : `${report.tick_time} s`);
  add("creation", report.creation);
  add("told by", { push: "the node", poll: "the node, when asked", none: "other nodes" }[report.source]);
  add("last report", `${duration(Math.max(0, now - report.time))} ago`);
  add("not known", report.partial);
  return pairs;
}

function newLinkDetails(view) {
  const root = element("div", {}, element("p", { class: "state" }), element("div", { class: "sides" }), element("div", { class: "row controls" }));
  root.addEventListener("click", (event) => {
    if (event.target.closest("[data-control]")) view.onControl("disconnect", { node: root.dataset.a, peer: root.dataset.b });
  });
  return root;
}

function updateLink(root, key, { reports, now, control }) {
  const [state, sides, controls] = root.children;
  const [a, b] = endsOf(key, reports);
  const link = linkView(reports, a, b, now);
  setAttributes(root, { "data-of": key, "data-a": a, "data-b": b, "data-state": link.state });
  setText(state, troubleText(link) || (link.state === "unknown" ? "no report" : link.state));
  keyed(sides, link.sides, (side) => side.from, (side) => element("section", { "data-side": side.from }, element("h3"), element("dl", { class: "facts" })), (section, side) => {
    setText(section.firstChild, `${aliveName(side.from)} says`);
    setAttributes(section.firstChild, { title: side.from });
    facts(section.lastChild, sideFacts(side));
  });
  const isUp = link.sides.some(hasConnection);
  keyed(controls, control && isUp ? ["disconnect"] : [], (action) => action, (action) => element("button", { type: "button", "data-control": action }, "Disconnect"));
}

/** The two names in the key of a pair. A name may have "|" in itself, so the known names decide. */
function endsOf(key, reports) {
  for (let cut = key.indexOf("|"); cut >= 0; cut = key.indexOf("|", cut + 1)) {
    const ends = [key.slice(0, cut), key.slice(cut + 1)];
    if (ends.some((name) => reports.has(name)) && (ends.every((name) => reports.has(name)) || key.indexOf("|", cut + 1) < 0)) return ends;
  }
  const cut = key.indexOf("|");
  return [key.slice(0, cut), key.slice(cut + 1)];
}
