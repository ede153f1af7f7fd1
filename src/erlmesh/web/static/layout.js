// Where nodes and connections are drawn. Pure functions: the same names give the same places.

/** From this number of nodes on, the page shows a matrix in place of the circle. */
export const MATRIX_FROM = 40;

/** The drawing area: the centre is (0, 0). It is as wide as the part of a laptop's screen that it fills. */
export const AREA = { width: 1700, height: 900 };

/**
 * Sizes that depend on the number of nodes: the radius of the circle and of a node, the font, the thinnest line, and the
 * room for a label. With many nodes (`radial`), labels stand in the direction of the radius and have one line.
 */
export function sizesFor(count) {
  if (count <= 8) return { circle: 355, node: 46, font: 34, line: 4, room: 600, radial: false, linkLabels: true };
  if (count <= 14) return { circle: 380, node: 34, font: 25, line: 3, room: 450, radial: false, linkLabels: false };
  const node = Math.max(11, Math.min(24, Math.floor(780 / count)));
  return { circle: 285, node, font: count <= 24 ? 22 : 18, line: 2, room: 130, radial: true, linkLabels: false };
}

/**
 * The places of `count` nodes on the circle. The first is at the top; the others follow clockwise. An even number from 10 on is
 * turned by half a step: a label at the top would reach the next node.
 */
export function places(count) {
  const { circle, radial } = sizesFor(count);
  const turned = !radial && count >= 10 && count % 2 === 0 ? 0.5 : 0;
  if (count === 1) return [{ x: 0, y: 0, angle: -Math.PI / 2 }];
  return Array.from({ length: count }, (_, index) => {
    const angle = -Math.PI / 2 + (2 * Math.PI * (index + turned)) / count;
    return { x: rounded(circle * Math.cos(angle)), y: rounded(circle * Math.sin(angle)), angle };
  });
}

/** Where the label of a node is: its offset from the node, its anchor, and its rotation in degrees. */
export function labelPlace(place, sizes) {
  const distance = sizes.node + 14;
  const isLeft = Math.cos(place.angle) < -0.01;
  const anchor = isLeft ? "end" : "start";
  if (!sizes.radial) return { x: isLeft ? -distance : distance, y: rounded(0.6 * sizes.node * Math.sin(place.angle)), anchor, rotation: 0 };
  const degrees = (place.angle * 180) / Math.PI + (isLeft ? 180 : 0);
  return { x: rounded(distance * Math.cos(place.angle)), y: rounded(distance * Math.sin(place.angle)), anchor, rotation: rounded(degrees) };
}

/** The width that a label may have: up to the edge of the area, and not too far from its node. */
export function labelRoom(place, sizes) {
  if (sizes.radial) return sizes.room;
  const used = (Math.cos(place.angle) < -0.01 ? -place.x : place.x) + sizes.node + 14;
  return Math.min(sizes.room, AREA.width / 2 - used);
}

/** The height of the middle of a label's lines, moved so that all lines are inside the area. It is relative to the node. */
export function insideArea(y, place, height) {
  const limit = AREA.height / 2 - height / 2 - 4;
  return Math.max(-limit, Math.min(limit, place.y + y)) - place.y;
}

/** How many characters fit into a width, in a font that is `scale` times the usual one. */
export function fittingCharacters(room, sizes, scale) {
  return Math.floor(room / (sizes.font * scale * 0.58));
}

/** The ends of a line between two nodes, at the edges of their symbols, its middle, and the place of its label. */
export function line(from, to, radius) {
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  const length = Math.hypot(dx, dy) || 1;
  const [ux, uy] = [dx / length, dy / length];
  const at = (share) => ({ x: rounded(from.x + dx * share), y: rounded(from.y + dy * share) });
  // Diameters cross in the centre. So the label of a line through it is nearer to the first node.
  const middle = at(0.5);
  const throughCentre = Math.hypot(middle.x, middle.y) < 40 && length > 120;
  return {
    from: { x: rounded(from.x + ux * radius), y: rounded(from.y + uy * radius) },
    to: { x: rounded(to.x - ux * radius), y: rounded(to.y - uy * radius) },
    middle,
    label: throughCentre ? at(0.38) : middle,
  };
}

/** The width of a line for bytes per second: `thinnest` up to 100 B/s, then 1.6 more for each factor of ten, at most 9 more. */
export function widthFor(rate, thinnest) {
  if (!(rate > 100)) return thinnest;
  return rounded(thinnest + Math.min(9, 1.6 * Math.log10(rate / 100)));
}

function rounded(value) {
  return Math.round(value * 10) / 10;
}
