// Groups, global names and shards, decided from the reports of all nodes or of one. Pure functions.
import { isFresh } from "./nodes.js";
import { byText } from "./text.js";

/**
 * The process groups, sorted by scope and name. `observer` is the node whose report is used, or null for all.
 *
 * Each group has its members by node. A member that some node does not see has these nodes in `unseenBy`: the reports are
 * compared, never merged silently. `duplicates` counts the memberships beyond the first of each process.
 */
export function groupTable(reports, { observer = null, filter = "", now }) {
  const tables = new Map();
  for (const [node, report] of reports) {
    if (observer === null ? !isFresh(report, now) : node !== observer) continue;
    for (const group of report.groups ?? []) {
      const key = `${group.scope}|${group.group}`;
      const table = tables.get(key) ?? { key, scope: group.scope, group: group.group, members: new Map(), more: 0, seers: [] };
      tables.set(key, table);
      table.more = Math.max(table.more, group.more || 0);
      if (!group.more) table.seers.push(node); // a cut list does not say who is missing
      for (const member of group.members) addMember(table, member, node);
    }
  }
  const wanted = filter.toLowerCase();
  nameMembers(tables, reports);
  return [...tables.values()].map(finished).filter((group) => matches(group, wanted)).sort((a, b) => byText(a.scope, b.scope) || byText(a.group, b.group));
}

function addMember(table, member, seer) {
  const key = `${member.node}|${member.pid}`;
  const known = table.members.get(key) ?? { ...member, key, count: 0, seenBy: new Set() };
  known.count = Math.max(known.count, member.count || 1);
  known.name ??= member.name;
  known.seenBy.add(seer);
  table.members.set(key, known);
}

/** Only the node of a process tells its name. It stays known while the report of that node is old. */
function nameMembers(tables, reports) {
  for (const [node, report] of reports) {
    for (const { scope, group, members } of report.groups ?? []) {
      const table = tables.get(`${scope}|${group}`);
      for (const { pid, node: owner, name } of table ? members : []) {
        const known = owner === node && table.members.get(`${owner}|${pid}`);
        if (known) known.name ??= name;
      }
    }
  }
}

function finished({ key, scope, group, members, more, seers }) {
  const byNode = new Map();
  let total = more;
  let duplicates = 0;
  for (const { seenBy, ...member } of members.values()) {
    total += member.count;
    duplicates += member.count - 1;
    const unseenBy = seers.filter((node) => !seenBy.has(node));
    if (!byNode.has(member.node)) byNode.set(member.node, []);
    byNode.get(member.node).push({ ...member, unseenBy });
  }
  const nodes = [...byNode].sort(([a], [b]) => byText(a, b)).map(([node, list]) => ({ node, members: list.sort((a, b) => byText(a.pid, b.pid)) }));
  return { key, scope, group, total, duplicates, more, nodes };
}

function matches(group, wanted) {
  if (!wanted) return true;
  const texts = [group.group, group.scope, ...group.nodes.flatMap(({ node, members }) => [node, ...members.flatMap(({ pid, name }) => [pid, name ?? ""])])];
  return texts.some((text) => text.toLowerCase().includes(wanted));
}

/** The global names, sorted. A name that nodes give to different processes has more than one entry in `holders`. */
export function nameTable(reports, { observer = null, filter = "", now }) {
  const names = new Map();
  for (const [node, report] of reports) {
    if (observer === null ? !isFresh(report, now) : node !== observer) continue;
    for (const [name, holder] of Object.entries(report.names ?? {})) {
      const holders = names.get(name) ?? new Map();
      holders.set(`${holder.node}|${holder.pid}`, { pid: holder.pid, node: holder.node });
      names.set(name, holders);
    }
  }
  const wanted = filter.toLowerCase();
  return [...names]
    .map(([name, holders]) => ({ name, holders: [...holders.values()] }))
    .filter(({ name, holders }) => !wanted || [name, ...holders.map(({ node }) => node)].some((text) => text.toLowerCase().includes(wanted)))
    .sort((a, b) => byText(a.name, b.name));
}

/**
 * The sets of shards, sorted by name. A cell of a strip has the number of a shard, its owners, and its state: "owned",
 * "taking" (a node is about to own it), "free" (no owner) or "conflict" (several owners).
 */
export function shardTable(reports, { observer = null, now, limit = 512 }) {
  const tables = new Map();
  for (const [node, report] of reports) {
    if (observer === null ? !isFresh(report, now) : node !== observer) continue;
    for (const [name, shards] of Object.entries(report.shards ?? {})) {
      const table = tables.get(name) ?? { name, count: 0, owners: new Map(), taking: new Set() };
      tables.set(name, table);
      table.count = Math.max(table.count, shards.count || 0);
      for (const [holder, held] of Object.entries(shards.holders ?? {})) {
        for (const shard of held) {
          if (!table.owners.has(shard)) table.owners.set(shard, new Set());
          table.owners.get(shard).add(holder);
        }
      }
      for (const shard of shards.taking ?? []) table.taking.add(shard?.shard ?? shard);
    }
  }
  return [...tables.values()].sort((a, b) => byText(a.name, b.name)).map((table) => {
    const shown = Math.min(table.count, limit);
    const cells = Array.from({ length: shown }, (_, shard) => cellOf(table, shard));
    const holders = [...new Set([...table.owners.values()].flatMap((owners) => [...owners]))].sort(byText);
    const load = holders.map((node) => ({ node, count: [...table.owners.values()].filter((owners) => owners.has(node)).length }));
    return { name: table.name, count: table.count, cells, load, hiddenCells: table.count - shown };
  });
}

function cellOf(table, shard) {
  const owners = [...(table.owners.get(shard) ?? [])].sort(byText);
  if (owners.length > 1) return { shard, owners, state: "conflict" };
  if (table.taking.has(shard)) return { shard, owners, state: "taking" };
  return { shard, owners, state: owners.length === 1 ? "owned" : "free" };
}
