// Draws many nodes as a table: a row says what its node sees of each other node. A fault of one side is one cell.
import { arrowKeys, element, keyed, makeTabStop, setAttributes, setText } from "./dom.js";
import { linkKey, sideView } from "./links.js";
import { nodeLabel } from "./nodes.js";
import { aliveName, shortened } from "./text.js";

// Pixels: the room for the names of the rows and of the columns, and the sides of a cell.
const LABELS = 130;
const NAMES = 85;
const SMALLEST = 9;
const LARGEST = 22;

export class MatrixView {
  constructor(container, onSelect) {
    this.container = container;
    this.body = element("tbody");
    this.head = element("tr");
    const table = element("table", { role: "grid", "aria-label": "What each node (row) sees of each other node (column)" }, element("thead", {}, this.head), this.body);
    container.append(table);
    const select = (event) => {
      const item = event.target.closest("[data-node], [data-link]");
      if (item) onSelect(item.dataset.node === undefined ? { link: item.dataset.link } : { node: item.dataset.node });
    };
    table.addEventListener("click", select);
    table.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      select(event);
    });
    arrowKeys(table, "[data-node], [data-from]", (from, dx, dy) => {
      const row = from.parentElement;
      const to = dy ? (dy > 0 ? row.nextElementSibling : row.previousElementSibling) : row;
      return to?.children[from.cellIndex + dx] ?? null;
    });
  }

  render({ nodes, reports, now, selected }) {
    if (nodes.length > 0) {
      const { clientWidth, clientHeight } = this.container;
      this.container.style.setProperty("--width", side(clientWidth - LABELS, nodes.length));
      this.container.style.setProperty("--height", side(clientHeight - NAMES, nodes.length));
    }
    keyed(this.head, [{ name: "" }, ...nodes], ({ name }) => name, () => element("th", { scope: "col" }, element("span")), (cell, { name }) => {
      setText(cell.firstChild, shortened(aliveName(name), 14));
      setAttributes(cell, { title: name || null });
    });
    keyed(this.body, nodes, (node) => node.name, newRow, (row, node) => {
      const header = row.firstChild;
      setText(header, shortened(aliveName(node.name), 18));
      setAttributes(header, {
        "data-node": node.name,
        "data-state": node.state,
        "data-kind": node.kind,
        "data-selected": selected?.node === node.name,
        "aria-label": nodeLabel(node),
        title: nodeLabel(node),
      });
      this.#renderCells(row, node.name, nodes, reports, now, selected);
    });
    makeTabStop(this.body, "[data-node], [data-from]");
  }

  #renderCells(row, from, nodes, reports, now, selected) {
    const sides = nodes.map(({ name }) => (name === from ? { from, to: name, state: "self", current: true } : { ...sideView(reports, from, name, now), to: name }));
    keyed(row.lastCells ??= new CellRow(row), sides, (side) => side.to, () => element("td", { tabindex: -1 }), (cell, side) => {
      const drawn = `${side.state}${side.current ? "" : " old"}${selected?.link === linkKey(from, side.to) ? " selected" : ""}`;
      if (cell.drawn === drawn) return; // most of the thousands of cells stay the same
      cell.drawn = drawn;
      const isSelf = side.state === "self";
      setAttributes(cell, {
        "data-link": isSelf ? null : linkKey(from, side.to),
        "data-from": from,
        "data-to": side.to,
        "data-state": side.state,
        "data-old": !side.current,
        "data-selected": drawn.endsWith("selected"),
        "aria-label": isSelf ? null : `${from} to ${side.to}: ${side.state}`,
        title: isSelf ? null : `${from} → ${side.to}: ${side.state}`,
      });
    });
  }
}

/** The side of a cell, so that all fit into the room, but not too small to be seen. */
function side(room, amount) {
  return `${Math.max(SMALLEST, Math.min(LARGEST, Math.floor(room / amount) - 1))}px`;
}

function newRow() {
  return element("tr", {}, element("th", { scope: "row", tabindex: -1 }));
}

/** The cells of a row, without its header, for `keyed`. */
class CellRow {
  constructor(row) {
    this.row = row;
  }

  get firstChild() {
    return this.row.children[1] ?? null;
  }

  insertBefore(cell, place) {
    this.row.insertBefore(cell, place);
  }
}
