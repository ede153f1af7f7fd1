// How the page writes times, amounts and names. Pure functions.

/** A duration in seconds, in at most two units: "0.4 s", "12 s", "3 min 5 s", "2 h 4 min", "5 d 3 h". */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "";
  const value = Math.max(0, seconds);
  if (value < 9.95) return `${Number(value.toFixed(1))} s`;
  const whole = Math.round(value);
  if (whole < 60) return `${whole} s`;
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => whole >= size);
  const [size, name] = units[first];
  const [smaller, smallerName] = units[first + 1];
  const rest = Math.floor((whole % size) / smaller);
  return `${Math.floor(whole / size)} ${name}` + (rest ? ` ${rest} ${smallerName}` : "");
}

/** An amount of bytes: "312 B", "4.1 kB", "25 MB". */
export function bytes(amount) {
  if (!Number.isFinite(amount)) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = Math.max(0, amount);
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit > 0 && value < 9.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** A time of day on this machine: "17:04:09". */
export function clockTime(unix) {
  if (!Number.isFinite(unix)) return "";
  const date = new Date(unix * 1000);
  if (Number.isNaN(date.getTime())) return "";
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/** The part of a node name before the `@`. */
export function aliveName(node) {
  const at = node.indexOf("@");
  return at > 0 ? node.slice(0, at) : node;
}

/** The part of a node name after the `@`, or an empty text. */
export function hostName(node) {
  const at = node.indexOf("@");
  return at > 0 ? node.slice(at + 1) : "";
}

/** At most `limit` characters of a text. A cut text ends in "…". */
export function shortened(text, limit) {
  const characters = [...text];
  return characters.length > limit ? `${characters.slice(0, limit - 1).join("")}…` : text;
}

/** Whether a name has other characters than those of ASCII: one of these may look like another. */
export function isForeign(name) {
  return /[^ -~]/.test(name);
}

/** A name with each such character spelt out: "pl\u{430}to@host". */
export function spelt(name) {
  return [...name].map((character) => (isForeign(character) ? `\\u{${character.codePointAt(0).toString(16)}}` : character)).join("");
}

/** "1 node", "3 nodes". */
export function counted(amount, noun) {
  return `${amount} ${noun}${amount === 1 ? "" : "s"}`;
}

/** Compares two texts by their code units. The order is the same in each browser and language. */
export function byText(a, b) {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
