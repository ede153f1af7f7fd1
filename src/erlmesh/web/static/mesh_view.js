// Draws the nodes on a circle and the connections between them, as SVG.
import { arrowKeys, keyed, makeTabStop, setAttributes, setText, svgElement } from "./dom.js";
import { AREA, fittingCharacters, insideArea, labelPlace, labelRoom, line, places, sizesFor, widthFor } from "./layout.js";
import { flowOf, linkLabel, troubleText } from "./links.js";
import { nodeLabel } from "./nodes.js";
import { aliveName, bytes, hostName, shortened } from "./text.js";

const SHOWN_RATE = 1000; // bytes per second; less is not written at a connection

export class MeshView {
  /** `onSelect({node})` or `onSelect({link})` is called when the user selects one. */
  constructor(svg, onSelect) {
    this.svg = svg;
    this.links = svgElement("g", { class: "links" });
    this.nodes = svgElement("g", { class: "nodes" });
    svg.append(this.links, this.nodes);
    setAttributes(svg, { viewBox: `${-AREA.width / 2} ${-AREA.height / 2} ${AREA.width} ${AREA.height}` });
    const select = (target) => {
      const item = target.closest("[data-node], [data-link]");
      if (item) onSelect(item.dataset.node === undefined ? { link: item.dataset.link } : { node: item.dataset.node });
    };
    svg.addEventListener("click", (event) => select(event.target));
    svg.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      select(event.target);
    });
    arrowKeys(svg, "[data-node]", (from, dx, dy) => {
      const all = [...this.nodes.children];
      return all[(all.indexOf(from) + (dx || dy) + all.length) % all.length];
    });
  }

  render({ nodes, links, selected }) {
    const sizes = sizesFor(nodes.length);
    const at = new Map(places(nodes.length).map((place, index) => [nodes[index].name, { ...place, isGone: nodes[index].state === "gone" }]));
    setAttributes(this.svg, { "font-size": sizes.font, "data-density": nodes.length > 14 ? "high" : "low" });
    const faultsLast = [...links].sort((one, other) => Number(one.state !== "up") - Number(other.state !== "up")); // so they are on top
    keyed(this.links, faultsLast, (link) => link.key, newLink, (group, link) => updateLink(group, link, at, sizes, selected));
    keyed(this.nodes, nodes, (node) => node.name, newNode, (group, node) => updateNode(group, node, at.get(node.name), sizes, selected));
    makeTabStop(this.nodes, "[data-node]");
  }
}

// Connections: a wide invisible line for the pointer, a half for each side, and a label

function newLink() {
  return svgElement(
    "g",
    { class: "link" },
    svgElement("title"),
    svgElement("line", { class: "hit" }),
    svgElement("line", { class: "half" }),
    svgElement("line", { class: "half" }),
    svgElement("text", { class: "link-label", "text-anchor": "middle" }),
  );
}

function updateLink(group, link, at, sizes, selected) {
  const flows = flowOf(link);
  const views = [shownState(link, 0), shownState(link, 1)];
  const widths = flows.map((flow) => widthFor(flow, sizes.line));
  const [from, to] = [at.get(link.a), at.get(link.b)];
  const isSelected = selected?.link === link.key || selected?.node === link.a || selected?.node === link.b;
  // The node that is gone says it, once.
  const hasText = selected?.link === link.key || (sizes.linkLabels && !from.isGone && !to.isGone);
  const text = hasText ? linkText(link, flows) : "";
  const words = linkLabel(link);
  const drawn = [link.state, link.seenBy, ...views, ...widths, from.x, from.y, to.x, to.y, sizes.node, isSelected, text, words].join("|");
  if (group.drawn === drawn) return; // most of the hundreds of connections stay the same
  group.drawn = drawn;
  const [title, hit, first, second, label] = group.children;
  const ends = line(from, to, sizes.node + 3);
  setAttributes(group, { "data-link": link.key, "data-state": link.state, "data-seen-by": link.seenBy, "data-selected": isSelected, role: "img", "aria-label": words });
  setText(title, words);
  setAttributes(hit, coordinates(ends.from, ends.to));
  setAttributes(first, { ...coordinates(ends.from, ends.middle), "data-side": link.a, "data-view": views[0], "stroke-width": widths[0] });
  setAttributes(second, { ...coordinates(ends.to, ends.middle), "data-side": link.b, "data-view": views[1], "stroke-width": widths[1] });
  setText(label, text);
  setAttributes(label, { x: ends.label.x, y: ends.label.y, dy: "0.35em" });
}

