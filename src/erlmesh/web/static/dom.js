// Small functions that change the document only where it differs. Text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const keptChildren = new WeakMap();

/** An HTML element. `attributes` as for setAttributes. Children are elements or texts. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  setAttributes(made, attributes);
  made.append(...children);
  return made;
}

/** The same for SVG. */
export function svgElement(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  setAttributes(made, attributes);
  made.append(...children);
  return made;
}

/** Set the attributes that differ. null and false remove an attribute; true is an empty one. */
export function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) {
      if (node.hasAttribute(name)) node.removeAttribute(name);
      continue;
    }
    const text = value === true ? "" : String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}

/** Set the text of a node if it differs. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Make the children of `parent` match `items`, in their order. Children with equal keys stay the same elements, so focus,
 * scrolling and selection stay too. `create(item)` makes a child and `update(child, item)` changes it.
 */
export function keyed(parent, items, keyOf, create, update = () => {}) {
  const kept = keptChildren.get(parent) ?? new Map();
  const wanted = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (!wanted.has(key)) wanted.set(key, item);
  }
  for (const [key, child] of kept) {
    if (!wanted.has(key)) {
      child.remove();
      kept.delete(key);
    }
  }
  let place = parent.firstChild;
  for (const [key, item] of wanted) {
    let child = kept.get(key);
    if (!child) {
      child = create(item);
      kept.set(key, child);
    }
    if (child === place) place = place.nextSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
  keptChildren.set(parent, kept);
}

/** A row of terms and values in a description list. */
export function facts(list, pairs) {
  keyed(
    list,
    pairs,
    ([name]) => name,
    ([name]) => element("div", {}, element("dt", {}, name), element("dd")),
    (row, [, value]) => setText(row.lastChild, value),
  );
}

/**
 * One stop for the Tab key in a set of elements; the arrow keys move inside. `find` gives the element for a step of the
 * arrow keys (dx, dy) from the focused one, or null.
 */
export function arrowKeys(container, selector, find) {
  const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  container.addEventListener("keydown", (event) => {
    const from = event.target.closest(selector);
    if (!from || !steps[event.key]) return;
    const to = find(from, ...steps[event.key]);
    if (!to) return;
    event.preventDefault();
    to.focus();
  });
  container.addEventListener("focusin", (event) => {
    const focused = event.target.closest(selector);
    if (focused) makeTabStop(container, selector, focused);
  });
}

/** Make `chosen` (or the first element) the only one that the Tab key stops at. */
export function makeTabStop(container, selector, chosen = null) {
  const current = container.querySelector(`:is(${selector})[tabindex="0"]`);
  const next = chosen ?? current ?? container.querySelector(selector);
  if (current && current !== next) current.setAttribute("tabindex", "-1");
  if (next) setAttributes(next, { tabindex: 0 });
}
