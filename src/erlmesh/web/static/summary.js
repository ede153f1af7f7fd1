// The state of the cluster in one line. Pure functions.
import { counted } from "./text.js";

/**
 * What is said at the top: parts with a tone, from the number of nodes to what is wrong. The connections of a node that is gone
 * do not count: that it is gone says it.
 */
export function summaryOf(nodes, allLinks) {
  const gone = new Set(nodes.filter((node) => node.state === "gone").map((node) => node.name));
  const links = allLinks.filter((link) => !gone.has(link.a) && !gone.has(link.b));
  const of = (list, state) => list.filter((item) => item.state === state).length;
  const parts = [{ text: counted(nodes.length - of(nodes, "gone"), "node"), tone: "plain" }];
  const add = (amount, text, tone) => amount > 0 && parts.push({ text, tone });
  add(of(nodes, "gone"), `${of(nodes, "gone")} gone`, "bad");
  add(of(nodes, "busy"), `${of(nodes, "busy")} busy`, "warn");
  add(of(nodes, "old"), counted(of(nodes, "old"), "old report"), "warn");
  add(of(links, "one-sided"), `${counted(of(links, "one-sided"), "connection")} one-sided`, "bad");
  add(of(links, "silent"), `${counted(of(links, "silent"), "connection")} silent`, "warn");
  add(of(links, "slow"), `${counted(of(links, "slow"), "connection")} slow`, "warn");
  add(of(links, "down"), `${counted(of(links, "down"), "connection")} down`, "bad");
  add(of(links, "absent"), `${counted(of(links, "absent"), "pair")} not connected`, "bad"); // they may never have been
  const returning = of(links, "reconnecting") + of(links, "connecting");
  add(returning, `${counted(returning, "connection")} reconnecting`, "warn");
  if (parts.length === 1) parts.push({ text: "all connected", tone: "good" });
  return parts;
}
