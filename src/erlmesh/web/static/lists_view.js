// The groups, the global names and the shards beside the mesh.
import { element, keyed, setAttributes, setText } from "./dom.js";
import { groupTable, nameTable, shardTable } from "./groups.js";
import { isFresh } from "./nodes.js";
import { aliveName, counted } from "./text.js";

const MOST_GROUPS = 100;
const MOST_MEMBERS = 50;
const MOST_NAMES = 100;
const COLOURS = 12;

export class ListsView {
  /** `parts` are the elements of the page by their id; `onControl(action, data)` as for the details. */
  constructor(parts, onControl, onChange) {
    Object.assign(this, parts);
    this.onControl = onControl;
    this.filter.addEventListener("input", onChange);
    this.seenBy.addEventListener("change", onChange);
    this.groups.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-end]");
      if (button) onControl("end", { pid: button.dataset.end, node: button.dataset.on });
    });
  }

  render({ reports, now, nodes, control }) {
    renderChoices(this.seenBy, [["", "all nodes"], ...nodes.filter((node) => reports.get(node.name)?.groups?.length).map(({ name }) => [name, name])]);
    const options = { observer: this.seenBy.value || null, filter: this.filter.value.trim(), now };
    // Groups may have thousands of members, and most reports leave them as they are.
    const inputs = [control, options.observer, options.filter];
    for (const [name, report] of reports) inputs.push(name, report.groups, report.names, report.shards, isFresh(report, now));
    if (inputs.length === this.drawn?.length && inputs.every((input, index) => input === this.drawn[index])) return;
    this.drawn = inputs;
    this.#renderGroups(groupTable(reports, options), control);
    this.#renderNames(nameTable(reports, options));
    this.#renderShards(shardTable(reports, options), nodes.map(({ name }) => name));
  }

  #renderGroups(table, control) {
    setText(this.groupsCount, table.length ? String(table.length) : "");
    keyed(this.groups, table.slice(0, MOST_GROUPS), ({ key }) => key, newGroup, (item, group) => {
      const [title, list] = item.children;
      setAttributes(item, { "data-group": group.key });
      const [name, scope, count] = title.children;
      setText(name, group.group);
      setText(scope, group.scope === "pg" ? "" : group.scope);
      setText(count, membersText(group));
      keyed(list, group.nodes, ({ node }) => node, ({ node }) => element("li", {}, element("span", { class: "owner", title: node }, aliveName(node)), element("ul")), (row, { node, members }) => renderMembers(row, node, members, control));
    });
    showRest(this.groupsMore, table.length, MOST_GROUPS, "group");
  }

  #renderNames(table) {
    this.namesSection.hidden = table.length === 0 && !this.filter.value;
    setText(this.namesCount, table.length ? String(table.length) : "");
    keyed(this.names, table.slice(0, MOST_NAMES), ({ name }) => name, ({ name }) => element("div", { class: "name", "data-name": name }, element("span", { class: "what" }, name), element("span", { class: "where" })), (row, { holders }) => {
      setAttributes(row, { "data-conflict": holders.length > 1 });
      setText(row.lastChild, holders.map(({ pid, node }) => `${pid} on ${aliveName(node)}`).join(", "));
    });
    showRest(this.namesMore, table.length, MOST_NAMES, "name");
  }

  #renderShards(table, names) {
    this.shardsSection.hidden = table.length === 0;
    keyed(this.shards, table, ({ name }) => name, ({ name }) => element("div", { class: "shard-set", "data-shards": name }, element("h3"), element("div", { class: "strip", role: "img" }), element("ul", { class: "load" })), (item, set) => {
      const [title, strip, load] = item.children;
      setText(title, `${set.name}: ${counted(set.count, "shard")}${set.hiddenCells ? `, the first ${set.cells.length} are shown` : ""}`);
      setAttributes(strip, { "aria-label": set.load.map(({ node, count }) => `${node}: ${count}`).join(", ") || "no owner" });
      keyed(strip, set.cells, ({ shard }) => shard, ({ shard }) => element("i", { "data-shard": shard }), (cell, { shard, owners, state }) => {
        setAttributes(cell, { "data-state": state, "data-owner": owners.join(" "), "data-colour": owners.length ? colourOf(owners[0], names) : null, title: `shard ${shard}: ${owners.join(", ") || "no owner"}${state === "taking" ? ", is being taken" : ""}` });
      });
      keyed(load, set.load, ({ node }) => node, ({ node }) => element("li", { title: node }, element("i"), element("span")), (row, { node, count }) => {
        setAttributes(row.firstChild, { "data-colour": colourOf(node, names), "data-state": "owned" });
        setText(row.lastChild, `${aliveName(node)} ${count}`);
      });
    });
  }
}

function newGroup() {
  const title = element("h3", {}, element("span", { class: "what" }), element("span", { class: "scope" }), element("span", { class: "count" }));
  return element("div", { class: "group" }, title, element("ul", { class: "members" }));
}

function membersText(group) {
  const parts = [counted(group.total, "member")];
  if (group.duplicates) parts.push(counted(group.duplicates, "duplicate"));
  if (group.more) parts.push(`${group.more} not listed`);
  return parts.join(", ");
}

function renderMembers(row, node, members, control) {
  const list = row.lastChild;
  keyed(list, members.slice(0, MOST_MEMBERS), ({ key }) => key, ({ pid }) => element("li", { "data-member": pid }, element("span")), (item, member) => {
    const name = member.name ? ` ${member.name}` : "";
    const times = member.count > 1 ? ` ×${member.count}` : "";
    const unseen = member.unseenBy.length ? ` (not seen by ${member.unseenBy.map(aliveName).join(", ")})` : "";
    setText(item.firstChild, `${member.pid}${name}${times}${unseen}`);
    setAttributes(item, { "data-count": member.count, "data-unseen": member.unseenBy.length > 0 });
    keyed(item.endButtons ??= addSpan(item), control ? [member.pid] : [], (pid) => pid, (pid) => element("button", { type: "button", class: "small", "data-end": pid, "data-on": node, "aria-label": `End process ${pid}` }, "End"));
  });
  setAttributes(row, { "data-owner": node, "data-more": members.length > MOST_MEMBERS ? members.length - MOST_MEMBERS : null });
}

function addSpan(item) {
  return item.appendChild(element("span"));
}

function colourOf(node, names) {
  const index = names.indexOf(node);
  return (index < 0 ? names.length : index) % COLOURS;
}

function showRest(place, amount, limit, noun) {
  place.hidden = amount <= limit;
  setText(place, amount > limit ? `${counted(amount - limit, `more ${noun}`)}. Use the filter.` : "");
}

/** The options of a select. The chosen one stays, also while its node is missing for a moment. */
export function renderChoices(select, choices) {
  const chosen = select.value;
  const all = choices.some(([value]) => value === chosen) || !chosen ? choices : [...choices, [chosen, chosen]];
  keyed(select, all, ([value]) => value, ([value]) => element("option", { value }), (option, [, text]) => setText(option, text));
}