/** How a half is drawn: as its own side sees it, or as the other side does where there is no own report. */
function shownState(link, index) {
  const [own, other] = [link.sides[index], link.sides[1 - index]];
  if (own.state === "unknown" || (!own.current && other.current)) return link.state === "one-sided" ? own.state : `${link.state} assumed`;
  if (own.state === "absent" && link.state !== "one-sided") return link.state;
  return own.state;
}

function linkText(link, flows) {
  const trouble = troubleText(link);
  if (trouble) return shortened(trouble, 40);
  const total = flows[0] + flows[1];
  return total >= SHOWN_RATE ? `${bytes(total)}/s` : "";
}

function coordinates(from, to) {
  return { x1: from.x, y1: from.y, x2: to.x, y2: to.y };
}

// Nodes: a circle for Python, a hexagon for a BEAM, and up to five lines of text

function newNode() {
  return svgElement(
    "g",
    { class: "node", role: "button", tabindex: -1 },
    svgElement("title"),
    svgElement("circle", { class: "focus-ring" }),
    svgElement("path", { class: "symbol" }),
    svgElement("text", { class: "kind", "text-anchor": "middle", dy: "0.35em", "aria-hidden": true }),
    svgElement("text", { class: "label", "aria-hidden": true }, ...["name", "host", "badge", "warning", "place"].map((part) => svgElement("tspan", { class: part }))),
  );
}

function updateNode(group, node, place, sizes, selected) {
  const [title, ring, symbol, kind, label] = group.children;
  const text = labelPlace(place, sizes);
  setAttributes(group, {
    "data-node": node.name,
    "data-state": node.state,
    "data-kind": node.kind,
    "data-hidden": node.hidden,
    "aria-label": nodeLabel(node),
    "aria-pressed": String(selected?.node === node.name),
    transform: `translate(${place.x} ${place.y})`,
  });
  setText(title, nodeLabel(node));
  setAttributes(ring, { r: sizes.node + 7 });
  setAttributes(symbol, { d: symbolPath(node.kind, sizes.node) });
  setText(kind, sizes.node >= 28 ? { python: "Py", beam: "BEAM" }[node.kind] ?? "?" : "");
  setAttributes(kind, { "font-size": Math.round(sizes.node * (node.kind === "beam" ? 0.5 : 0.75)) });
  setAttributes(label, { "text-anchor": text.anchor, transform: text.rotation ? `rotate(${text.rotation} ${text.x} ${text.y})` : null });
  const lines = labelLines(node, sizes, labelRoom(place, sizes));
  const height = sizes.font * 1.15;
  const middle = insideArea(text.y, place, lines.length * height);
  const top = middle - ((lines.length - 1) / 2) * height + sizes.font * 0.35;
  for (const span of label.children) {
    const row = lines.findIndex(([part]) => part === span.getAttribute("class"));
    setText(span, row < 0 ? "" : lines[row][1]);
    if (sizes.radial) setAttributes(span, { x: row === 0 ? text.x : null, y: row === 0 ? rounded(text.y + sizes.font * 0.35) : null, dx: row > 0 ? "0.5em" : null });
    else setAttributes(span, { x: text.x, y: row < 0 ? null : rounded(top + row * height), dx: null });
  }
}

/** The lines of a label as pairs of a class and a text. */
function labelLines(node, sizes, room) {
  const fitting = (text, scale) => shortened(text, fittingCharacters(room, sizes, scale));
  const lines = [["name", fitting(aliveName(node.name), 1.1)]];
  if (sizes.radial) {
    if (node.warning || node.hidden) lines.push(["warning", node.state === "up" ? "hidden" : node.state]);
    return lines;
  }
  if (hostName(node.name)) lines.push(["host", fitting(`@${hostName(node.name)}`, 0.7)]);
  lines.push(["badge", fitting(node.badge, 0.7)]);
  // A long warning has its second part, the place in the code, in a line of its own.
  const cut = fitting(node.warning, 0.75) === node.warning ? -1 : node.warning.indexOf(": ");
  if (cut >= 0) lines.push(["warning", fitting(node.warning.slice(0, cut + 1), 0.75)], ["place", fitting(node.warning.slice(cut + 2), 0.75)]);
  else if (node.warning) lines.push(["warning", fitting(node.warning, 0.75)]);
  return lines;
}

function rounded(value) {
  return Math.round(value * 10) / 10;
}

function symbolPath(kind, radius) {
  if (kind !== "beam") return `M${-radius} 0a${radius} ${radius} 0 1 0 ${2 * radius} 0a${radius} ${radius} 0 1 0 ${-2 * radius} 0z`;
  const corner = (index) => {
    const angle = (Math.PI / 3) * index;
    return `${(radius * Math.cos(angle)).toFixed(1)} ${(radius * Math.sin(angle)).toFixed(1)}`;
  };
  return `M${[0, 1, 2, 3, 4, 5].map(corner).join("L")}z`;
}
